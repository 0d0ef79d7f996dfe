"""The dataset folder as training reads it: memory-mapped pictures, encoded captions, and `Batch`.

A split holds `pixels.bin` (uint8, H x W x 3 of each picture, one after another), `images.npy` (N, 3: offset, height,
width), `captions.npz` (word ids of all captions, and where captions and pictures begin) and `records.jsonl`.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from attngan.data import dataset_files, transforms
from attngan.data.captions import Vocabulary, pad
from attngan.data.dataset_files import RECORDS
from attngan.data.records import Attributes, CaptionLabels, caption_labels
from attngan.errors import InputError
from attngan.storage import artifacts, json_text

_CPU = torch.device("cpu")
FORMAT_VERSION = 1  # of dataset.json and the split folders
MEND = "copy the folder or run preprocess again"


class Info(TypedDict):
    """What training reads of `dataset.json`."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    format_version: int
    resolution: Annotated[int, Field(ge=1)]


class RecordLine(TypedDict):
    """A line of `records.jsonl`: a picture, what it is called, and its captions as they were written."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    name: str
    class_name: str | None
    class_id: int
    captions: list[str]
    attributes: Attributes | None


@dataclasses.dataclass(frozen=True)
class Batch:
    """B pictures, each with one caption.

    Attributes:
        images: coarse to fine, each (B, 3, H, W) in [-1, 1]; fewer where a process reads only its part of the batch.
        word_ids: (B, T) int64, 0 pads; T is the length of the longest caption here.
        lengths: (B,) int64, words of each caption, at least 1; always on the CPU, where the text encoder wants them.
        class_ids: (B,) int64.
        indices: (B,) int64, which pictures of the split these are.
        caption_numbers: (B,) int64, which captions of the split these are, on the CPU.
        is_cut: (B,) bool, True for captions that lost words, on the CPU.
    """

    images: list[Tensor]
    word_ids: Tensor
    lengths: Tensor
    class_ids: Tensor
    indices: Tensor
    caption_numbers: Tensor
    is_cut: Tensor

    @property
    def is_padding(self) -> Tensor:
        """(B, T) bool, True where the caption has no word."""
        return self.word_ids == 0

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with pictures, words and classes on another device."""
        images = [transforms.send(image, device) for image in self.images]
        words, classes = transforms.send(self.word_ids, device), transforms.send(self.class_ids, device)
        return dataclasses.replace(self, images=images, word_ids=words, class_ids=classes)

    def first(self, count: int) -> "Batch":
        """Return a batch of the first pictures of this one."""
        images = [image[:count] for image in self.images]
        names = ("word_ids", "lengths", "class_ids", "indices", "caption_numbers", "is_cut")
        return Batch(images, **{name: getattr(self, name)[:count] for name in names})


