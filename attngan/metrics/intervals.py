"""How sure a figure is: 95 % intervals by drawing again from what was measured."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from attngan.metrics.distribution import Rows

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.96
NUM_RESAMPLES = 1000  # of means
BATCH = 10**6  # numbers drawn at a time
Interval = tuple[float, float]


def of_mean(values: Tensor, rng: torch.Generator) -> Interval:
    """Return the percentile bootstrap interval of a mean (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: (N,), one for each picture; N > 1.
        rng: the random state.
    """
    random = np.random.default_rng(int(torch.randint(2**62, (), generator=rng)))
    found = stats.bootstrap(
        (values.double().numpy(),),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        batch=max(1, BATCH // len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=random,
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def of_sets(
    measure: Callable[..., dict[str, float]],
    values: dict[str, float],
    sets: Sequence[Rows],
    rng: torch.Generator,
    *,
    num_resamples: int,
) -> dict[str, Interval]:
    """Return the interval of figures of whole sets, from random halves of them without replacement.

    Halves drawn so spread as the whole does from sample to sample (Shao and Tu 1995, section 5.2.2). A bootstrap with
    replacement would hold rows twice, which distances between sets take for a sign of being near.

    Args:
        measure: the sets -> figures by name.
        values: the figures of the whole sets.
        sets: each (N, D), N of its own.
        rng: the random state.
        num_resamples: how many times halves are measured, at least 2.
    """
    halves = [measure(*(rows.sample(len(rows) // 2, rng) for rows in sets)) for _ in range(num_resamples)]
    intervals = {}
    for name, value in values.items():
        reach = NORMAL_QUANTILE * float(np.std([half[name] for half in halves], ddof=1))
        intervals[name] = (value - reach, value + reach)
    return intervals
