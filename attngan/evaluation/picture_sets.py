"""The pictures that evaluation looks at: generated ones, real ones, and the controls, each by its number.

The same number gives the same picture, whatever was drawn before, so a killed evaluation goes on.
"""

import dataclasses
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor

from attngan import seeding
from attngan.data.dataset import Dataset
from attngan.inference.text_to_image import TextToImage
from attngan.metrics import retrieval

BLUR_SHARE = 1 / 32  # standard deviation of the blur, of the picture's side


@dataclasses.dataclass(frozen=True)
class Query:
    """One caption of one test picture."""

    image: int
    caption: int


class EvaluationPictures:
    """Draws and reads pictures (B, 3, H, W) in [-1, 1] at the model's finest resolution.

    Args:
        model: the model under test.
        test: real pictures and captions.
        train: what the model was trained on.
        seed: of queries and noise.
        num_images: captions asked for.
        num_pairs: captions drawn twice.
    """

    def __init__(
        self, model: TextToImage, test: Dataset, train: Dataset, seed: int, *, num_images: int, num_pairs: int
    ):
        self.model, self.test, self.train, self.seed = model, test, train, seed
        self.queries = self.choose_queries(num_images)
        self.colours = model.vocabulary.encode(model.vocabulary.colours)
        naming = self.choose_queries(num_pairs, with_colour=True) if len(model.vocabulary.other_colours("")) > 1 else []
        self.pairs = naming or self.queries[:num_pairs]
        self.can_swap = bool(naming)
        self.other_queries, self.other_pairs = (self.others_of(each) for each in (self.queries, self.pairs))

    def choose_queries(self, count: int, *, naming: tuple[str, ...] = (), with_colour: bool = False) -> list[Query]:
        """Return `count` captions in a random order that the seed fixes; each once before any comes again.

        Args:
            count: how many.
            naming: parts of a drawn bird whose colour the caption must name.
            with_colour: the caption must hold a colour word of the vocabulary.
        """
        usable = [
            Query(image, caption)
            for image, record in enumerate(self.test.records)
            for caption in range(len(record["captions"]))
            if (not naming or set(naming) <= self.test.named_colours(image, caption).keys())
            and (not with_colour or set(self.colours) & set(self.word_ids([Query(image, caption)])[0][0].tolist()))
        ]
        if not usable:
            return []
        order = torch.randperm(len(usable), generator=seeding.rng_for(self.seed, "queries", *naming))
        return [usable[order[index % len(usable)]] for index in range(count)]

    def others_of(self, queries: list[Query]) -> list[Query]:
        """Return for each of some captions one that is not its own: of another class and text, where there is one."""
        return [queries[number] for number in retrieval.others(self.labels_of(queries))]

    def labels_of(self, queries: list[Query]) -> Tensor:
        """Return class and text (N, 2) of some captions."""
        labels = self.test.caption_labels()
        return torch.tensor([labels[query.image][query.caption] for query in queries]).reshape(-1, 2)

    def generated(self, queries: list[Query], first: int, purpose: str = "evaluate") -> Tensor:
        """Draw a picture for each of some captions, the first of which is number `first` and so has its noise."""
        return self._draw(*self.word_ids(queries), range(first, first + len(queries)), purpose)

    def real(self, numbers: Sequence[int], split: Dataset | None = None) -> Tensor:
        """Return real pictures, the centre square of each, of the test split or of another."""
        batch = (split or self.test).evaluation_batch(
            numbers, [0] * len(numbers), resolutions=self.model.generator.resolutions[-1:], max_words=1
        )
        return batch.images[-1].to(self.model.device)

    def noise(self, numbers: range) -> Tensor:
        """Return pictures of which every value is random."""
        side = self.model.generator.resolutions[-1]
        rngs = [seeding.rng_for(self.seed, "noise picture", number) for number in numbers]
        pixels = [torch.rand(3, side, side, generator=rng) * 2 - 1 for rng in rngs]
        return torch.stack(pixels).to(self.model.device)

    def blurred(self, numbers: range) -> Tensor:
        """Return real pictures behind a Gaussian blur."""
        images = self.real(numbers)
        deviation = images.shape[-1] * BLUR_SHARE
        size = 2 * int(3 * deviation) + 1
        return torchvision.transforms.functional.gaussian_blur(images, [size, size], [deviation, deviation])

    def pair(self, numbers: range) -> dict[str, Tensor]:
        """Draw some captions over and over, with one thing changed.

        Returns:
            "first"; "again", the same once more; "noise", from other noise; "swapped", with one colour word changed and
            the noise held (where there are such words); "caption", another caption with the noise held.
        """
        queries = [self.pairs[number] for number in numbers]
        word_ids, lengths = self.word_ids(queries)
        others = [self.other_pairs[number] for number in numbers]
        drawn = {
            "first": self._draw(word_ids, lengths, numbers, "pairs"),
            "again": self._draw(word_ids, lengths, numbers, "pairs"),
            "noise": self._draw(word_ids, lengths, numbers, "other noise"),
            "caption": self._draw(*self.word_ids(others), numbers, "pairs"),
        }
        if self.can_swap:
            drawn["swapped"] = self._draw(self.swap_colours(word_ids, numbers), lengths, numbers, "pairs")
        return drawn

    def swap_colours(self, word_ids: Tensor, numbers: range) -> Tensor:
        """Return captions (B, T) with the first colour word of each changed for another one at random."""
        swapped = word_ids.clone()
        for row, number in zip(swapped, numbers, strict=True):
            place = next(place for place, word in enumerate(row.tolist()) if word in self.colours)
            vocabulary = self.model.vocabulary
            choices = vocabulary.encode(vocabulary.other_colours(vocabulary.words[row[place]]))
            rng = seeding.rng_for(self.seed, "swap", number)
            row[place] = choices[int(torch.randint(len(choices), (), generator=rng))]
        return swapped

    @torch.no_grad()
    def sentences(self, queries: list[Query]) -> Tensor:
        """Return the sentence features (B, D) of some captions."""
        word_ids, lengths = self.word_ids(queries)
        return self.model.text_encoder(word_ids.to(self.model.device), lengths)[1]

    def texts(self, queries: list[Query]) -> list[str]:
        """Return some captions as they were written."""
        return [self.test.records[query.image]["captions"][query.caption] for query in queries]

    def word_ids(self, queries: Sequence[Query], max_words: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the words (B, T) of some captions, and how many each has (B,): at most as many as the model reads."""
        return self.test.captions(
            [query.image for query in queries],
            [query.caption for query in queries],
            max_words=max_words or self.model.config.data.max_words,
        )

    def _draw(self, word_ids: Tensor, lengths: Tensor, numbers: range, purpose: str) -> Tensor:
        rows = [self.model.noise(1, self.seed, purpose, number) for number in numbers]
        noise, epsilon = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return self.model.draw(word_ids, lengths, noise, epsilon).images[-1]
