"""What every reader of a source returns: one record a picture, and what it had to refuse."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

Box = tuple[float, float, float, float]  # x, y, width, height in pixels, from the upper left corner
Split = Literal["train", "test"]
TEST_EVERY = 10  # one picture in so many is for testing, where the source names no split


@dataclasses.dataclass(frozen=True)
class Record:
    """A picture that has not been read yet, and its captions."""

    name: str  # path in the source, with /
    path: Path
    box: Box | None  # around the bird; None: the whole picture counts
    class_name: str | None  # None: a class of its own
    split: Split | None  # None: by the hash of the name
    captions: tuple[str, ...]
    attributes: dict[str, Any] | None = None  # what a drawn bird shows


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A picture that cannot be used, and why."""

    file: str
    reason: str


@dataclasses.dataclass
class Source:
    """Everything a reader found."""

    kind: str  # "cub" or "captioned folder"
    records: list[Record] = dataclasses.field(default_factory=list)
    rejected: list[Rejection] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    palette: dict[str, Any] | None = None  # of drawn birds: colour name -> red, green, blue

    def reject(self, file: str, reason: str) -> None:
        """Note a picture that cannot be used; what is no Unicode in its name is spelled out."""
        self.rejected.append(Rejection(*(text.encode(errors="backslashreplace").decode() for text in (file, reason))))


def split_by_hash(name: str) -> Split:
    """Return the split of a picture whose source names none: by its name's sha256, one in ten is for testing."""
    digest = hashlib.sha256(name.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % TEST_EVERY == 0 else "train"


def number_classes(records: Sequence[Record]) -> list[int]:
    """Return each picture's class as a number from 0, in the order of the names (CUB's begin with their id).

    A picture without a class is a class of its own; these come last.
    """
    keys = [(record.class_name is None, record.class_name or record.name) for record in records]
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return [numbers[key] for key in keys]
