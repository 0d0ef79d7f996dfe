"""What every reader of a source returns: one record a picture, and what it had to refuse."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from attngan.errors import InputError, shown

Box = tuple[float, float, float, float]  # x, y, width, height in pixels, from the upper left corner
Split = Literal["train", "test"]
CaptionLabels = list[
    list[tuple[int, int]]
]  # of each picture, of each of its captions: its class, and its text's number
TEST_EVERY = 10  # one picture in so many is for testing, where the source names no split ...
LEAST_TEST = 8  # ... but at least so many, or half of them: figures of fewer say little
MAX_REJECTED = 1_000_000  # pictures and lines of a source, which are held in memory and written down


class Attributes(TypedDict):
    """What a drawn bird shows: the colour of each part, and for each of its captions the parts that it names."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    file: NotRequired[str]
    named: NotRequired[list[list[str]]]


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

    kind: str  # such as "cub" or "captioned folder"
    records: list[Record] = dataclasses.field(default_factory=list)
    rejected: list[Rejection] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    palette: dict[str, Any] | None = None  # of drawn birds: colour name -> red, green, blue
    named: set[Path] = dataclasses.field(default_factory=set)  # pictures that a list names, be it in a line of no use

    def reject(self, file: str, reason: str) -> None:
        """Note a picture, or a line of a list, that cannot be used; what is no Unicode in it is spelled out.

        Raises:
            InputError: there are far too many of them.
        """
        if len(self.rejected) == MAX_REJECTED:
            first = self.rejected[0]
            raise InputError(
                f"more than {MAX_REJECTED:,} pictures or lines of the source cannot be used, the first is "
                f"{shown(first.file)}: {shown(first.reason)}; mend or remove them."
            )
        self.rejected.append(Rejection(*(text.encode(errors="backslashreplace").decode() for text in (file, reason))))


def split_by_hash(name: str) -> Split:
    """Return the split of a picture whose source names none: by its name's sha256, one in ten is for testing."""
    return "test" if _draw(name) % TEST_EVERY == 0 else "train"


def divide(records: Sequence[Record]) -> dict[Split, list[Record]]:
    """Return the pictures of each split, in their order.

    A picture of which the source names no split goes by the hash of its name; where that leaves fewer than `LEAST_TEST`
    for testing, and fewer than half, those with the lowest hashes follow.
    """
    unnamed = [record for record in records if record.split is None]
    tests = {record.name for record in unnamed if split_by_hash(record.name) == "test"}
    tests_named = sum(record.split == "test" for record in records)
    wanted = min(LEAST_TEST, len(records) // 2) - tests_named
    for record in sorted(unnamed, key=lambda record: (_draw(record.name), record.name)):
        if len(tests) >= wanted:
            break
        tests.add(record.name)
    divided: dict[Split, list[Record]] = {"train": [], "test": []}
    for record in records:
        divided[record.split or ("test" if record.name in tests else "train")].append(record)
    return divided


def _draw(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def caption_labels(class_ids: Iterable[int], captions: Sequence[Sequence[str]]) -> CaptionLabels:
    """Return class and number of the text for every caption of each picture; sentences that share one may fit."""
    numbers = {text: number for number, text in enumerate(sorted({text for each in captions for text in each}))}
    return [
        [(class_id, numbers[text]) for text in of_picture]
        for class_id, of_picture in zip(class_ids, captions, strict=True)
    ]


def number_classes(records: Sequence[Record]) -> list[int]:
    """Return each picture's class as a number from 0, in the order of the names (CUB's begin with their id).

    A picture without a class is a class of its own; these come last.
    """
    keys = [(record.class_name is None, record.class_name or record.name) for record in records]
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return [numbers[key] for key in keys]
