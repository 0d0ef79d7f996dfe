"""The dataset folder as training reads it: memory-mapped pictures, encoded captions, and `Batch`.

A split holds `pixels.bin` (uint8, H x W x 3 of each picture, one after another), `images.npy` (N, 3: offset, height,
width), `captions.npz` (word ids of all captions, and where captions and pictures begin) and `records.jsonl`.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from attngan import artifacts
from attngan.data import dataset_files, transforms
from attngan.data.captions import Vocabulary, pad
from attngan.data.dataset_writer import PIXELS, RECORDS
from attngan.errors import InputError

_CPU = torch.device("cpu")
FORMAT_VERSION = 1  # of dataset.json and the split folders


@dataclasses.dataclass(frozen=True)
class Batch:
    """B pictures, each with one caption.

    Attributes:
        images: coarse to fine, each (B, 3, H, W) in [-1, 1]; fewer where a process reads only its part of the batch.
        word_ids: (B, T) int64, 0 pads; T is the length of the longest caption here.
        lengths: (B,) int64, words of each caption, at least 1.
        class_ids: (B,) int64.
        indices: (B,) int64, which pictures of the split these are.
    """

    images: list[Tensor]
    word_ids: Tensor
    lengths: Tensor
    class_ids: Tensor
    indices: Tensor | None = None

    @property
    def is_padding(self) -> Tensor:
        """(B, T) bool, True where the caption has no word."""
        return self.word_ids == 0

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on another device."""
        images = [image.to(device, non_blocking=True) for image in self.images]
        words = self.word_ids.to(device), self.lengths.to(device)
        return Batch(images, *words, self.class_ids.to(device), self.indices)

    def first(self, count: int) -> "Batch":
        """Return a batch of the first pictures of this one."""
        parts = (self.word_ids, self.lengths, self.class_ids, self.indices)
        return Batch(
            [image[:count] for image in self.images], *(None if part is None else part[:count] for part in parts)
        )


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
        self._index = dataset_files.read_index(self._folder, self.resolution)
        arrays = dataset_files.read_captions(self._folder, len(self._index), len(self.vocabulary))
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
        device: torch.device | str = "cpu",
    ) -> Batch:
        """Cut random squares, flip at random, choose a random caption for each picture (released code: get_imgs).

        Args:
            image_indices: B pictures.
            resolutions: sides in pixels, coarse to fine.
            max_words: longer captions lose words at random; the rest keeps its order.
            generator: every random number comes from it.
            part: of the batch, whose pictures are read; captions, and random numbers, are those of the whole batch.
            device: where the batch is wanted: its pictures are sent there as bytes, and resized there.
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
        is_flipped = draws[3][part] < 0.5
        pixels = transforms.cut_squares(self._pictures(indices[part]), draws[:2].T[part], self.resolution, is_flipped)
        return self._batch(indices, pixels, pad(ids), resolutions, torch.device(device))

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
        self,
        indices: list[int],
        pixels: Tensor,
        words: tuple[Tensor, Tensor],
        resolutions: Sequence[int],
        device: torch.device = _CPU,
    ) -> Batch:
        if max(resolutions) > self.resolution:
            raise InputError(
                f"{self._folder.parent}: its pictures are stored for {self.resolution} pixels, {max(resolutions)} are "
                f"asked for; run preprocess again with data.resolution={max(resolutions)}."
            )
        if device.type == "cuda":
            pixels = pixels.pin_memory().to(device, non_blocking=True)
        images = transforms.pyramid(pixels, resolutions)
        return Batch(images, *words, self.class_ids[indices], torch.tensor(indices)).to(device)

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
