"""Any folder of images with captions -> the same records: `captions.jsonl`, or NAME.txt beside NAME.jpg."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

from attngan.data.records import Box, Record, Source, Split
from attngan.data.sources.cub import EXTRA, caption_lines, leads_out
from attngan.data.sources.source_files import is_extra, is_there, lines_in_bytes
from attngan.errors import InputError
from attngan.storage import json_text

LIST = "captions.jsonl"
KEYS = ("file", "captions", "class", "box", "split")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class _UnusableLine(ValueError):
    """Why one line of the list describes no picture."""


def read(root: Path, captions: Path | None = None) -> Source:
    """Read the captions of a folder; no picture is opened.

    `captions.jsonl` rules where there is one: a line is `{"file", "captions": [...], "class"?, "box"?, "split"?}` with
    the box as [x, y, width, height]. Else every image with a text file of its name counts, one caption a line.

    Args:
        root: folder with the images, at any depth.
        captions: folder with `captions.jsonl` or the text files; None: the root.

    Raises:
        InputError: there is nothing of the kind. What is wrong with a single image is a rejection instead.
    """
    texts = captions or root
    source = Source(kind="captioned folder")
    if (folder := _list_folder(texts)) is not None:
        _read_list(source, folder / LIST, folder if captions is None else root)
    else:
        _read_text_files(source, root, texts)
    if not source.records and not source.rejected:
        raise InputError(
            f"{texts}: expected CUB-200-2011 (images.txt), {LIST}, or NAME.txt beside each image; found none of them."
        )
    return source


def _list_folder(folder: Path) -> Path | None:
    """Return the folder of `captions.jsonl`: this one, or the only one in it that has it (archives wrap folders)."""
    if is_there(folder / LIST):
        return folder
    found = [path.parent for path in folder.glob(f"*/{LIST}") if not is_extra(path.relative_to(folder))]
    return found[0] if len(found) == 1 else None


def _read_list(source: Source, path: Path, root: Path) -> None:
    seen = set()
    for line_number, line in enumerate(lines_in_bytes(path), start=1):
        if not line.strip():
            continue
        place = f"{LIST}, line {line_number}"
        try:
            record = _record(line, place, root)
            if record.name in seen:
                raise _UnusableLine(f"the file {record.name[:80]!r} stands in an earlier line too")
        except _UnusableLine as error:
            source.reject(place, str(error))
            continue
        seen.add(record.name)
        source.records.append(record)


def _record(line: bytes, place: str, root: Path) -> Record:
    try:
        entry = json_text.parse(line, place, mend="mend the line")
    except InputError as error:
        raise _UnusableLine(str(error).removeprefix(f"{place}: ").rstrip(".")) from None
    if not isinstance(entry, dict):
        raise _UnusableLine("expected a JSON object")
    if unknown := sorted(entry.keys() - set(KEYS)):
        raise _UnusableLine(f"unknown key {unknown[0][:80]!r}; expected {', '.join(KEYS)}")
    file, class_name = entry.get("file"), entry.get("class")
    if not isinstance(file, str) or leads_out(file):
        raise _UnusableLine(f'expected "file" to be a path below the folder, found {str(file)[:80]!r}')
    if is_extra(PurePosixPath(file)):
        raise _UnusableLine(f"{file[:80]!r}: {EXTRA}")
    if class_name is not None and not (isinstance(class_name, str) and class_name):
        raise _UnusableLine(f'expected "class" to be text, found {str(class_name)[:80]!r}')
    return Record(
        name=file,
        path=root / file,
        box=_box(entry.get("box")),
        class_name=class_name,
        split=_split(entry.get("split")),
        captions=_captions(entry.get("captions")),
    )


def _captions(captions: Any) -> tuple[str, ...]:
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise _UnusableLine(f'expected "captions" to be a list of texts, found {str(captions)[:80]!r}')
    return tuple(caption.strip() for caption in captions if caption.strip())


def _box(box: Any) -> Box | None:
    if box is None:
        return None
    is_list = isinstance(box, list) and len(box) == 4
    if not is_list or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in box):
        raise _UnusableLine(f'expected "box" to be [x, y, width, height], found {str(box)[:80]}')
    try:
        x, y, width, height = (float(value) for value in box)
    except OverflowError:
        raise _UnusableLine('expected "box" to hold numbers of pixels, found a far larger one') from None
    return x, y, width, height


def _split(split: Any) -> Split | None:
    if split is not None and split not in ("train", "test"):
        raise _UnusableLine(f'expected "split" to be "train" or "test", found {str(split)[:80]!r}')
    return split


def _read_text_files(source: Source, root: Path, texts: Path) -> None:
    without = []
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and not os.path.isdir(path)):
        name = path.relative_to(root)
        if is_extra(name):
            continue
        if not _is_utf8(name):
            source.reject(name.as_posix(), "its name is not UTF-8")
            continue
        text_file = (texts / name).with_suffix(".txt")
        if not is_there(text_file):
            without.append(name.as_posix())
            continue
        lines = caption_lines(text_file)
        if isinstance(lines, str):
            source.reject(name.as_posix(), lines)
        else:
            source.records.append(Record(name.as_posix(), path, None, None, None, tuple(lines)))
    if source.records or source.rejected:
        for file in without:
            source.reject(file, "captions: no text file of its name beside it")


def _is_utf8(path: Path) -> bool:
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        return False
    return True
