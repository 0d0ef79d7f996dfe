"""CUB-200-2011 (Wah et al. 2011) with the captions of Reed et al. (2016) -> records; drawn birds share the layout."""

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from attngan.data.records import Attributes, Box, Record, Source
from attngan.data.sources.source_files import (
    EXTRA,
    NOT_UTF8,
    Unreadable,
    is_extra,
    is_there,
    leads_out,
    lines_in_bytes,
    lines_of,
    shown,
)
from attngan.errors import InputError
from attngan.storage import json_text

KIND = "cub"
# Classes of the test split of Reed et al. (2016), which text-to-image work on CUB uses since; 50 of 200.
TEST_CLASSES = frozenset(
    int(number)
    for number in """
    1 4 6 8 9 14 23 29 31 33 34 35 36 37 38 43 49 51 53 66 72 79 83 84 86 91 95 96 98 101 102 103 112 114 119 121 130
    135 138 147 156 163 165 166 180 183 185 186 187 197
    """.split()
)
IMAGES, BOXES, LABELS, CLASSES = "images.txt", "bounding_boxes.txt", "image_class_labels.txt", "classes.txt"
OWN_TEST_CLASSES, ATTRIBUTES, PALETTE = "test_classes.txt", "attributes.jsonl", "palette.json"
WRONG_LINES_SHOWN = 20  # of one list; the others are counted

Palette = dict[str, Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]]


def find_layout(source: Path) -> Path | None:
    """Return the folder with `images.txt`: the source, or one folder in it; None where there is none."""
    if is_there(source / IMAGES):
        return source
    found = sorted(path.parent for path in source.glob(f"*/{IMAGES}") if not is_extra(path.relative_to(source)))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{source}: expected one folder with {IMAGES}, found it in {names}; name one as the source.")
    return found[0] if found else None


def read(root: Path, captions: Path | None = None, *, beside: Path | None = None) -> Source:
    """Read the lists of a CUB folder and the captions of its images; no picture is opened.

    The split goes by class, so that test classes are never seen in training: `test_classes.txt` where the source has
    one (drawn birds), else the published test classes. `train_test_split.txt` is ignored on purpose: it divides every
    class, and text-to-image work does not use it.

    Args:
        root: the folder with `images.txt`.
        captions: folder with the captions; None: `text/` in the root or beside it.
        beside: folder where the captions may be too; where the root is of an archive, what lies beside that.

    Raises:
        InputError: a list is missing or malformed, or there are no captions. What is wrong with a single image is a
            rejection instead.
    """
    source = Source(kind=KIND)
    files = _read_list(root / IMAGES, _as_text)
    boxes, labels = _read_list(root / BOXES, _as_box), _read_list(root / LABELS, _as_number)
    classes = _read_list(root / CLASSES, _as_text)
    test_classes = _test_classes(root)
    if not files:
        raise InputError(f"{root / IMAGES}: expected lines such as '1 CLASS/FILE.jpg', found none.")
    for name, listed in ((BOXES, boxes), (LABELS, labels)):
        if surplus := sorted(listed.keys() - files.keys()):
            source.warnings.append(f"{name}: {len(surplus)} image ids are not in {IMAGES}, the first is {surplus[0]}")
    texts = _text_folder(root, captions, beside, list(files.values()))
    attributes = _attributes(root)
    first_ids: dict[PurePosixPath, int] = {}
    for number, file in files.items():
        first = first_ids.setdefault(PurePosixPath(file), number)
        reason = _list_fault(file, number, boxes, labels, classes)
        if first != number:
            reason = f"its id is {number} in {IMAGES}, and {first} too; expected one"
        lines = _captions(texts, file) if reason is None else []
        if isinstance(lines, str):
            reason = lines
        if reason is not None:
            source.reject(file, reason)
            continue
        source.records.append(
            Record(
                name=file,
                path=root / "images" / file,
                box=boxes[number],
                class_name=classes[labels[number]],
                split="test" if labels[number] in test_classes else "train",
                captions=tuple(lines),
                attributes=attributes.get(file),
            )
        )
    source.palette = _palette(root)
    return source


def caption_lines(path: Path) -> list[str] | str:
    """Return the captions of a text file, one a line that is not blank, or why there are none."""
    try:
        lines = [line.strip() for line in lines_of(path)]
    except Unreadable as error:
        return f"captions: {shown(path.name)}: {error.reason}"
    return [line for line in lines if line] or f"captions: {shown(path.name)} is empty"


