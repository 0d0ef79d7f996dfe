"""How far pictures are from the nearest of others: copies of training pictures, and what is like no real one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attngan.metrics.distribution import Rows

COPY_QUANTILE = 0.01  # a held-out real picture is this near to a training picture in one case of a hundred


def nearest(rows: Rows, others: Rows) -> tuple[Tensor, Tensor]:
    """Return each row's Euclidean distance to the nearest of the others (N,), and which one that is (N,) int64."""
    distances, indices = [], []
    for chunk in rows.chunks():
        best = torch.full((len(chunk),), torch.inf)
        which = torch.zeros(len(chunk), dtype=torch.int64)
        start = 0
        for part in others.chunks():
            distance, index = torch.cdist(chunk.float(), part.float()).min(dim=1)
            is_nearer = distance < best
            best, which = torch.where(is_nearer, distance, best), torch.where(is_nearer, index + start, which)
            start += len(part)
        distances.append(best)
        indices.append(which)
    return torch.cat(distances), torch.cat(indices)


def farthest(distances: Sequence[Tensor], count: int) -> list[tuple[int, int]]:
    """Return the rows that are farthest from all others, the farthest first.

    Args:
        distances: each row's distance to the nearest of some others (N,), and of some more.
        count: rows, at most.

    Returns:
        The number of each row, and the place in `distances` where the nearest of all stands.
    """
    nearest_of_all, which = torch.stack(tuple(distances)).min(dim=0)
    chosen = nearest_of_all.argsort(descending=True, stable=True)[:count]
    return [(int(number), int(which[number])) for number in chosen]


def near_copies(distances: Tensor, held_out: Tensor) -> Tensor:
    """Say for each picture whether it is nearer to a training picture than held-out real ones are but for 1 %.

    Args:
        distances: (N,) to the nearest training picture.
        held_out: (M,) the same of real pictures that were not trained on.

    Returns:
        (N,) bool.
    """
    return distances < held_out.quantile(COPY_QUANTILE)
