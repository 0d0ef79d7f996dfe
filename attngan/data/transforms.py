"""From stored pixels to a batch: cut squares, flip them, build the pyramid of resolutions; bytes as long as can be."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def cut_squares(pixels: Tensor, index: Tensor, places: Tensor, side: int, is_flipped: Tensor) -> Tensor:
    """Cut one square from each picture, and mirror some of them left to right.

    Args:
        pixels: (bytes,) uint8, a storage of its own: pictures (H, W, 3) one after another, each side at least `side`.
        index: (B, 3) int64: offset in `pixels`, height and width of each picture.
        places: (B, 2) in [0, 1): where the square lies in its range, from top to bottom and from left to right.
        side: of the squares, in pixels.
        is_flipped: (B,) bool, True for those to mirror.

    Returns:
        squares (B, 3, side, side) uint8, channels last in memory.
    """
    squares = torch.empty(len(index), 3, side, side, dtype=torch.uint8, memory_format=torch.channels_last)
    numbers = (each.tolist() for each in (*_corners(index, places, side), is_flipped))
    for square, corner, row, flip in zip(squares, *numbers, strict=True):
        source = pixels.as_strided((3, side, side), (1, row, 3), corner)
        square.copy_(source.flip(-1) if flip else source)
    return squares


def gather_squares(pixels: Tensor, index: Tensor, places: Tensor, side: int, is_flipped: Tensor) -> Tensor:
    """Do what `cut_squares` does, byte for byte, on the device that holds the pictures.

    Only three numbers a picture are sent there, and nothing waits for them.

    Args:
        pixels: as for `cut_squares`, on any device.
        index, places, side, is_flipped: as for `cut_squares`, on the CPU.

    Returns:
        squares (B, 3, side, side) uint8, on the device of `pixels`, channels last in memory.
    """
    corner, row = _corners(index, places, side)
    first = torch.where(is_flipped, corner + (side - 1) * 3, corner)  # a mirrored row is read from its right end
    numbers = torch.stack([first, row, torch.where(is_flipped, -3, 3)])  # (3, B) int64: a split may pass 2 GiB
    first, down, right = send(numbers, pixels.device)[..., None, None, None]  # each (B, 1, 1, 1)
    steps = torch.arange(side, device=pixels.device)
    where = first + down * steps[:, None, None] + right * steps[:, None]  # (B, side, side, 1)
    return pixels.take(where + torch.arange(3, device=pixels.device)).permute(0, 3, 1, 2)


def _corners(index: Tensor, places: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return where in `pixels` each square begins, and how long each picture's rows are there, both (B,) int64."""
    top, left = (places.double() * (index[:, 1:] - side + 1)).long().unbind(1)
    row = index[:, 2] * 3
    return index[:, 0] + top * row + left * 3, row


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Move a tensor; where it goes to a CUDA device, without waiting: that takes page-locked memory."""
    is_cuda = torch.device(device).type == "cuda"
    if is_cuda and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=is_cuda)


def pyramid(pixels: Tensor, resolutions: Sequence[int]) -> list[Tensor]:
    """Resize to each resolution (bilinear, anti-aliased, to whole numbers as Pillow does), and scale to [-1, 1].

    Args:
        pixels: (B, 3, H, H) uint8.
        resolutions: sides in pixels.

    Returns:
        images, one (B, 3, side, side) for each resolution, in the order given, each from the cut picture itself.
    """
    return [_scale(_resize(pixels, side)) for side in resolutions]


def _resize(pixels: Tensor, side: int) -> Tensor:
    if side == pixels.shape[-1] or not len(pixels):  # CUDA's kernel cannot be started for no picture
        return pixels[..., :side, :side]
    if pixels.device.type == "cpu":
        return functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return functional.interpolate(pixels.float(), (side, side), mode="bilinear", antialias=True).round_()


def _scale(pixels: Tensor) -> Tensor:
    """Return x / 127.5 - 1, rounded after each of the two, in one pass over memory."""
    images = pixels.float()
    # Two lone numbers would keep torch from its vector instructions; rows of them, as long as the pictures', do not.
    row = torch.ones(pixels.shape[-1], 3, device=pixels.device).T[:, None]  # (3, 1, W), channels last
    return torch.addcdiv(-row, images, 127.5 * row, out=images)
