"""A CSV or TSV file with a header -> the same records: a row has a picture's file, captions, maybe class and split."""

import csv
import dataclasses
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from attngan.data.records import Source, Split
from attngan.data.sources import picture_list
from attngan.data.sources.picture_list import SPLIT_NAMES, PictureList, UnusableLine
from attngan.data.sources.source_files import (
    BYTE_ORDER_MARK,
    NOT_UTF8,
    Unreadable,
    entries_of,
    is_utf8,
    list_lines,
    shown,
    start_of,
)

DELIMITERS = {".csv": ",;\t|", ".tsv": "\t", ".txt": ",;\t|"}  # the first by which the header has both columns
FLICKR = "captions.txt"  # the one table that ends in .txt: of Flickr8k
# Names of columns, the best first; case does not count, and a space or a hyphen is an underscore.
FILE = ("file_name", "filename", "file", "image_path", "image_file", "image", "image_name", "img", "path")
# The same followed by a number is a further caption: caption_2, caption3.
CAPTION = ("caption", "captions", "text", "description", "sentence", "comment", "title")
CLASS = ("class", "class_name", "label", "category")
SPLIT = ("split",)
HEADER_BYTES = 2**20  # that a header may have
COLUMNS_SHOWN = 8
TO_UTF8 = "in Excel save it as 'CSV UTF-8'"


@dataclasses.dataclass(frozen=True)
class _Header:
    delimiter: str
    names: list[str]
    file: int  # number of the column
    captions: list[int]
    class_name: int | None
    split: int | None


def find(folder: Path) -> list[Path]:
    """Return the tables of a folder that have a column of files and one of captions.

    Where there is none, `metadata.csv` or `metadata.tsv` of `train/`, `test/`, `validation/` and the like.
    """
    found = _tables(folder) or picture_list.here_or_in_splits(folder, "metadata.csv", "metadata.tsv")
    return [path for path in found if _header(path) is not None]


def unfit(folder: Path) -> list[str]:
    """Say why each table of a folder is no list of captions, a sentence each."""
    return [_why_unfit(path) for path in _tables(folder) if _header(path) is None]


def read(lists: list[Path], folder: Path, root: Path) -> Source:
    """Read a picture's file and caption of each row; further rows of a picture are further captions.

    Args:
        lists: as `find` returns them.
        folder: that they were found in.
        root: the folder with the pictures.
    """
    pictures = PictureList("table", root)
    for path, split in zip(lists, picture_list.splits_of(lists, folder), strict=True):
        header, name = _header(path), path.relative_to(folder)
        if header is None:
            raise Unreadable(path, "it was changed while it was read")
        lines = [line.decode(errors="surrogateescape") for line in list_lines(path, TO_UTF8)]
        for number, row in itertools.islice(_rows(lines, header.delimiter), 1, None):
            with pictures.line(f"{name.as_posix()}, line {number}"):
                if isinstance(row, csv.Error):
                    raise UnusableLine(f"expected a row of a table, found something else ({row})")
                _take(row, header, pictures, split, name.parent)
    return pictures.finish()


def _take(row: list[str], header: _Header, pictures: PictureList, split: Split | None, folder: Path) -> None:
    if len(row) != len(header.names):
        advice = "; put text that holds the delimiter in quotes" if len(row) > len(header.names) else ""
        raise UnusableLine(f"expected {len(header.names):,} columns, found {len(row):,}{advice}")
    if not all(map(is_utf8, row)):
        raise UnusableLine(NOT_UTF8)
    file = picture_list.checked_file(row[header.file].strip(), header.names[header.file])
    class_name = None if header.class_name is None else row[header.class_name].strip() or None
    if header.split is not None and (word := row[header.split].strip().lower()):
        if word not in SPLIT_NAMES:
            raise UnusableLine(f"expected the split to be train, test or val, found {word[:80]!r}")
        split = SPLIT_NAMES[word]
    captions = [row[column] for column in header.captions]
    pictures.add(file, captions, class_name=class_name, split=split, folder=folder)


class _Lines:
    """A table's lines as the csv module wants them: it asks for one after the other, and can be sent back."""

    def __init__(self, lines: Sequence[str]):
        self._lines, self.read = lines, 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self.read == len(self._lines):
            raise StopIteration
        self.read += 1
        return f"{self._lines[self.read - 1]}\n"


def _rows(lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Give the rows that are not blank, each with its last line's number, or its first one's and what is wrong with it.

    A quote that nobody closes would take all rows after it, so reading goes on in the line after that one.
    """
    source = _Lines(lines)
    rows = csv.reader(source, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        before = source.read
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            source.read = before + 1
            yield source.read, error
        else:
            if any(map(str.strip, row)):
                yield source.read, row


def _tables(folder: Path) -> list[Path]:
    entries = [path for path in entries_of(folder) if path.suffix.lower() in DELIMITERS and not os.path.isdir(path)]
    return [path for path in entries if path.suffix.lower() != ".txt" or path.name.lower() == FLICKR]


def _header(path: Path) -> _Header | None:
    """Return the header of a table; None where it lacks a column that is needed."""
    try:
        start = start_of(path, HEADER_BYTES)
    except Unreadable:
        return None
    for delimiter in DELIMITERS[path.suffix.lower()]:
        names = _names(start, delimiter)
        file, class_name, split = (_column(names, known) for known in (FILE, CLASS, SPLIT))
        captions = _captions(names)
        if file is not None and captions:
            return _Header(delimiter, names, file, captions, class_name, split)
    return None


def _names(start: bytes, delimiter: str) -> list[str]:
    """Return the names of the columns in the first line that is not blank."""
    text = start.removeprefix(BYTE_ORDER_MARK).decode(errors="replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    _, row = next(_rows(lines, delimiter), (0, []))
    return row if isinstance(row, list) else []


def _column(names: list[str], known: tuple[str, ...]) -> int | None:
    plain = _plain(names)
    return next((plain.index(name) for name in known if name in plain), None)


def _captions(names: list[str]) -> list[int]:
    """Return the columns of captions: those of the best name, by itself and with numbers."""
    plain = _plain(names)
    found = ([i for i, each in enumerate(plain) if re.fullmatch(rf"{name}(_?\d+)?", each)] for name in CAPTION)
    return next(filter(None, found), [])


def _plain(names: list[str]) -> list[str]:
    return [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]


def _why_unfit(path: Path) -> str:
    try:
        start = start_of(path, HEADER_BYTES)
    except Unreadable as error:
        return f"{shown(path.name)}: {error.reason}"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"{shown(path.name)}: {NOT_UTF8}"
    names = _names(start, DELIMITERS[path.suffix.lower()][0])
    found = ", ".join(shown(name)[:40] for name in names[:COLUMNS_SHOWN]) or "none"
    more = f" and {len(names) - COLUMNS_SHOWN:,} more" if len(names) > COLUMNS_SHOWN else ""
    return (
        f"{shown(path.name)}: expected a header with a column for the picture ({FILE[0]}, ...) and one for the caption "
        f"({CAPTION[0]}, ...), found {found}{more}"
    )
