"""What readers of lists share: safe names, where a picture lies, wrong lines, several captions of one picture."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from attngan.data.records import Record, Source, Split
from attngan.data.sources.source_files import (
    EXTRA,
    Unreadable,
    entries_of,
    is_extra,
    is_there,
    is_utf8,
    leads_out,
    list_lines,
    pictures_below,
)
from attngan.errors import InputError
from attngan.storage import json_text

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "val", "valid", "validation", "dev"), "test"),
}


class UnusableLine(ValueError):
    """Why one line of a list describes no picture."""


class PictureList:
    """Collects what the lines of one or several lists say of pictures.

    Args:
        kind: of the source.
        root: folder that the pictures lie in.
    """

    def __init__(self, kind: str, root: Path):
        self.root, self.source = root, Source(kind=kind)
        self._pictures: dict[str, _Picture] = {}
        self._names: dict[tuple[str, PurePath | str, Split | None], str] = {}  # of pictures, as lines have them
        self._place = ""

    @contextlib.contextmanager
    def line(self, place: str) -> Iterator[None]:
        """Read one line of a list in the block; where that ends with an UnusableLine, the line is rejected."""
        self._place = place
        try:
            yield
        except UnusableLine as error:
            self.source.reject(place, str(error))

    def add(
        self,
        file: str,
        captions: Sequence[str],
        *,
        class_name: str | None = None,
        split: Split | None = None,
        folder: PurePath | str = "",
    ) -> None:
        """Take what a line says; a picture that stands in an earlier one gets further captions.

        Args:
            file: path of the picture, checked by `checked_file`.
            captions: blank ones do not count.
            class_name: None where the line does not say.
            split: None where neither the line nor its list says.
            folder: of the root, that the path is relative to.
        """
        key = (file, folder, split)
        if key not in self._names:
            self._names[key] = self._located(PurePosixPath(folder, file), split)
            self.source.named.add(self.root / self._names[key])
        name = self._names[key]
        picture = self._pictures.setdefault(name, _Picture(self._place))
        for what, before, now in (("class", picture.class_name, class_name), ("split", picture.split, split)):
            if before is not None and now not in (None, before):
                raise UnusableLine(f"{name[:80]!r}: its {what} is {now[:80]!r}, in an earlier line {before[:80]!r}")
        picture.class_name, picture.split = picture.class_name or class_name, picture.split or split
        picture.captions += [caption.strip() for caption in captions if caption.strip()]

    def finish(self) -> Source:
        """Return the source with a record for each picture; one without any caption is rejected with its first line."""
        for name, picture in self._pictures.items():
            if not picture.captions:
                self.source.reject(picture.place, f"{name[:80]!r} has no caption")
                continue
            captions = tuple(picture.captions)
            self.source.records.append(
                Record(name, self.root / name, None, picture.class_name, picture.split, captions)
            )
        return self.source

    def _located(self, path: PurePosixPath, split: Split | None) -> str:
        """Return the name of a picture: the path that a list has, or that path in the one folder that it lies in."""
        if is_there(self.root / path):
            return path.as_posix()
        found = [each for each in self._by_name.get(path.name, []) if each.parts[-len(path.parts) :] == path.parts]
        of_split = [each for each in found if split and split_named(each.parent.as_posix()) == split]
        found = of_split or found
        if len(found) > 1:
            one, other = (f"{str(each.parent)[:80]!r}" for each in sorted(found)[:2])
            raise UnusableLine(f"{path.name[:80]!r} lies in {one} and in {other}; write the folder into the list")
        return found[0].as_posix() if found else path.as_posix()

    @functools.cached_property
    def _by_name(self) -> dict[str, list[PurePath]]:
        """All pictures there are, for lists that leave the folder out."""
        found: dict[str, list[PurePath]] = {}
        for path in pictures_below(self.root):
            if is_utf8(path.as_posix()):
                found.setdefault(path.name, []).append(path)
        return found


@dataclasses.dataclass
class _Picture:
    place: str  # of the first line that names it
    captions: list[str] = dataclasses.field(default_factory=list)
    class_name: str | None = None
    split: Split | None = None


def checked_file(file: Any, what: str) -> str:
    """Return a picture's path as a list has it; UnusableLine says what is wrong with it, and calls it `what`."""
    if not isinstance(file, str) or leads_out(file):
        raise UnusableLine(f"expected {what} to be a path below the folder, found {str(file)[:80]!r}")
    if is_extra(PurePosixPath(file)):
        raise UnusableLine(f"{file[:80]!r}: {EXTRA}")
    return file


def json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Give the lines of a list of JSON objects that are not blank, each with its number.

    Raises:
        Unreadable: see `list_lines`; or all of it is one JSON array.
    """
    numbered = enumerate(list_lines(path, "save it as UTF-8"), start=1)
    lines = [(number, line) for number, line in numbered if line.strip()]
    if lines and lines[0][1].lstrip().startswith(b"[") and lines[-1][1].rstrip().endswith(b"]"):
        raise Unreadable(path, "expected one JSON object a line, found a JSON array")
    yield from lines


def json_line(line: bytes) -> dict[str, Any]:
    """Return the object of a line of JSON; UnusableLine says why there is none."""
    try:
        entry = json_text.parse(line, "line", mend="mend the line")
    except InputError as error:
        raise UnusableLine(str(error).removeprefix("line: ").rstrip(".")) from None
    if not isinstance(entry, dict):
        raise UnusableLine("expected a JSON object")
    return entry


def split_named(name: str) -> Split | None:
    """Return the split that the name of a list or folder says, such as `captions_val2017`; None for none or both."""
    found = {SPLIT_NAMES[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def splits_of(lists: Sequence[Path], folder: Path) -> list[Split | None]:
    """Return the split that each list's name says; None for all where they do not name both."""
    named = [split_named(path.relative_to(folder).as_posix()) for path in lists]
    return named if {"train", "test"} <= set(named) else [None] * len(lists)


def here_or_in_splits(folder: Path, *names: str) -> list[Path]:
    """Return the lists of these names in a folder, or else in the folders of it that are named after a split."""
    found = [folder / name for name in names if is_there(folder / name)]
    if found:
        return found
    below = [path for path in entries_of(folder) if path.name.lower() in SPLIT_NAMES]
    return [path / name for path in below for name in names if is_there(path / name)]
