"""From stored pixels to a batch: cut squares, flip them, build the pyramid of resolutions."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def cut_squares(pictures: Sequence[np.ndarray], places: Tensor, side: int) -> Tensor:
    """Cut one square from each picture.

    Args:
        pictures: B arrays (H, W, 3) uint8, each side at least `side`.
        places: (B, 2) in [0, 1): where the square lies in its range, from top to bottom and from left to right.
        side: of the squares, in pixels.

    Returns:
        pixels (B, side, side, 3) uint8.
    """
    pixels = np.empty((len(pictures), side, side, 3), dtype=np.uint8)
    for target, picture, (down, right) in zip(pixels, pictures, places.tolist(), strict=True):
        height, width, _ = picture.shape
        top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
        target[:] = picture[top : top + side, left : left + side]
    return torch.from_numpy(pixels)


def flip(pixels: Tensor, is_flipped: Tensor) -> Tensor:
    """Mirror some of the pictures left to right.

    Args:
        pixels: (B, H, W, 3).
        is_flipped: (B,) bool, True for those to mirror.
    """
    return torch.where(is_flipped[:, None, None, None], pixels.flip(2), pixels)


def pyramid(pixels: Tensor, resolutions: Sequence[int]) -> list[Tensor]:
    """Scale to [-1, 1] and resize to each resolution (bilinear, anti-aliased), always from the cut picture.

    Args:
        pixels: (B, H, H, 3) uint8.
        resolutions: sides in pixels.

    Returns:
        images, one (B, 3, side, side) for each resolution, in the order given.
    """
    images = pixels.permute(0, 3, 1, 2).contiguous().float().div_(127.5).sub_(1)  # (B, 3, H, H)
    return [
        images
        if side == images.shape[-1]
        else functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        for side in resolutions
    ]
