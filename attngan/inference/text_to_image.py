"""A trained model ready to draw, from a `generator` or `bundle` folder: text encoder, generator, vocabulary."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from attngan import seeding
from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.data.captions import Vocabulary, pad, without_accents, words_of, written_words
from attngan.errors import InputError, shown
from attngan.inference import weights
from attngan.models.generator import Generated, Generator
from attngan.models.text_encoder import TextEncoder
from attngan.storage import artifacts

MODEL_FILES = ["config.yaml", "vocabulary.json", "generator.safetensors", "text_encoder.safetensors"]
BATCH_SIZE = 16  # pictures drawn together, at most
CPU_PIXELS = 16 * 64 * 64  # of pictures drawn together on a CPU: beyond that each takes as long as alone, or longer
MAX_WORDS = 100  # of one caption; attention needs memory for each word and position
WIDEST_NOISE = 2.0  # standard deviations that truncated noise keeps to, by its factor: the paper's largest threshold


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture to be drawn: the same one whatever is drawn beside it.

    Args:
        caption: any text of which the model knows a word.
        number: the pictures of a caption and a seed are drawn from other noise each.
        seed: of the noise.
        truncation: of the noise; see `truncated`.
    """

    caption: str
    number: int
    seed: int
    truncation: float = 1.0


