"""Quick figures of a generator in training: KID, R-precision and variety of a few hundred pictures."""

import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from attngan import seeding
from attngan.config.settings import Config
from attngan.data.dataset import Dataset
from attngan.data.feasible import num_candidates
from attngan.data.sampling import spread
from attngan.errors import InputError
from attngan.evaluation import extractors
from attngan.evaluation.extractors import PIXELS, Extractor
from attngan.evaluation.picture_sets import EvaluationPictures, Query
from attngan.inference.text_to_image import TextToImage
from attngan.metrics import distribution, retrieval
from attngan.metrics.distribution import Rows
from attngan.training.gan_run import GanRun

BATCH_SIZE = 50


class SnapshotMetrics:
    """Looks at pictures of the averaged generator; captions, noise and real pictures are the same every time.

    Args:
        run: the training.
        train: its pictures.
        test: gives captions and real pictures.
        damsm: folder of the run's encoders.
    """

    def __init__(self, run: GanRun, train: Dataset, test: Dataset, damsm: Path):
        self.config = run.config
        self.seed = seeding.seed_for(run.config.seed, "snapshot figures")
        count = run.config.watch.num_images
        model = TextToImage(run.config, test.vocabulary, run.text_encoder, run.generator_ema, run.device)
        self.pictures = EvaluationPictures(model, test, train, self.seed, num_images=count, num_pairs=0)
        self.judge = extractors.damsm_extractor(damsm, run.image_encoder)
        self.extractor = _extractor(run.config, self.judge, run.device)
        self.real_numbers = spread(len(test), count)

    @functools.cached_property
    def num_candidates(self) -> int:
        """How many captions R-precision chooses among."""
        labels = self.pictures.test.caption_labels()
        return num_candidates(labels, [of_image[0] for of_image in labels], self.config.evaluate.num_candidates)

    @property
    def metric(self) -> str:
        """Name of the figure that says which snapshot is the best."""
        return f"kid_{self.extractor.name}" if self.config.watch.metric == "kid" else self.config.watch.metric

    @property
    def judged_by(self) -> dict[str, str | int]:
        """What figures must have in common to be compared: names, and numbers of pictures and captions."""
        numbers = {"num_images": self.config.watch.num_images, "num_candidates": self.num_candidates}
        return {"metric": self.metric, "features": self.extractor.name, **numbers}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Return KID, R-precision, and the mean distance of two pictures as a share of that of two real ones."""
        queries = self.pictures.queries
        drawn = self._look(
            len(queries), lambda some: self.pictures.generated(queries[some.start : some.stop], some.start)
        )
        name, size = self.extractor.name, min(len(queries), len(self.real_numbers))
        rng = seeding.rng_for(self.seed, "kid")
        kid = distribution.kid(Rows(self._real[name]), Rows(drawn[name]), rng, num_subsets=1, subset_size=size)
        pixels, real_pixels = drawn[PIXELS], self._real[PIXELS]
        real_apart = _apart(real_pixels, real_pixels.roll(len(real_pixels) // 2, 0))
        own, candidates, wrong = self._sentences
        found = retrieval.r_precision(drawn[self.judge.name], own, candidates, wrong)
        return {
            f"kid_{name}": kid,
            "r_precision": found.float().mean().item(),
            "variety": _apart(pixels, pixels[self._others]) / (real_apart or 1.0),
        }

    @functools.cached_property
    def _real(self) -> dict[str, Tensor]:
        return self._look(
            len(self.real_numbers), lambda some: self.pictures.real(self.real_numbers[some.start : some.stop])
        )

    @functools.cached_property
    def _sentences(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sentence features of the captions, those to choose among, and which of them are wrong for each."""
        labels, queries = self.pictures.test.caption_labels(), self.pictures.queries
        own = self.pictures.labels_of(queries)
        candidates = self.pictures.sentences([Query(image, 0) for image in range(len(labels))])
        pool = [of_image[0] for of_image in labels]
        rng = seeding.rng_for(self.seed, "mismatches")
        wrong = retrieval.draw_mismatches(own, torch.tensor(pool), self.num_candidates - 1, rng)
        return self.pictures.sentences(queries).cpu(), candidates.cpu(), wrong

    @functools.cached_property
    def _others(self) -> list[int]:
        """For each caption the number of one that says something else: where there are few, each comes many times."""
        texts = self.pictures.labels_of(self.pictures.queries)[:, 1:]
        return retrieval.others(texts)

    def _look(self, count: int, pictures: Callable[[range], Tensor]) -> dict[str, Tensor]:
        """Return what the extractors say of `count` pictures, some at a time."""
        judges = list({each.name: each for each in (self.judge, self.extractor)}.values())
        parts = [range(first, min(first + BATCH_SIZE, count)) for first in range(0, count, BATCH_SIZE)]
        tables = [extractors.columns(judges, pictures(part)) for part in parts]
        return {name: torch.cat([table[name] for table in tables]).cpu() for name in tables[0]}


def _extractor(config: Config, damsm: Extractor, device: torch.device) -> Extractor:
    """Return the network that KID sees through."""
    chosen = config.watch.features
    if chosen == "damsm":
        return damsm
    extractor = extractors.pretrained_extractor(config.evaluate, chosen, device)
    if extractor is None:
        raise InputError(f"watch.features: {chosen} needs its weights; set evaluate.{chosen}.uri, or choose damsm.")
    return extractor


def _apart(pixels: Tensor, others: Tensor) -> float:
    """Return the mean difference of pictures (N, P) and as many others."""
    return (pixels - others).abs().mean().item()
