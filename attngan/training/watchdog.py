"""Whether a training goes wrong: losses that are no numbers, discriminators that always win, pictures all alike.

Each question is answered from logged figures: None, or what is wrong in words.
"""

import math
from collections.abc import Mapping, Sequence

SURE = 0.99  # a discriminator gives real pictures more, generated ones less than 1 - SURE: nothing to learn from it
ALIKE, VARIED = 0.1, 0.2  # of the distance of real pictures: collapsed, where it once was varied

Row = Mapping[str, float]


def opinion(kind: str, resolution: int) -> str:
    """Return under what name the mean probability is logged that a discriminator gives pictures of one kind."""
    return f"{kind}_{resolution}"


def not_finite(figures: Row) -> str | None:
    """Name a loss that is not a finite number."""
    for name, value in figures.items():
        if not math.isfinite(value):
            return f"the loss {name} is {value}"
    return None


def saturated(rows: Sequence[Row], resolutions: Sequence[int]) -> str | None:
    """Name a discriminator that was sure and right in every one of the rows since the last snapshot."""
    for resolution in resolutions:
        real, generated = ([row[opinion(kind, resolution)] for row in rows] for kind in ("real", "generated"))
        if rows and min(real) > SURE and max(generated) < 1 - SURE:
            return (
                f"the discriminator of {resolution} pixels is always right (real pictures {min(real):.1%} real or "
                f"more, generated ones {max(generated):.1%} or less), so the generator learns nothing from it"
            )
    return None


def collapsed(varieties: Sequence[float]) -> str | None:
    """Say that pictures have become alike, from the variety at each snapshot, the last of which is now."""
    if varieties[-1] < ALIKE and max(varieties) > VARIED:
        return (
            f"pictures of different captions are {varieties[-1]:.1%} as far apart as real ones, and were "
            f"{max(varieties):.1%}: the generator draws one picture again and again"
        )
    return None