def _read_list(path: Path, convert: Callable[[str], Any]) -> dict[int, Any]:
    """Read lines of an id and a value."""
    values: dict[int, Any] = {}

    def take(line: str) -> None:
        identifier, _, rest = line.partition(" ")
        number, value = int(identifier), convert(rest.strip())
        if number in values:
            raise ValueError(f"the id {number} stands in an earlier line too, expected one")
        values[number] = value

    _take_lines(path, take)
    return values


def _take_lines(path: Path, take: Callable[[str], None]) -> None:
    """Hand on each line that is not blank, and say of all lines together what is wrong with them (ValueError)."""
    wrong: list[str] = []
    others = 0
    for number, content in enumerate(lines_in_bytes(path), start=1):
        try:
            line = content.decode().strip()
            if line:
                take(line)
            continue
        except UnicodeDecodeError:
            reason = NOT_UTF8
        except ValueError as error:
            reason = f"{error}, found {line[:80]!r}"
        if len(wrong) < WRONG_LINES_SHOWN:
            wrong.append(f"line {number}: {reason}")
        else:
            others += 1
    if wrong:
        more = f"; and {others:,} more lines" if others else ""
        raise InputError(f"{path}, {'; '.join(wrong)}{more}.")


def _as_text(text: str) -> str:
    if not text:
        raise ValueError("expected a number and a name")
    return text


def _as_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected two whole numbers") from None


def _as_box(text: str) -> Box:
    try:
        x, y, width, height = (float(number) for number in text.split())
    except ValueError:
        raise ValueError("expected a number and the box's x, y, width and height") from None
    return x, y, width, height


def _as_class(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected one class id a line") from None


def _test_classes(root: Path) -> frozenset[int]:
    path = root / OWN_TEST_CLASSES
    if not is_there(path):
        return TEST_CLASSES
    classes: set[int] = set()
    _take_lines(path, lambda line: classes.add(_as_class(line)))
    return frozenset(classes)


def _list_fault(
    file: str, number: int, boxes: dict[int, Box], labels: dict[int, int], classes: dict[int, str]
) -> str | None:
    """Return what the lists lack for an image, if anything."""
    if leads_out(file):
        return "its path leads out of images/"
    if is_extra(PurePosixPath(file)):
        return EXTRA
    if number not in boxes:
        return f"no line for its id {number} in {BOXES}"
    if number not in labels:
        return f"no line for its id {number} in {LABELS}"
    if labels[number] not in classes:
        return f"its class {labels[number]} is not in {CLASSES}"
    return None


def _text_folder(root: Path, captions: Path | None, beside: Path | None, files: list[str]) -> Path:
    """Return the folder that holds `<class>/<image>.txt`."""
    places = [root / "text", root.parent / "text"] if captions is None else []
    if (given := captions or beside) is not None:
        places += [given / "text", given, *sorted(given.glob("*/text")), *sorted(given.glob("*/"))]
    known = [file for file in files if not leads_out(file)]
    for place in places:
        if place.is_dir() and any(os.path.isfile((place / file).with_suffix(".txt")) for file in known):
            return place
    where = given if given is not None else " or ".join(str(place) for place in places)
    raise InputError(
        f"{where}: no captions found; expected CLASS/IMAGE.txt for the images of {root}, one caption a line."
    )


def _captions(texts: Path, file: str) -> list[str] | str:
    return caption_lines((texts / file).with_suffix(".txt"))


def _attributes(root: Path) -> dict[str, dict[str, Any]]:
    """Return what drawn birds show, by file; nothing for photographs."""
    path = root / ATTRIBUTES
    entries: dict[str, dict[str, Any]] = {}

    def take(line: str) -> None:
        try:
            entry: Any = json_text.parse(line, ATTRIBUTES, Attributes)
        except InputError:
            entry = {}
        if not isinstance(entry.get("file"), str):
            raise ValueError(
                'expected a JSON object with "file", and with the parts that each caption names in "named"'
            )
        entries[entry["file"]] = entry

    if is_there(path):
        _take_lines(path, take)
    return entries


def _palette(root: Path) -> dict[str, Any] | None:
    path = root / PALETTE
    if not is_there(path):
        return None
    expected = "a JSON object, colour name to [red, green, blue] of 0 to 255"
    return json_text.read(path, Palette, expected=expected, mend="mend it, or remove it")
