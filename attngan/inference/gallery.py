"""What the gallery shows: variants by score, where the words look, colours exchanged, the way between captions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from attngan.config.settings import Samples
from attngan.data.captions import SPELLINGS, words_of
from attngan.inference.text_to_image import TextToImage
from attngan.metrics.retrieval import cosines
from attngan.models.generator import Generated
from attngan.pages import pictures, report
from attngan.pages.pictures import attention_overlays

SHOWN_SIDE = 256  # pixels: pictures are enlarged to at least this for the PNG files
PAGE_SIDE = 128  # and on the page to at least this


class Gallery:
    """Draws captions into PNG files and into entries for the page.

    Args:
        model: draws.
        image_encoder: of the DAMSM, whose opinion orders the variants; None: they stay in the order of their noise.
        settings: how much is drawn.
        seed: of the noise, one for all captions.
        folder: gets the PNG files.
        bundle: fingerprint of the bundle, which each file names.
        colours: of each word, `captions.colours_before` of the training captions: a colour is exchanged for those that
            its noun has there. None: for all that the model knows.
    """

    def __init__(
        self,
        model: TextToImage,
        image_encoder: nn.Module | None,
        settings: Samples,
        *,
        seed: int,
        folder: Path,
        bundle: str,
        colours: Mapping[str, set[str]] | None = None,
    ):
        self.model, self.image_encoder, self.settings, self.colours = model, image_encoder, settings, colours
        self.seed, self.folder, self.bundle = seed, folder, bundle
        self.noise, self.epsilon = model.noise(settings.variants, seed, "gallery")
        self.side = max(SHOWN_SIDE, model.generator.resolutions[-1])
        self.files: list[str] = []

    def caption(self, caption: str, name: str) -> dict[str, Any]:
        """Draw every variant of a caption at every stage, the best one first, and the attention of that one's words."""
        count = self.settings.variants
        word_ids, lengths = self.model.read([caption])
        drawn = self.model.draw(word_ids.expand(count, -1), lengths.expand(count), self.noise, self.epsilon)
        scores = self._scores(drawn, word_ids, lengths)
        order = list(range(count)) if scores is None else scores.argsort(descending=True, stable=True).tolist()
        stages = [[row[index] for index in order] for row in (self._pictures(images) for images in drawn.images)]
        about = {"variants": " ".join(map(str, order))}
        if scores is not None:
            about["DAMSM scores"] = " ".join(f"{scores[index]:.4f}" for index in order)
        self._save(stages, f"{name}-stages", caption, about)
        entry: dict[str, Any] = {
            "caption": caption,
            "scores": [] if scores is None else [scores[index].item() for index in order],
            "stages": [
                {"resolution": resolution, "pngs": [_small_png(picture, resolution) for picture in row]}
                for resolution, row in zip(self.model.generator.resolutions, stages, strict=True)
            ],
            "attention": [],
        }
        if drawn.attention:
            words = self.model.vocabulary.decode(word_ids[0].tolist())
            attention = drawn.attention[-1][order[0]]
            overlays = attention_overlays(attention, words, stages[-1][0], self.settings.num_attention_words)
            self._save([[overlay for _, overlay in overlays]], f"{name}-attention", caption, {"variant": order[0]})
            entry["attention"] = [{"label": word, "png": _small_png(picture, SHOWN_SIDE)} for word, picture in overlays]
        return entry

    def swap(self, caption: str, name: str) -> dict[str, Any] | None:
        """Draw a caption with its first colour word, and with each other one that can stand there, the noise held."""
        tokens = words_of(caption)
        place = next((place for place, word in enumerate(tokens) if word in self.model.vocabulary.colours), None)
        others = [] if place is None else self._others(tokens, place)
        if place is None or not others:
            return None
        colours = [tokens[place], *others]
        texts = [" ".join([*tokens[:place], colour, *tokens[place + 1 :]]) for colour in colours]
        word_ids, lengths = self.model.read(texts)
        noise, epsilon = (each[:1].expand(len(texts), -1) for each in (self.noise, self.epsilon))
        row = self._pictures(self.model.draw(word_ids, lengths, noise, epsilon).images[-1])
        self._save([row], f"{name}-swap", caption, {"swapped": " ".join(colours)})
        before, after = " ".join(tokens[:place]), " ".join(tokens[place + 1 :])
        shown = [{"label": colour, "png": _small_png(picture, 0)} for colour, picture in zip(colours, row, strict=True)]
        return {"before": before, "word": tokens[place], "after": after, "pictures": shown}

    def _others(self, tokens: Sequence[str], place: int) -> list[str]:
        """Return the colour words that can stand in a caption in the place of one."""
        others = self.model.vocabulary.other_colours(tokens[place])
        if self.colours is None:
            return others
        known = self.colours.get(" ".join(tokens[place + 1 : place + 2]), set())
        return [word for word in others if SPELLINGS.get(word, word) in known]

    def between(self, captions: tuple[str, str], name: str) -> dict[str, Any]:
        """Draw the way from one caption to another, the noise held."""
        steps = self.settings.interpolation_steps
        shares = [step / (steps - 1) for step in range(steps)]
        row = self._pictures(self.model.between(captions, shares, self.noise[:1], self.epsilon[:1]))
        self._save([row], f"{name}-between", " -> ".join(captions), {"shares": " ".join(f"{s:.3f}" for s in shares)})
        shown = [
            {"label": f"{100 * share:.0f} %", "png": _small_png(picture, 0)}
            for share, picture in zip(shares, row, strict=True)
        ]
        return {"from": captions[0], "to": captions[1], "pictures": shown}

    @torch.no_grad()
    def _scores(self, drawn: Generated, word_ids: Tensor, lengths: Tensor) -> Tensor | None:
        """Return the cosine of each picture with the caption in the DAMSM's eyes."""
        if self.image_encoder is None:
            return None
        sentence = self.model.text_encoder(word_ids.to(self.model.device), lengths)[1]
        return cosines(self.image_encoder(drawn.images[-1])[1], sentence)[:, 0].cpu()

    def _pictures(self, images: Tensor) -> list[Image.Image]:
        return pictures.to_pictures(images, side=self.side)

    def _save(
        self, rows: Sequence[Sequence[Image.Image]], name: str, caption: str, about: Mapping[str, str | int]
    ) -> None:
        origin = pictures.origin(caption, self.seed, self.bundle, **about)
        pictures.save(pictures.grid(rows, gap=4), self.folder / f"{name}.png", origin)
        self.files.append(f"{name}.png")


def _small_png(picture: Image.Image, side: int) -> str:
    """Return a picture for the page at no more pixels than it has to say something with."""
    side = min(picture.width, max(side, PAGE_SIDE))
    return report.embedded(picture.resize((side, side), Image.Resampling.BICUBIC))
