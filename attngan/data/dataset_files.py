"""Files of a dataset's split, read with every number in them checked: nothing that they say can read past an end."""

import zipfile
from pathlib import Path

import numpy as np

from attngan.data.dataset_writer import CAPTIONS, INDEX, PIXELS
from attngan.errors import InputError


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


def _rise(offsets: np.ndarray, *, until: int) -> bool:
    """Return whether offsets go from 0 to `until`, each part at least 1 long."""
    return bool(offsets[0] == 0 and offsets[-1] == until and (np.diff(offsets) > 0).all())


def _read_arrays(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        arrays = np.load(path, allow_pickle=False)
        return arrays if isinstance(arrays, np.ndarray) else dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        raise damaged(path) from None


def damaged(path: Path) -> InputError:
    """Return what to say of a file whose content does not fit."""
    return InputError(
        f"{path}: its content does not fit the dataset it belongs to; copy the folder or run preprocess again."
    )
