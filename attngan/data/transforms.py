"""From stored pixels to a batch: cut squares, flip them, build the pyramid of resolutions; bytes as long as can be."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def cut_squares(pictures: Sequence[np.ndarray], places: Tensor, side: int, is_flipped: Tensor | None = None) -> Tensor:
    """Cut one square from each picture, and mirror some of them left to right.

    Args:
        pictures: B arrays (H, W, 3) uint8, each side at least `side`.
        places: (B, 2) in [0, 1): where the square lies in its range, from top to bottom and from left to right.
        side: of the squares, in pixels.
        is_flipped: (B,) bool, True for those to mirror; None mirrors none.

    Returns:
        pixels (B, 3, side, side) uint8, channels last in memory.
    """
    pixels = torch.empty(len(pictures), 3, side, side, dtype=torch.uint8, memory_format=torch.channels_last)
    flips = [False] * len(pictures) if is_flipped is None else is_flipped.tolist()
    for target, picture, (down, right), flip in zip(pixels, pictures, places.tolist(), flips, strict=True):
        height, width, _ = picture.shape
        top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
        target.permute(1, 2, 0).numpy()[:] = picture[top : top + side, left : left + side]
        if flip:  # torch mirrors whole pixels at once, numpy byte by byte
            target.copy_(target.flip(-1))
    return pixels


def pyramid(pixels: Tensor, resolutions: Sequence[int]) -> list[Tensor]:
    """Resize to each resolution (bilinear, anti-aliased, to whole numbers as Pillow does), and scale to [-1, 1].

    Args:
        pixels: (B, 3, H, H) uint8.
        resolutions: sides in pixels.

    Returns:
        images, one (B, 3, side, side) for each resolution, in the order given, each from the cut picture itself.
    """
    return [_resize(pixels, side).float().div_(127.5).sub_(1) for side in resolutions]


def _resize(pixels: Tensor, side: int) -> Tensor:
    if side == pixels.shape[-1]:
        return pixels
    if pixels.device.type == "cpu":
        return functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return functional.interpolate(pixels.float(), (side, side), mode="bilinear", antialias=True).round_()
