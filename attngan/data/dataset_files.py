"""Files of a dataset's split, read with every number in them checked: nothing that they say can read past an end."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attngan.data import transforms
from attngan.errors import InputError

PIXELS, INDEX, CAPTIONS, RECORDS = "pixels.bin", "images.npy", "captions.npz", "records.jsonl"
SPLIT_FILES = (PIXELS, INDEX, CAPTIONS, RECORDS)
HELD_SHARE = 0.3  # of a device's free memory, at most, for pixels: training needs the rest
PIECE = 2**26  # bytes that are copied to a device at a time


def read_index(folder: Path, resolution: int) -> np.ndarray:
    """Return the (N, 3) int64 index of a split, every entry within `pixels.bin` and large enough to cut from."""
    index = _read_arrays(folder / INDEX)
    if not isinstance(index, np.ndarray) or index.dtype != np.int64 or index.ndim != 2 or index.shape[1] != 3:
        raise damaged(folder / INDEX)
    size = (folder / PIXELS).stat().st_size
    is_inside = (index[:, 0] >= 0) & (index[:, 0] <= size) & (index[:, 1:] >= resolution).all(axis=1)
    is_inside &= (index[:, 1:] <= size).all(axis=1)  # so that the product below cannot overflow
    if not is_inside.all() or (index[:, 0] + index[:, 1] * index[:, 2] * 3 > size).any():
        raise damaged(folder / INDEX)
    return index


def read_captions(folder: Path, num_images: int, vocabulary_size: int) -> dict[str, np.ndarray]:
    """Return the word ids of all captions, and where captions and pictures begin; every number fits the others."""
    arrays = _read_arrays(folder / CAPTIONS)
    if not isinstance(arrays, dict) or set(arrays) != {"word_ids", "word_offsets", "caption_offsets", "class_ids"}:
        raise damaged(folder / CAPTIONS)
    words, word_offsets, caption_offsets = arrays["word_ids"], arrays["word_offsets"], arrays["caption_offsets"]
    fits = (
        all(array.ndim == 1 and array.dtype.kind == "i" and len(array) for array in arrays.values())
        and len(arrays["class_ids"]) == num_images
        and len(caption_offsets) == num_images + 1
        and _rise(caption_offsets, until=len(word_offsets) - 1)
        and _rise(word_offsets, until=len(words))
        and words.min() > 0
        and words.max() < vocabulary_size
    )
    if not fits:
        raise damaged(folder / CAPTIONS)
    return arrays


class SplitPixels:
    """The pictures of a split: a mapped file, and a copy of all of it on each device that has the room.

    Args:
        folder: of the split.
        index: as `read_index` returns it.
    """

    def __init__(self, folder: Path, index: np.ndarray):
        self._path, self._index = folder / PIXELS, torch.from_numpy(index)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable")  # nor does anything write there
            self._mapped = torch.from_numpy(np.memmap(self._path, dtype=np.uint8, mode="r"))
        self._held: dict[torch.device, Tensor | None] = {}

    def squares(
        self, indices: list[int], places: Tensor, side: int, is_flipped: Tensor, device: torch.device
    ) -> Tensor:
        """Cut one square from each of B pictures, on the device where that holds them, otherwise on the CPU.

        A CUDA device is asked to hold them when the first squares are wanted there. The bytes are the same either way.

        Args:
            indices: B pictures.
            places, side, is_flipped: as for `cut_squares`.
            device: where the squares are wanted.
        """
        if device.type == "cuda" and device not in self._held:
            self.hold(device, free=torch.cuda.mem_get_info(device)[0])
        index, held = self._index[indices], self._held.get(device)
        if held is None:
            return transforms.cut_squares(self._mapped, index, places, side, is_flipped)
        return transforms.gather_squares(held, index, places, side, is_flipped)

    def are_same(self, one: int, other: int, side: int) -> bool:
        """Return whether the centre squares of two pictures are the same."""
        centre, is_flipped = torch.full((2, 2), 0.5, dtype=torch.float64), torch.zeros(2, dtype=torch.bool)
        first, second = transforms.cut_squares(self._mapped, self._index[[one, other]], centre, side, is_flipped)
        return torch.equal(first, second)

    def hold(self, device: torch.device, *, free: int) -> bool:
        """Copy all pictures to a device if they take less than a share of its `free` bytes; return whether they do."""
        has_room = len(self._mapped) < HELD_SHARE * free
        self._held[device] = self._copy(device) if has_room else None
        return has_room

    def _copy(self, device: torch.device) -> Tensor:
        """Return all bytes on a device; they are read a piece at a time, so that the host needs no memory for them."""
        pixels = torch.empty(len(self._mapped), dtype=torch.uint8, device=device)
        for start in range(0, len(pixels), PIECE):
            target = pixels[start : start + PIECE]
            target.copy_(torch.from_numpy(np.fromfile(self._path, dtype=np.uint8, count=len(target), offset=start)))
        return pixels


def _rise(offsets: np.ndarray, *, until: int) -> bool:
    """Return whether offsets go from 0 to `until`, each part at least 1 long."""
    return bool(offsets[0] == 0 and offsets[-1] == until and (np.diff(offsets) > 0).all())


def _read_arrays(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            return arrays
        with arrays:
            if sum(each.file_size for each in arrays.zip.infolist()) > path.stat().st_size:
                raise damaged(path)  # nothing is compressed there, so that it takes no more memory than it shows
            return dict(arrays)
    except Exception:  # whatever zip, zlib and numpy come up with for garbage
        raise damaged(path) from None


def damaged(path: Path) -> InputError:
    """Return what to say of a file whose content does not fit."""
    return InputError(
        f"{path}: its content does not fit the dataset it belongs to; copy the folder or run preprocess again."
    )
