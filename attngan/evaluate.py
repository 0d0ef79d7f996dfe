"""Step: measure on classes never trained on whether the pictures follow their captions, with controls.

R-precision asks the DAMSM, which the generator was trained against (section 4); for drawn birds the colours of body and
wing are read off the pictures themselves. Each figure stands beside the same figure of real pictures and of shuffled
captions.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attngan import artifacts, pictures, report, seeding, weights
from attngan.config import Config
from attngan.data import drawn_templates
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.metrics.colour_fidelity import colour_fidelity, read_colours
from attngan.metrics.retrieval import draw_mismatches, r_precision
from attngan.run_log import progress
from attngan.text_to_image import TextToImage

COLOURED_PARTS = ("body", "wing")
SHOWN = 24  # pictures in the report


def evaluate(dataset: Path, damsm: Path, generator: Path, out: Path, config: Config) -> dict[str, float]:
    """Measure a generator and write the `metrics` folder: `metrics.json` and `report.html`.

    Args:
        dataset: folder of `preprocess`; its test split gives captions and real pictures.
        damsm: folder of `pretrain_damsm`.
        generator: folder of `train_generator`.
        out: the metrics folder.
        config: reads `evaluate`, `seed`, `device`; the networks' settings come with the generator.

    Returns:
        Every figure by name, shares in [0, 1].
    """
    device = weights.choose_device(config)
    test = Dataset.open(dataset, "test")
    model = TextToImage.open(generator, kind="generator", device=device)
    if model.vocabulary.words != test.vocabulary.words:
        raise InputError(f"{generator}: its vocabulary is not the one of {dataset}; evaluate it on its own dataset.")
    judge = _Judge(config, test, model, damsm)
    artifacts.begin(out)
    figures = judge.r_precision()
    shown: list[dict[str, Any]] = []
    if test.info.get("palette"):
        colours, shown = judge.colour_fidelity(test.info["palette"])
        figures |= colours
    conditions = {
        "generator": artifacts.check(generator, "generator")["fingerprint"],
        "damsm": artifacts.check(damsm, "damsm")["fingerprint"],
        "dataset": test.manifest["fingerprint"],
        "resolution": model.generator.resolutions[-1],
        "crop": "centre square",
        "seed": config.seed,
        **config.evaluate.model_dump(),
    }
    artifacts.write_json(out / "metrics.json", {"figures": figures, "conditions": conditions})
    page = report.render("report.html.j2", figures=figures, conditions=conditions, shown=shown, meanings=MEANINGS)
    artifacts.write_text(out / "report.html", page)
    artifacts.finish(
        out, "metrics", ["metrics.json", "report.html"], figures=figures, generator=conditions["generator"]
    )
    return figures


MEANINGS = {
    "r_precision": "a generated picture's own caption beats num_candidates - 1 of other classes, judged by the DAMSM",
    "r_precision_real": "the same for the real pictures: what this judge makes of the truth",
    "r_precision_shuffled": "the same for pictures of other captions: must be near chance",
    "body_colour": "the bird's body has the colour its caption names",
    "body_colour_real": "the same for the real pictures: how well colours can be read",
    "body_colour_shuffled": "the same for pictures of other captions: must be near chance",
    "wing_colour": "the bird's wing has the colour its caption names",
    "wing_colour_real": "the same for the real pictures: how well colours can be read",
    "wing_colour_shuffled": "the same for pictures of other captions: must be near chance",
}


@dataclasses.dataclass(frozen=True)
class _Query:
    """One caption of one test picture."""

    image: int
    caption: int


class _Judge:
    """The model under test and those who judge it."""

    def __init__(self, config: Config, test: Dataset, model: TextToImage, damsm: Path):
        self.config, self.test, self.model = config, test, model
        _, self.image_encoder = weights.load_damsm(damsm, model.config, len(test.vocabulary), model.device)
        texts = {text: number for number, text in enumerate(sorted({t for r in test.records for t in r["captions"]}))}
        self.labels = [[(r["class_id"], texts[text]) for text in r["captions"]] for r in test.records]

    def r_precision(self) -> dict[str, float]:
        """Return the R-precision (1 of `num_candidates`) of generated, of real, and of mismatched pictures."""
        settings = self.config.evaluate
        queries = self._queries(settings.num_images)
        state = seeding.generator_for(self.config.seed, "mismatches")
        pool = [
            _Query(image, int(torch.randint(len(captions), (), generator=state)))
            for image, captions in enumerate(self.labels)
        ]
        candidates = torch.cat([self._sentences(part) for part in _parts(pool, settings.batch_size)])
        pool_labels = torch.tensor([self.labels[query.image][query.caption] for query in pool])
        found: dict[str, list[Tensor]] = {"r_precision": [], "r_precision_real": [], "r_precision_shuffled": []}
        others = queries[len(queries) // 2 :] + queries[: len(queries) // 2]
        with progress("R-precision", total=len(queries), unit="images") as advance:
            for part, other in zip(
                _parts(queries, settings.batch_size), _parts(others, settings.batch_size), strict=True
            ):
                drawn, real = self._draw(part, "r-precision")
                sentences, shuffled = self._sentences(part), self._sentences(other)
                wrong, wrong_for_other = (
                    self._mismatches(each, pool_labels, state).to(drawn.device) for each in (part, other)
                )
                image_feature, real_feature = self._image_feature(drawn), self._image_feature(real)
                found["r_precision"].append(r_precision(image_feature, sentences, candidates, wrong))
                found["r_precision_real"].append(r_precision(real_feature, sentences, candidates, wrong))
                found["r_precision_shuffled"].append(r_precision(image_feature, shuffled, candidates, wrong_for_other))
                advance(len(part))
        return {name: torch.cat(values).double().mean().item() for name, values in found.items()}

    def colour_fidelity(self, palette: dict[str, list[int]]) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Return how often body and wing have the colour that their caption names, and some pictures to look at."""
        names = list(palette)
        colours = torch.tensor(list(palette.values())) / 127.5 - 1
        queries = self._queries(self.config.evaluate.num_colour_captions, naming=COLOURED_PARTS)
        templates = drawn_templates.part_templates()
        parts = [drawn_templates.PARTS.index(part) for part in COLOURED_PARTS]
        both = [self._draw(part, "colours") for part in _parts(queries, self.config.evaluate.batch_size)]
        drawn, real = (torch.cat(images).cpu() for images in zip(*both, strict=True))
        read_drawn = read_colours(drawn, templates, colours)[:, parts]
        read_real = read_colours(real, templates, colours)[:, parts]
        attributes = [self.test.records[query.image]["attributes"] for query in queries]
        named = torch.tensor([[names.index(each[part]) for part in COLOURED_PARTS] for each in attributes])
        figures = {}
        for column, part in enumerate(COLOURED_PARTS):
            answers = {
                f"{part}_colour": (read_drawn, named),
                f"{part}_colour_real": (read_real, named),
                f"{part}_colour_shuffled": (read_drawn, named.roll(len(named) // 2, dims=0)),
            }
            for name, (read, asked) in answers.items():
                figures[name] = colour_fidelity(read[:, column], asked[:, column])
        shown = [
            {
                "caption": self.test.records[query.image]["captions"][query.caption],
                "png": report.data_uri(pictures.to_png(picture)),
                "read": {part: names[index] for part, index in zip(COLOURED_PARTS, read, strict=True)},
                "right": {part: index == asked for part, index, asked in zip(COLOURED_PARTS, read, row, strict=True)},
            }
            for query, picture, read, row in zip(
                queries[:SHOWN], pictures.to_pictures(drawn[:SHOWN]), read_drawn.tolist(), named.tolist(), strict=False
            )
        ]
        return figures, shown

    def _queries(self, count: int, naming: tuple[str, ...] = ()) -> list[_Query]:
        """Return `count` captions in a random order that the seed fixes; each once before any comes again."""
        usable = [
            _Query(image, caption)
            for image, record in enumerate(self.test.records)
            for caption in range(len(record["captions"]))
            if not naming or set(naming) <= set(record["attributes"]["named"][caption])
        ]
        order = torch.randperm(len(usable), generator=seeding.generator_for(self.config.seed, "queries", *naming))
        return [usable[order[index % len(usable)]] for index in range(count)]

    def _draw(self, queries: list[_Query], purpose: str) -> tuple[Tensor, Tensor]:
        """Return generated and real pictures (B, 3, H, W) of some captions."""
        batch = self.test.evaluation_batch(
            [query.image for query in queries],
            [query.caption for query in queries],
            resolutions=self.model.generator.resolutions[-1:],
            max_words=self.model.config.data.max_words,
        )
        first = queries[0]
        noise, epsilon = self.model.noise(len(queries), self.config.seed, purpose, first.image, first.caption)
        drawn = self.model.draw(batch.word_ids, batch.lengths, noise, epsilon)
        return drawn.images[-1], batch.images[-1].to(self.model.device)

    @torch.no_grad()
    def _sentences(self, queries: list[_Query]) -> Tensor:
        word_ids, lengths = self.test.captions(
            [query.image for query in queries],
            [query.caption for query in queries],
            max_words=self.model.config.data.max_words,
        )
        return self.model.text_encoder(word_ids.to(self.model.device), lengths)[1]

    @torch.no_grad()
    def _image_feature(self, images: Tensor) -> Tensor:
        return self.image_encoder(images)[1]

    def _mismatches(self, queries: list[_Query], pool_labels: Tensor, state: torch.Generator) -> Tensor:
        own = torch.tensor([self.labels[query.image][query.caption] for query in queries])
        try:
            return draw_mismatches(own, pool_labels, self.config.evaluate.num_candidates - 1, state)
        except ValueError as error:
            raise InputError(f"R-precision: in the test split {error}; lower evaluate.num_candidates.") from None


def _parts(queries: list[_Query], size: int) -> list[list[_Query]]:
    return [queries[start : start + size] for start in range(0, len(queries), size)]