class Dataset:
    """One split of a dataset folder; made by `open`.

    Attributes:
        vocabulary: what the word ids mean.
        manifest: of the folder.
        info: `dataset.json`.
        resolution: side of the squares that are cut, in pixels.
        pixels: of its pictures, to cut squares from.
        class_ids: (N,) int64.
    """

    def __init__(self, folder: Path, split: str, manifest: dict[str, Any], info: dict[str, Any]):
        self.manifest, self.info = manifest, info
        self.resolution: int = info["resolution"]
        self.vocabulary = Vocabulary.load(folder / "vocabulary.json")
        self._folder = folder / split
        index = dataset_files.read_index(self._folder, self.resolution)
        self.pixels = dataset_files.SplitPixels(self._folder, index)
        arrays = dataset_files.read_captions(self._folder, len(index), len(self.vocabulary))
        self.class_ids = torch.from_numpy(arrays["class_ids"])
        self._word_ids, self._word_offsets = arrays["word_ids"], arrays["word_offsets"]
        self._word_counts = np.diff(self._word_offsets)  # of each caption
        self._caption_offsets = arrays["caption_offsets"]

    @classmethod
    def open(cls, folder: Path, split: Literal["train", "test"]) -> "Dataset":
        """Open a complete dataset folder; InputError says what is missing, damaged or of another version."""
        manifest = artifacts.check(folder, "dataset")
        info = json_text.read(folder / "dataset.json", Info, expected="what preprocess says of a dataset", mend=MEND)
        version = info["format_version"]
        if version != FORMAT_VERSION:
            raise InputError(
                f"{folder}: the dataset's format version is {version}, this attngan reads {FORMAT_VERSION}; "
                "run preprocess again with this version."
            )
        return cls(folder, split, manifest, info)

    def __len__(self) -> int:
        return len(self.class_ids)

    @property
    def num_captions(self) -> int:
        """Captions of all pictures of the split."""
        return len(self._word_offsets) - 1

    @property
    def longest_caption(self) -> int:
        """Words of the longest caption of the split."""
        return int(self._word_counts.max())

    def captions_per_image(self, image_index: int) -> int:
        """Return how many captions a picture has, at least 1."""
        return int(self._caption_offsets[image_index + 1] - self._caption_offsets[image_index])

    @functools.cached_property
    def records(self) -> list[dict[str, Any]]:
        """For each picture: name, class_name, class_id, captions (as written), attributes (of drawn birds, or None)."""
        path = self._folder / RECORDS
        lines = enumerate(path.read_bytes().split(b"\n"), start=1)
        found = [
            json_text.parse(line, f"{path}, line {number}", RecordLine, expected="a picture's record", mend=MEND)
            for number, line in lines
            if line
        ]
        if [len(each["captions"]) for each in found] != np.diff(self._caption_offsets).tolist():
            raise dataset_files.damaged(path)
        return found

    def named_colours(self, image_index: int, caption: int) -> dict[str, str]:
        """Return the colours that a caption of a drawn bird names, by part; none where the palette lacks them."""
        attributes, palette = self.records[image_index]["attributes"] or {}, self.info.get("palette") or {}
        named = attributes.get("named", [])
        parts = named[caption] if caption < len(named) else []
        colours = {part: attributes.get(part) for part in parts}
        return {part: each for part, each in colours.items() if isinstance(each, str) and each in palette}

    def caption_labels(self) -> CaptionLabels:
        """Return class and text of every caption of each picture (`records.caption_labels`)."""
        return caption_labels(self.class_ids.tolist(), [record["captions"] for record in self.records])

    def are_alike(self) -> bool:
        """Return whether every picture is the same as the one half the split on, from which distances are measured."""
        count = len(self)
        return all(
            self.pixels.are_same(number, (number + count // 2) % count, self.resolution) for number in range(count)
        )

    def training_batch(
        self,
        image_indices: Tensor | Sequence[int],
        *,
        resolutions: Sequence[int],
        max_words: int,
        rng: torch.Generator,
        part: slice = slice(None),
        device: torch.device | str = "cpu",
    ) -> Batch:
        """Cut random squares, flip at random, choose a random caption for each picture (released code: get_imgs).

        Args:
            image_indices: B pictures.
            resolutions: sides in pixels, coarse to fine.
            max_words: longer captions lose words at random; the rest keeps its order.
            rng: every random number comes from it.
            part: of the batch, whose pictures are read; captions, and random numbers, are those of the whole batch.
            device: where the batch is wanted; a CUDA device resizes the pictures itself, and cuts them too if it holds
                them (`SplitPixels`).
        """
        indices, device = _as_list(image_indices), torch.device(device)
        draws = torch.rand(4, len(indices), generator=rng, dtype=torch.float64)
        captions = [int(draw * self.captions_per_image(i)) for i, draw in zip(indices, draws[2].tolist(), strict=True)]
        ids = []
        numbers = self._caption_numbers(indices, captions)
        for number in numbers.tolist():
            words = self._words(number)
            if len(words) > max_words:
                kept = torch.randperm(len(words), generator=rng)[:max_words].sort().values
                words = words[kept.numpy()]
            ids.append(words)
        places, is_flipped = draws[:2].T[part], draws[3][part] < 0.5
        squares = self.pixels.squares(indices[part], places, self.resolution, is_flipped, device)
        return self._batch(indices, squares, pad(ids), numbers, resolutions, device)

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
        is_flipped = torch.zeros(len(indices), dtype=torch.bool)
        squares = self.pixels.squares(indices, centre, self.resolution, is_flipped, _CPU)
        numbers = self._caption_numbers(indices, _as_list(caption_indices))
        words = self.captions_by_number(numbers.tolist(), max_words=max_words)
        return self._batch(indices, squares, words, numbers, resolutions, _CPU)

    def captions(
        self, image_indices: Tensor | Sequence[int], caption_indices: Tensor | Sequence[int], *, max_words: int
    ) -> tuple[Tensor, Tensor]:
        """Return word_ids (B, T) int64, 0 pads, and lengths (B,) int64 of the named captions of some pictures.

        Args:
            image_indices: B pictures.
            caption_indices: which caption of each picture, from 0.
            max_words: longer captions keep their first words.
        """
        numbers = self._caption_numbers(_as_list(image_indices), _as_list(caption_indices))
        return self.captions_by_number(numbers.tolist(), max_words=max_words)

    def captions_by_number(self, numbers: Iterable[int], *, max_words: int) -> tuple[Tensor, Tensor]:
        """Return word_ids (B, T) and lengths (B,) as `captions` does, of captions counted over the whole split."""
        return pad([self._words(number)[:max_words] for number in numbers])

    def _batch(
        self,
        indices: list[int],
        squares: Tensor,
        words: tuple[Tensor, Tensor],
        numbers: Tensor,
        resolutions: Sequence[int],
        device: torch.device,
    ) -> Batch:
        assert max(resolutions) <= self.resolution, "steps refuse a larger one"
        if device.type == "cuda":
            squares = transforms.send(squares, device)
        images = transforms.pyramid(squares, resolutions)
        is_cut = torch.from_numpy(self._word_counts[numbers.numpy()]) > words[1]
        return Batch(images, *words, self.class_ids[indices], torch.tensor(indices), numbers, is_cut).to(device)

    def _caption_numbers(self, image_indices: list[int], caption_indices: list[int]) -> Tensor:
        for image, caption in zip(image_indices, caption_indices, strict=True):
            if not 0 <= caption < self.captions_per_image(image):
                raise IndexError(f"picture {image} has no caption {caption}")
        return torch.from_numpy(self._caption_offsets[image_indices] + np.array(caption_indices))

    def _words(self, caption_number: int) -> np.ndarray:
        return self._word_ids[self._word_offsets[caption_number] : self._word_offsets[caption_number + 1]]


def _as_list(indices: Tensor | Sequence[int]) -> list[int]:
    return indices.tolist() if isinstance(indices, Tensor) else list(indices)
