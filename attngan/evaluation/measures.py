"""Tables of rows -> figures, each with its interval, its conditions, and the same figure of the controls beside it."""

import dataclasses
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from attngan import seeding
from attngan.config.settings import Evaluate
from attngan.data.feasible import num_candidates
from attngan.data.records import CaptionLabels
from attngan.evaluation.extractors import PIXELS
from attngan.evaluation.picture_sets import Query
from attngan.metrics import distribution, intervals, nearest, retrieval
from attngan.metrics.distribution import Rows
from attngan.metrics.figures import Figure, Figures
from attngan.runtime.console import say

CHUNK = 500  # queries of R-precision at a time
Table = dict[str, Rows]


class MetricMaker:
    """Computes figures from tables.

    Args:
        settings: of the evaluation.
        seed: of everything random.
        tables: rows of the pictures, by the names of `evaluate`'s passes.
    """

    def __init__(self, settings: Evaluate, seed: int, tables: dict[str, Table]):
        self.settings, self.seed, self.tables = settings, seed, tables
        self._nearest: dict[str, tuple[Tensor, Tensor]] = {}

    def distances(self, extractor: str) -> Figures:
        """Return KID, FID, precision and recall: generated, noise and blurred against real, and real against real."""
        real, noise, blurred = (self.tables[name][extractor] for name in ("real", "noise", "blurred"))
        halves = real.sample(len(real), self._rng("halves"))
        middle = len(real) // 2
        subjects = {
            "generated": (real, self.tables["generated"][extractor]),
            "real": tuple(Rows(real.values, halves.index[part]) for part in (slice(middle), slice(middle, None))),
            "noise": (real, noise),
            "blurred": (real, blurred),
        }
        figures: Figures = {}
        for subject, (theirs, ours) in subjects.items():
            state = self._rng("distances", extractor, subject)
            measure = functools.partial(self._measure, state, self.settings.kid_subsets)
            measure_half = functools.partial(self._measure, state, max(1, self.settings.kid_subsets // 10))
            values = measure(theirs, ours)
            ends = intervals.of_sets(
                measure_half, values, (theirs, ours), state, num_resamples=self.settings.num_resamples
            )
            for name, value in values.items():
                low, high = ends[name]
                if name in ("precision", "recall"):  # shares
                    low, high = max(low, 0.0), min(high, 1.0)
                figure = Figure(value, low, high, len(ours), len(theirs), extractor)
                figures.setdefault(f"{name}_{extractor}", {})[subject] = figure
        return figures

    def inception_scores(self, extractor: str) -> Figures:
        """Return the Inception Score of generated pictures and of the controls."""
        scores = {}
        for subject in ("generated", "real", "noise", "blurred"):
            logits = self.tables[subject][f"{extractor} logits"]
            logits = logits.sample(len(logits), self._rng("splits"))
            values = {"is": distribution.inception_score(logits)}
            ends = intervals.of_sets(
                lambda half: {"is": distribution.inception_score(half)},
                values,
                [logits],
                self._rng("score", extractor, subject),
                num_resamples=self.settings.num_resamples,
            )
            scores[subject] = Figure(values["is"], *ends["is"], len(logits), 0, extractor)
        return {f"inception_score_{extractor}": scores}

    def nearest_in_training(self, extractor: str) -> tuple[Tensor, Tensor]:
        """Return each generated picture's distance (N,) to the nearest training picture, and which one (N,) that is."""
        if extractor not in self._nearest:
            generated, train = (self.tables[name][extractor] for name in ("generated", "train"))
            self._nearest[extractor] = nearest.nearest(generated, train)
        return self._nearest[extractor]

    def memorisation(self, extractor: str) -> Figures:
        """Return the share of near copies, and how far the nearest training picture is.

        Asks an extractor that tells two pictures of one caption apart, as the DAMSM's is not made to. Half of the real
        pictures say how near is normal. The controls: the other half, blurred ones (what is smooth is near to all),
        and the training pictures themselves.
        """
        train, real = self.tables["train"][extractor], self.tables["real"][extractor]
        generated = self.nearest_in_training(extractor)[0]
        held_out = nearest.nearest(real.sample(len(real), self._rng("held out")), train)[0]
        normal, others = held_out.chunk(2)
        copies = nearest.nearest(Rows(train.values[: len(others)]), train)[0]
        blurred = nearest.nearest(self.tables["blurred"][extractor], train)[0]
        judged = {"generated": generated, "real": others, "blurred": blurred, "copies": copies}
        figures = {
            subject: self.mean(nearest.near_copies(distances, normal), len(train), extractor)
            for subject, distances in judged.items()
        }
        distances = {subject: self.mean(each, len(train), extractor) for subject, each in judged.items()}
        return {f"near_copies_{extractor}": figures, f"nearest_distance_{extractor}": distances}

    def least_real(self, extractor: str, count: int) -> list[tuple[int, str, int]]:
        """Return the generated pictures that are farthest from every real one, the farthest first.

        Returns:
            Of each its number, and the real picture nearest to it: table, "train" or "real" (the test split's), and
            number there.
        """
        in_test = nearest.nearest(self.tables["generated"][extractor], self.tables["real"][extractor])
        tables, found = ("train", "real"), (self.nearest_in_training(extractor), in_test)
        chosen = nearest.farthest([distances for distances, _ in found], count)
        return [(number, tables[place], int(found[place][1][number])) for number, place in chosen]

    def contrast(self) -> Figures:
        """Return how much the colours of a picture differ from place to place, at `PIXELS_SIDE` pixels each way."""
        subjects = ("generated", "real", "blurred")
        tables = {subject: self.tables[subject][PIXELS][:].unflatten(1, (3, -1)) for subject in subjects}
        return {
            f"contrast_{PIXELS}": {
                subject: self.mean(pixels.std(dim=2).mean(dim=1)) for subject, pixels in tables.items()
            }
        }

    def changes(self, extractor: str) -> Figures:
        """Return how much a picture changes with the noise, and with one colour word, against two real pictures.

        An extractor that sees no difference between real pictures has no figures of this kind.
        """
        num_real = len(self.tables["real"][extractor])
        scale = self._apart(extractor).double().mean()
        if not scale > 0:
            say(f"{extractor}: sees no difference between test pictures; what it says of changes is left out.")
            return {}
        pairs = {
            name: self.mean(self.tables["pairs"][f"{extractor} {name}"][:].double() / scale, num_real, extractor)
            for name in ("again", "noise", "swapped", "caption")
            if f"{extractor} {name}" in self.tables["pairs"]
        }
        figures = {f"diversity_{extractor}": {"generated": pairs["noise"], "held": pairs["again"]}}
        if "swapped" in pairs:
            swap = {"generated": pairs["swapped"], "held": pairs["again"], "other caption": pairs["caption"]}
            figures[f"swap_{extractor}"] = swap
        return figures

    def _apart(self, extractor: str) -> Tensor:
        """Return how far apart real pictures are two by two (N,), each and the one half the table on."""
        if extractor == PIXELS:  # compared as they are, which the table does not hold
            return self.tables["real"][f"{PIXELS} apart"][:]
        real = self.tables["real"][extractor]
        numbers = torch.arange(len(real))
        others = (numbers + len(real) // 2) % len(real)
        pairs = zip(numbers.split(CHUNK), others.split(CHUNK), strict=True)
        return torch.cat([(real[some] - real[their_others]).norm(dim=1) for some, their_others in pairs])

    def clip_scores(self, name: str) -> Figures:
        """Return the mean CLIP score with a picture's own caption, and with another one."""
        columns = {
            "generated": ("generated", "clip"),
            "real": ("real", "clip"),
            "shuffled": ("generated", "clip other"),
        }
        figures = {
            subject: self.mean(self.tables[table][column][:], 0, name) for subject, (table, column) in columns.items()
        }
        return {f"clip_score_{name}": figures}

    def r_precision(
        self,
        extractor: str,
        queries: Sequence[Query],
        labels: CaptionLabels,
        pool: Tensor,
        *,
        metric: str = "r_precision",
        sentence: str = "sentence",
    ) -> Figures:
        """Return the R-precision (1 of `num_candidates`, or of all there are) of generated pictures and controls.

        Every judge is asked about the same wrong captions.

        Args:
            extractor: the judge's.
            queries: what each generated picture was drawn from.
            labels: class and text of every caption of every test picture, `Dataset.caption_labels`.
            pool: (M, D) sentence features to draw wrong ones from: one caption, `pool_captions`, of every picture.
            metric: what the figure is called.
            sentence: the column of the judge's sentence features of the queries.
        """
        state = self._rng("mismatches")
        captions = self.pool_captions(labels)
        pool_of = [of_image[caption] for of_image, caption in zip(labels, captions, strict=True)]
        candidates = num_candidates(labels, pool_of, self.settings.num_candidates)
        pool_labels = torch.tensor(pool_of)
        own_labels = torch.tensor([labels[query.image][query.caption] for query in queries])
        images = torch.tensor([query.image for query in queries])
        tables = {name: self.tables[name][extractor] for name in ("generated", "real", "noise", "blurred")}
        sentences = self.tables["generated"][sentence]
        found = {subject: torch.zeros(len(queries), dtype=torch.bool) for subject in (*tables, "shuffled")}
        all_others = torch.tensor(retrieval.others(own_labels))
        for numbers in torch.arange(len(queries)).split(CHUNK):
            others = all_others[numbers]
            own, wrong, wrong_for_others = (
                sentences[numbers],
                *(
                    retrieval.draw_mismatches(own_labels[each], pool_labels, candidates - 1, state)
                    for each in (numbers, others)
                ),
            )
            rows = {
                "generated": tables["generated"][numbers],
                "real": tables["real"][images[numbers]],
                "noise": tables["noise"][numbers % len(tables["noise"])],
                "blurred": tables["blurred"][images[numbers]],
            }
            for subject, features in rows.items():
                found[subject][numbers] = retrieval.r_precision(features, own, pool, wrong)
            shuffled = retrieval.r_precision(rows["generated"], sentences[others], pool, wrong_for_others)
            found["shuffled"][numbers] = shuffled
        means = {subject: self.mean(each, 0, extractor) for subject, each in found.items()}
        figures = {subject: dataclasses.replace(mean, candidates=candidates) for subject, mean in means.items()}
        return {metric: figures}

    def pool_captions(self, labels: CaptionLabels) -> list[int]:
        """Return which caption of every test picture stands among those that wrong ones are drawn from."""
        rng = self._rng("pool")
        return [int(torch.randint(len(captions), (), generator=rng)) for captions in labels]

    def mean(self, values: Tensor, num_reference: int = 0, features: str = "") -> Figure:
        """Return the mean of what was said of each picture (N,), yes or no or a number."""
        values = values.double()
        ends = intervals.of_mean(values, self._rng("mean"))
        return Figure(values.mean().item(), *ends, len(values), num_reference, features)

    def _measure(self, rng: torch.Generator, num_subsets: int, real: Rows, generated: Rows) -> dict[str, float]:
        size = min(len(real), len(generated))
        precision, recall = distribution.precision_recall(real.sample(size, rng), generated.sample(size, rng), rng)
        subset_size = self.settings.kid_subset_size
        return {
            "kid": distribution.kid(real, generated, rng, num_subsets=num_subsets, subset_size=subset_size),
            "fid": distribution.fid(real, generated),
            "precision": precision,
            "recall": recall,
        }

    def _rng(self, *purpose: str) -> torch.Generator:
        return seeding.rng_for(self.seed, "figures", *purpose)
