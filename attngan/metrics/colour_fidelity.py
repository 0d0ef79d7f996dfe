"""Whether a drawn bird has the colours its caption names: read off by fitting the bird's geometry, no network involved.

For each picture the placement of the parts is chosen that leaves the least colour variance within parts; a part's
colour is then the one that most of its pixels are nearest to. (That of their mean is another one where a wing is larger
than drawn birds have it: a black body with some of a yellow wing would be brown.)
"""

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 64  # pictures fitted at a time


def read_colours(images: Tensor, templates: Tensor, palette: Tensor) -> Tensor:
    """Return the palette index of every part's colour in every picture, (B, P) int64.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        templates: (K, P, S, S) bool: K placements; in each, every pixel belongs to one of P parts.
        palette: (N, 3) colours in [-1, 1].
    """
    side = templates.shape[-1]
    masks = templates.flatten(2).float()  # (K, P, S * S)
    sizes = masks.sum(dim=2)  # (K, P)
    flat = masks.flatten(0, 1)
    read = []
    for chunk in images.split(CHUNK):
        if chunk.shape[-1] != side:
            chunk = functional.interpolate(chunk, (side, side), mode="bilinear", antialias=True)
        pixels = chunk.flatten(2)  # (B, 3, S * S)
        sums = torch.einsum("MS,BCS->BMC", flat, pixels).unflatten(1, sizes.shape)  # (B, K, P, 3)
        means = sums / sizes[None, :, :, None].clamp(min=1)
        # Total variance is the same for every placement, so the best one explains most: sum of n * |mean|^2.
        explained = (sizes[None, :, :, None] * means.square()).sum(dim=(2, 3))  # (B, K)
        best = masks[explained.argmax(dim=1)]  # (B, P, S * S)
        nearest = torch.cdist(pixels.transpose(1, 2), palette.expand(len(chunk), -1, -1)).argmin(dim=2)  # (B, S * S)
        votes = best @ functional.one_hot(nearest, len(palette)).float()  # (B, P, N)
        read.append(votes.argmax(dim=2))
    return torch.cat(read)
