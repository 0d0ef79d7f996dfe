"""How sure a figure is: 95 % intervals by drawing again from what was measured."""

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from attngan.metrics.distribution import Rows

CONFIDENCE = 0.95
NUM_RESAMPLES = 1000  # of means
Interval = tuple[float, float]


def of_mean(values: Tensor, generator: torch.Generator) -> Interval:
    """Return the percentile bootstrap interval of a mean (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: (N,), one for each picture; N > 1.
        generator: the random state.
    """
    random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    found = stats.bootstrap(
        (values.double().numpy(),),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        batch=max(1, 10**7 // len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=random,
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def of_distance(
    measure: Callable[[Rows, Rows], float],
    value: float,
    real: Rows,
    generated: Rows,
    generator: torch.Generator,
    *,
    num_resamples: int,
) -> Interval:
    """Return the interval of a distance between two sets, from random halves of both without replacement.

    Halves drawn so spread as the whole does from sample to sample (Shao and Tu 1995, section 5.2.2). A bootstrap with
    replacement would hold rows twice, which these distances take for a sign of being near.

    Args:
        measure: the distance.
        value: of the whole sets.
        real: (N, D).
        generated: (M, D).
        generator: the random state.
        num_resamples: how many pairs of halves are measured.
    """
    halves = [
        measure(*(rows.sample(len(rows) // 2, generator) for rows in (real, generated))) for _ in range(num_resamples)
    ]
    reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * float(np.std(halves, ddof=1))
    return value - reach, value + reach