@dataclasses.dataclass(frozen=True)
class TextToImage:
    """Draws pictures of captions; everything runs without gradients, in evaluation mode."""

    config: Config
    vocabulary: Vocabulary
    text_encoder: TextEncoder
    generator: Generator
    device: torch.device
    fingerprint: str = ""  # of the folder it was read from

    @classmethod
    def open(cls, folder: Path, *, kind: str, device: torch.device | str = "cpu") -> "TextToImage":
        """Read a complete `generator` or `bundle` folder; InputError says what does not fit."""
        fingerprint = artifacts.check(folder, kind, contents=True)["fingerprint"]
        config = configs.load_file(folder / "config.yaml")
        vocabulary = Vocabulary.load(folder / "vocabulary.json")
        with torch.device("meta"):  # sizes alone: a config that claims more than its files hold is refused
            text_encoder = weights.build_text_encoder(config, len(vocabulary))
            generator = weights.build_generator(config)
        weights.load_weights(folder / "text_encoder.safetensors", text_encoder)
        weights.load_weights(folder / "generator.safetensors", generator)
        networks = text_encoder.to(device).eval(), generator.to(device).eval()
        return cls(config, vocabulary, *networks, torch.device(device), fingerprint)

    def save(self, folder: Path) -> list[str]:
        """Write what `open` reads, and return the files' names for the manifest, which is yet to come."""
        artifacts.write_text(folder / "config.yaml", configs.dump(self.config))
        self.vocabulary.save(folder / "vocabulary.json")
        weights.save_weights(folder / "generator.safetensors", self.generator)
        weights.save_weights(folder / "text_encoder.safetensors", self.text_encoder)
        return list(MODEL_FILES)

    def read(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Turn texts of any length into word_ids (B, T) and lengths (B,); what is left out is said by `notes`.

        Raises:
            InputError: a caption holds no known word.
        """
        ids = []
        for caption in captions:
            ids.append(self.vocabulary.encode(words_of(caption))[:MAX_WORDS])
            if not ids[-1]:
                known = ", ".join(self.vocabulary.words[1:9])
                nearest = [f"{near!r} for {shown(word, 40)!r}" for word, near in self._unknown(caption).items() if near]
                such_as = f", such as {', '.join(nearest[:3])}" if nearest else ""
                raise InputError(
                    f"{shown(repr(caption))}: none of its words is among the {len(self.vocabulary) - 1:,} that the "
                    f"model knows ({known}, ...); say it in other words{such_as}."
                )
        return pad(ids)

    def notes(self, caption: str) -> list[str]:
        """Return a sentence for each word, or emoji, that is not understood or not whole, and one if the text is long.

        Words are named as they are written, each with the nearest known one.
        """
        notes = [
            f"the model does not know {word!r}" + (f"; the nearest word it knows is {near!r}" if near else "")
            for word, near in self._unknown(caption).items()
        ]
        for word, tokens in written_words(caption):
            read = [token for token in tokens if token in self.vocabulary]
            num_letters = sum(letter == "_" or letter.isalnum() for letter in without_accents(word))
            if read and sum(map(len, read)) < num_letters:
                notes.append(f"of {word!r} the model reads only {' '.join(read)!r}")
        if len(self.vocabulary.encode(words_of(caption))) > MAX_WORDS:
            notes.append(f"only the first {MAX_WORDS} known words of the caption are read")
        return list(dict.fromkeys(notes))

    def _unknown(self, caption: str) -> dict[str, str | None]:
        """Return what of a caption is not known at all, as it is first written, with the nearest known word."""
        plain: dict[str, str] = {}
        for word, tokens in written_words(caption):
            if not any(token in self.vocabulary for token in tokens):
                plain.setdefault(word.casefold(), word)
        by_word = {word: "".join(words_of(word)) for word in plain.values()}
        near = self.vocabulary.unknown(filter(None, by_word.values()))
        return {word: text if text in self.vocabulary else near.get(text) for word, text in by_word.items()}

    @torch.no_grad()
    def draw(self, word_ids: Tensor, lengths: Tensor, noise: Tensor, epsilon: Tensor) -> Generated:
        """Draw one picture a caption at every stage.

        Args:
            word_ids: (B, T) int64, 0 pads.
            lengths: (B,) int64.
            noise: (B, Z).
            epsilon: (B, A), of the conditioning augmentation.
        """
        word_ids = word_ids.to(self.device)
        word_features, sentence_feature = self.text_encoder(word_ids, lengths)
        noise, epsilon = noise.to(self.device), epsilon.to(self.device)
        return self.generator(noise, sentence_feature, word_features, word_ids == 0, epsilon=epsilon)

    @property
    def batch_size(self) -> int:
        """How many pictures are drawn together."""
        if self.device.type == "cuda":
            return BATCH_SIZE
        return max(1, min(BATCH_SIZE, CPU_PIXELS // self.generator.resolutions[-1] ** 2))

    def draw_together(self, pictures: Sequence[Picture]) -> Generated:
        """Draw pictures of any captions in one pass, each from its own noise.

        Shorter captions are padded, and attention is exactly 0 there. A picture is the same with whatever it is drawn,
        but for the last bits: sums over a batch of another size may be taken in another order.
        """
        word_ids, lengths = self.read([each.caption for each in pictures])
        rows = [self.noise([each.number], each.seed, truncation=each.truncation) for each in pictures]
        noise, epsilon = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return self.draw(word_ids, lengths, noise, epsilon)

    def variants(
        self, caption: str, count: int | Sequence[int], seed: int, *, truncation: float = 1.0
    ) -> Iterator[Generated]:
        """Draw one caption several times, each from other noise, `batch_size` at a time.

        Args:
            caption: any text of which the model knows a word.
            count: how many pictures, or the numbers of those to draw.
            seed: the same seed draws the same pictures; picture k is the same for any `count`.
            truncation: of the noise; see `truncated`.
        """
        self.read([caption])  # an InputError comes at once
        numbers = range(count) if isinstance(count, int) else count
        return self.in_batches([Picture(caption, number, seed, truncation) for number in numbers])

    def in_batches(self, pictures: Sequence[Picture]) -> Iterator[Generated]:
        """Draw pictures in their order, `batch_size` at a time."""
        for start in range(0, len(pictures), self.batch_size):
            yield self.draw_together(pictures[start : start + self.batch_size])

    @torch.no_grad()
    def between(self, captions: tuple[str, str], shares: Sequence[float], noise: Tensor, epsilon: Tensor) -> Tensor:
        """Draw the way from one caption to another with the noise held.

        Sentence and word features are mixed linearly, word by word in their order; where one caption is shorter
        its word is nought. At 0 and 1 the pictures are those of the captions themselves.

        Args:
            captions: from and to.
            shares: of the second caption in each picture, from 0 to 1.
            noise: (1, Z).
            epsilon: (1, A).

        Returns:
            (len(shares), 3, H, W) in [-1, 1], of the last stage.
        """
        word_ids, lengths = self.read(captions)
        word_features, sentence_feature = self.text_encoder(word_ids.to(self.device), lengths)
        is_padding = (word_ids == 0).to(self.device)
        share = torch.tensor(shares, device=self.device)
        words = torch.lerp(word_features[:1], word_features[1:], share[:, None, None])
        sentence = torch.lerp(sentence_feature[:1], sentence_feature[1:], share[:, None])
        # A word that has no weight is not there.
        is_left_out = (is_padding[0] | (share == 1)[:, None]) & (is_padding[1] | (share == 0)[:, None])
        count = len(shares)
        noise, epsilon = noise.to(self.device).expand(count, -1), epsilon.to(self.device).expand(count, -1)
        return self.generator(noise, sentence, words, is_left_out, epsilon=epsilon).images[-1]

    def noise(
        self, count: int | Sequence[int], seed: int, *purpose: str | int, truncation: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Return noise (N, Z) and epsilon (N, A) of a seed for N pictures, or those of some numbers.

        Row k is the same for any count; `truncated` by a factor below 1.
        """
        rows = []
        size = self.generator.noise_dim + self.generator.condition_dim
        for index in range(count) if isinstance(count, int) else count:
            rng = seeding.rng_for(seed, "picture", *purpose, index)
            rows.append(torch.randn(size, generator=rng))
        drawn = truncated(torch.stack(rows), truncation)
        noise, epsilon = drawn.split([self.generator.noise_dim, self.generator.condition_dim], dim=1)
        return noise, epsilon


def truncated(noise: Tensor, factor: float) -> Tensor:
    """Return noise without values far from 0: pictures become more typical, and less various.

    The truncation trick of BigGAN (Brock et al. 2019, section 3.1): values whose magnitude is above a threshold are
    drawn again until they fall within it. The threshold is the factor times 2 standard deviations, the largest one of
    that paper. Nothing is drawn again here: each value goes to its own quantile of the truncated normal distribution.
    That is the same distribution, and a function of the picture's own noise, in which the order of values stays.

    Args:
        noise: standard normal, of any shape.
        factor: above 0 and at most 1; at 1 the noise stays as training had it, and nothing is truncated.
    """
    check_truncation(factor)
    if factor == 1:
        return noise
    threshold = WIDEST_NOISE * factor
    below = torch.special.ndtr(torch.tensor(-threshold, dtype=torch.float64))
    quantiles = below + torch.special.ndtr(noise.double()) * (1 - 2 * below)
    return torch.special.ndtri(quantiles).clamp(-threshold, threshold).to(noise.dtype)


def check_truncation(factor: float) -> None:
    """Refuse what noise cannot be `truncated` by."""
    if not 0 < factor <= 1:
        raise InputError(f"--truncation: expected a number above 0 and at most 1, found {factor}.")
