"""The dataset folder as training reads it: memory-mapped pictures, encoded captions, and `Batch`.

A split holds `pixels.bin` (uint8, H x W x 3 of each picture, one after another), `images.npy` (N, 3: offset, height,
width), `captions.npz` (word ids of all captions, and where captions and pictures begin) and `records.jsonl`.
"""

import dataclasses
import functools
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from attngan import artifacts
from attngan.data import transforms
from attngan.data.captions import Vocabulary, pad
from attngan.data.dataset_writer import CAPTIONS, INDEX, PIXELS, RECORDS
from attngan.errors import InputError

FORMAT_VERSION = 1  # of dataset.json and the split folders


@dataclasses.dataclass(frozen=True)
class Batch:
    """B pictures, each with one caption.

    Attributes:
        images: coarse to fine, each (B, 3, H, W) in [-1, 1]; fewer where a process reads only its part of the batch.
        word_ids: (B, T) int64, 0 pads; T is the length of the longest caption here.
        lengths: (B,) int64, words of each caption, at least 1.
        class_ids: (B,) int64.
    """

    images: list[Tensor]
    word_ids: Tensor
    lengths: Tensor
    class_ids: Tensor

    @property
    def is_padding(self) -> Tensor:
        """(B, T) bool, True where the caption has no word."""
        return self.word_ids == 0

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on another device."""
        images = [image.to(device, non_blocking=True) for image in self.images]
        return Batch(images, self.word_ids.to(device), self.lengths.to(device), self.class_ids.to(device))


class Dataset:
    """One split of a dataset folder; made by `open`.

    Attributes:
        vocabulary: what the word ids mean.
        manifest: of the folder.
        info: `dataset.json`.
        resolution: side of the squares that are cut, in pixels.
        class_ids: (N,) int64.
    """

    def __init__(self, folder: Path, split: str, manifest: dict[str, Any], info: dict[str, Any]):
        self.manifest, self.info = manifest, info
        self.resolution: int = info["resolution"]
        self.vocabulary = Vocabulary.load(folder / "vocabulary.json")
        self._folder = folder / split
        self._index = _read_index(self._folder, self.resolution)
        arrays = _read_captions(self._folder, len(self._index), len(self.vocabulary))
        self.class_ids = torch.from_numpy(arrays["class_ids"])
        self._word_ids, self._word_offsets = arrays["word_ids"], arrays["word_offsets"]
        self._caption_offsets = arrays["caption_offsets"]
        self._pixels = np.memmap(self._folder / PIXELS, dtype=np.uint8, mode="r")

    @classmethod
    def open(cls, folder: Path, split: Literal["train", "test"]) -> "Dataset":
        """Open a complete dataset folder; InputError says what is missing, damaged or of another version."""
        manifest = artifacts.check(folder, "dataset")
        info = artifacts.read_json(folder / "dataset.json")
        version = info.get("format_version") if isinstance(info, dict) else None
        if version != FORMAT_VERSION:
            raise InputError(
                f"{folder}: the dataset's format version is {version}, this attngan reads {FORMAT_VERSION}; "
                "run preprocess again with this version."
            )
        return cls(folder, split, manifest, info)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def num_captions(self) -> int:
        """Captions of all pictures of the split."""
        return len(self._word_offsets) - 1

    def captions_per_image(self, image_index: int) -> int:
        """Return how many captions a picture has, at least 1."""
        return int(self._caption_offsets[image_index + 1] - self._caption_offsets[image_index])

    @functools.cached_property
    def records(self) -> list[dict[str, Any]]:
        """For each picture: name, class_name, class_id, captions (as written), attributes (of drawn birds, or None)."""
        lines = (self._folder / RECORDS).read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]

    def training_batch(
        self,
        image_indices: Tensor | Sequence[int],
        *,
        resolutions: Sequence[int],
        max_words: int,
        generator: torch.Generator,
        part: slice = slice(None),
    ) -> Batch:
        """Cut random squares, flip at random, choose a random caption for each picture (released code: get_imgs).

        Args:
            image_indices: B pictures.
            resolutions: sides in pixels, coarse to fine.
            max_words: longer captions lose words at random; the rest keeps its order.
            generator: every random number comes from it.
            part: of the batch, whose pictures are read; captions, and random numbers, are those of the whole batch.
        """
        indices = _as_list(image_indices)
        draws = torch.rand(4, len(indices), generator=generator, dtype=torch.float64)
        captions = [int(draw * self.captions_per_image(i)) for i, draw in zip(indices, draws[2].tolist(), strict=True)]
        ids = []
        for index, caption in zip(indices, captions, strict=True):
            words = self._words(index, caption)
            if len(words) > max_words:
                kept = torch.randperm(len(words), generator=generator)[:max_words].sort().values
                words = words[kept.numpy()]
            ids.append(words)
        pixels = transforms.cut_squares(self._pictures(indices[part]), draws[:2].T[part], self.resolution)
        pixels = transforms.flip(pixels, draws[3][part] < 0.5)
        return self._batch(indices, pixels, pad(ids), resolutions)

    def evaluation_batch(
        self,
        image_indices: Tensor | Sequence[int],
        caption_indices: Tensor | Sequence[int],
        *,
        resolutions: Sequence[int],
        max_words: int,
    ) -> Batch:
        """Cut the centre squares, without flip, and take the named captions.

        Args:
            image_indices: B pictures.
            caption_indices: which caption of each picture, from 0.
            resolutions: sides in pixels, coarse to fine.
            max_words: longer captions keep their first words.
        """
        indices = _as_list(image_indices)
        centre = torch.full((len(indices), 2), 0.5, dtype=torch.float64)
        pixels = transforms.cut_squares(self._pictures(indices), centre, self.resolution)
        return self._batch(indices, pixels, self.captions(indices, caption_indices, max_words=max_words), resolutions)

    def captions(
        self, image_indices: Tensor | Sequence[int], caption_indices: Tensor | Sequence[int], *, max_words: int
    ) -> tuple[Tensor, Tensor]:
        """Return word_ids (B, T) int64, 0 pads, and lengths (B,) int64 of the named captions of some pictures.

        Args:
            image_indices: B pictures.
            caption_indices: which caption of each picture, from 0.
            max_words: longer captions keep their first words.
        """
        named = zip(_as_list(image_indices), _as_list(caption_indices), strict=True)
        return pad([self._words(image, caption)[:max_words] for image, caption in named])

    def _batch(
        self, indices: list[int], pixels: Tensor, words: tuple[Tensor, Tensor], resolutions: Sequence[int]
    ) -> Batch:
        if max(resolutions) > self.resolution:
            raise InputError(
                f"{self._folder.parent}: its pictures are stored for {self.resolution} pixels, {max(resolutions)} are "
                f"asked for; run preprocess again with data.resolution={max(resolutions)}."
            )
        return Batch(transforms.pyramid(pixels, resolutions), *words, self.class_ids[indices])

    def _pictures(self, indices: list[int]) -> list[np.ndarray]:
        pictures = []
        for offset, height, width in self._index[indices].tolist():
            pictures.append(self._pixels[offset : offset + height * width * 3].reshape(height, width, 3))
        return pictures

    def _words(self, image_index: int, caption_index: int) -> np.ndarray:
        if not 0 <= caption_index < self.captions_per_image(image_index):
            raise IndexError(f"picture {image_index} has no caption {caption_index}")
        caption = self._caption_offsets[image_index] + caption_index
        return self._word_ids[self._word_offsets[caption] : self._word_offsets[caption + 1]]


def _as_list(indices: Tensor | Sequence[int]) -> list[int]:
    return indices.tolist() if isinstance(indices, Tensor) else list(indices)


def _read_index(folder: Path, resolution: int) -> np.ndarray:
    """Return the (N, 3) int64 index of a split, every entry within `pixels.bin` and large enough to cut from."""
    index = _read_arrays(folder / INDEX)
    if not isinstance(index, np.ndarray) or index.dtype != np.int64 or index.ndim != 2 or index.shape[1] != 3:
        raise _damaged(folder / INDEX)
    size = (folder / PIXELS).stat().st_size
    is_inside = (index[:, 0] >= 0) & (index[:, 0] <= size) & (index[:, 1:] >= resolution).all(axis=1)
    is_inside &= (index[:, 1:] <= size).all(axis=1)  # so that the product below cannot overflow
    if not is_inside.all() or (index[:, 0] + index[:, 1] * index[:, 2] * 3 > size).any():
        raise _damaged(folder / INDEX)
    return index


def _read_captions(folder: Path, num_images: int, vocabulary_size: int) -> dict[str, np.ndarray]:
    arrays = _read_arrays(folder / CAPTIONS)
    if not isinstance(arrays, dict) or set(arrays) != {"word_ids", "word_offsets", "caption_offsets", "class_ids"}:
        raise _damaged(folder / CAPTIONS)
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
        raise _damaged(folder / CAPTIONS)
    return arrays


def _rise(offsets: np.ndarray, *, until: int) -> bool:
    """Return whether offsets go from 0 to `until`, each part at least 1 long."""
    return bool(offsets[0] == 0 and offsets[-1] == until and (np.diff(offsets) > 0).all())


def _read_arrays(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        arrays = np.load(path, allow_pickle=False)
        return arrays if isinstance(arrays, np.ndarray) else dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        raise _damaged(path) from None


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path}: its content does not fit the dataset it belongs to; copy the folder or run preprocess again."
    )
