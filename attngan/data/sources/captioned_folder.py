"""attngan's own layouts of a folder of images -> records: `captions.jsonl`, or NAME.txt beside NAME.jpg."""

from pathlib import Path, PurePosixPath
from typing import Any

from attngan.data.records import Box, Record, Source, Split
from attngan.data.sources import picture_list
from attngan.data.sources.cub import caption_lines
from attngan.data.sources.picture_list import UnusableLine
from attngan.data.sources.source_files import is_there, is_utf8, pictures_below

KIND = "captioned folder"
LIST = "captions.jsonl"
KEYS = ("file", "captions", "class", "box", "split")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def find(folder: Path) -> list[Path]:
    """Return the list of a folder."""
    return [folder / LIST] if is_there(folder / LIST) else []


def read_list(lists: list[Path], folder: Path, root: Path) -> Source:
    """Read `captions.jsonl`.

    A line is `{"file", "captions": [...], "class"?, "box"?, "split"?}` with the box as [x, y, width, height].

    Args:
        lists: as `find` returns them.
        folder: that they were found in.
        root: the folder with the images.
    """
    source = Source(kind=KIND)
    seen = set()
    for path in lists:
        for line_number, line in picture_list.json_lines(path):
            place = f"{path.relative_to(folder).as_posix()}, line {line_number}"
            try:
                record = _record(line, source, root)
                if record.name in seen:
                    raise UnusableLine(f"the file {record.name[:80]!r} stands in an earlier line too")
            except UnusableLine as error:
                source.reject(place, str(error))
                continue
            seen.add(record.name)
            source.records.append(record)
    return source


def read_text_files(root: Path, texts: Path) -> Source:
    """Read the text file of each image's name, one caption a line; the source is empty where there is none.

    Args:
        root: folder with the images, at any depth.
        texts: folder with the text files; the root where they lie beside the images.
    """
    source, without = Source(kind=KIND), []
    for name in sorted(name for name in pictures_below(root) if name.suffix.lower() in SUFFIXES):
        path = root / name
        if not is_utf8(name.as_posix()):
            source.reject(name.as_posix(), "its name is not UTF-8")
            source.named.add(path)
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
    return source


def _record(line: bytes, source: Source, root: Path) -> Record:
    entry = picture_list.json_line(line)
    if isinstance(entry.get("file"), str):
        source.named.add(root / entry["file"])
    if unknown := sorted(entry.keys() - set(KEYS)):
        raise UnusableLine(f"unknown key {unknown[0][:80]!r}; expected {', '.join(KEYS)}")
    file, class_name = PurePosixPath(picture_list.checked_file(entry.get("file"), '"file"')), entry.get("class")
    if class_name is not None and not (isinstance(class_name, str) and class_name):
        raise UnusableLine(f'expected "class" to be text, found {str(class_name)[:80]!r}')
    return Record(
        name=file.as_posix(),  # however a line spells it
        path=root / file,
        box=_box(entry.get("box")),
        class_name=class_name,
        split=_split(entry.get("split")),
        captions=_captions(entry.get("captions")),
    )


def _captions(captions: Any) -> tuple[str, ...]:
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise UnusableLine(f'expected "captions" to be a list of texts, found {str(captions)[:80]!r}')
    return tuple(caption.strip() for caption in captions if caption.strip())


def _box(box: Any) -> Box | None:
    if box is None:
        return None
    is_list = isinstance(box, list) and len(box) == 4
    if not is_list or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in box):
        raise UnusableLine(f'expected "box" to be [x, y, width, height], found {str(box)[:80]}')
    try:
        x, y, width, height = (float(value) for value in box)
    except OverflowError:
        raise UnusableLine('expected "box" to hold numbers of pixels, found a far larger one') from None
    return x, y, width, height


def _split(split: Any) -> Split | None:
    if split is not None and split not in ("train", "test"):
        raise UnusableLine(f'expected "split" to be "train" or "test", found {str(split)[:80]!r}')
    return split
