"""Write the dataset folder: for each split four files, the pictures one after another in one of them."""

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from attngan.data.dataset_files import CAPTIONS, INDEX, PIXELS, RECORDS
from attngan.data.records import Record
from attngan.storage import artifacts


class PixelWriter:
    """Appends pictures to one file, and remembers where each of them lies."""

    def __init__(self, write: Callable[[memoryview], object]):
        self._write = write
        self._hash = hashlib.sha256()
        self._offset = 0
        self.index: list[tuple[int, int, int]] = []  # offset, height, width of each picture

    def append(self, pixels: np.ndarray) -> None:
        """Add one picture, (H, W, 3) uint8."""
        height, width, _ = pixels.shape
        content = np.ascontiguousarray(pixels).data
        self._write(content)
        self._hash.update(content)
        self.index.append((self._offset, height, width))
        self._offset += pixels.size

    def digest(self) -> str:
        """Return the sha256 of the file so far, which then nobody has to read again for it."""
        return self._hash.hexdigest()


@contextlib.contextmanager
def pixel_writer(folder: Path) -> Iterator[PixelWriter]:
    """Open `pixels.bin` of a split; it is there, whole, once the block has ended without an exception."""
    folder.mkdir(parents=True, exist_ok=True)
    with artifacts.atomic_file(folder / PIXELS) as handle:
        yield PixelWriter(handle.write)


def write_split(
    folder: Path,
    *,
    index: Sequence[tuple[int, int, int]],
    records: Sequence[Record],
    class_ids: Sequence[int],
    word_ids: Sequence[Sequence[Sequence[int]]],
) -> None:
    """Write everything of a split but its pixels.

    Args:
        folder: of the split.
        index: offset, height and width of each of N pictures in `pixels.bin`.
        records: the N pictures' records, with the captions that are kept.
        class_ids: the N pictures' classes.
        word_ids: for each picture, for each of its captions, the ids of its words.
    """
    captions = [caption for of_image in word_ids for caption in of_image]
    arrays = {
        "word_ids": np.array([word for caption in captions for word in caption], dtype=np.int32),
        "word_offsets": _offsets([len(caption) for caption in captions]),
        "caption_offsets": _offsets([len(of_image) for of_image in word_ids]),
        "class_ids": np.array(class_ids, dtype=np.int64),
    }
    with artifacts.atomic_file(folder / INDEX) as handle:
        np.save(handle, np.array(index, dtype=np.int64).reshape(-1, 3), allow_pickle=False)
    with artifacts.atomic_file(folder / CAPTIONS) as handle:
        _write_arrays(handle, arrays)
    lines = [_line(record, class_id) for record, class_id in zip(records, class_ids, strict=True)]
    artifacts.write_text(folder / RECORDS, "".join(lines))


def _write_arrays(handle: BinaryIO, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz whose bytes depend on the arrays alone; those of `np.savez` depend on Python's version too."""
    with zipfile.ZipFile(handle, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())


def content_digests(folder: Path, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the sha256 of each file that training reads: vocabulary, and pixels, index and captions of both splits.

    Args:
        folder: of the dataset.
        known: of files that need not be read for it.
    """
    names = [
        "vocabulary.json",
        *(f"{split}/{name}" for split in ("train", "test") for name in (PIXELS, INDEX, CAPTIONS)),
    ]
    return {name: (known or {}).get(name) or artifacts.sha256_of(folder / name) for name in names}


def content_fingerprint(digests: Mapping[str, str]) -> str:
    """Return one sha256 over those of all that training reads (`content_digests`)."""
    lines = [f"{name} {digest}\n" for name, digest in digests.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    """Return where each of N parts begins, and where the last one ends: N + 1 numbers."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.array(lengths, dtype=np.int64))])


def _line(record: Record, class_id: int) -> str:
    entry = {
        "name": record.name,
        "class_name": record.class_name,
        "class_id": class_id,
        "captions": list(record.captions),
        "attributes": record.attributes,
    }
    return json.dumps(entry) + "\n"
