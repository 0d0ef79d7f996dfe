"""Memorisation: whether generated pictures are copies of training pictures."""

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


def near_copies(distances: Tensor, held_out: Tensor) -> Tensor:
    """Say for each picture whether it is nearer to a training picture than held-out real ones are but for 1 %.

    Args:
        distances: (N,) to the nearest training picture.
        held_out: (M,) the same of real pictures that were not trained on.

    Returns:
        (N,) bool.
    """
    return distances < held_out.quantile(COPY_QUANTILE)
