"""COCO's captions -> the same records: one JSON file for all pictures, or one for each split."""

from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from attngan.data.records import Source, Split
from attngan.data.sources import picture_list
from attngan.data.sources.picture_list import PictureList, UnusableLine
from attngan.data.sources.source_files import CHUNK, Unreadable, content_of, entries_of, opened, shown
from attngan.storage import json_text

FOLDERS = ("", "annotations")  # that the files may lie in
KEYS = (b'"images"', b'"annotations"', b'"caption"')
LONGEST_KEY = max(map(len, KEYS))
Id = int | str


class _Content(TypedDict):
    images: list[Any]
    annotations: list[Any]


def find(folder: Path) -> list[Path]:
    """Return the .json files of a folder, or of `annotations/` in it, that have images, annotations and captions."""
    paths = [path for name in FOLDERS for path in entries_of(folder / name) if path.suffix.lower() == ".json"]
    return [path for path in paths if _has_keys(path)]


def read(lists: list[Path], folder: Path, root: Path) -> Source:
    """Read the captions of each image.

    Args:
        lists: as `find` returns them.
        folder: that they were found in.
        root: the folder with the pictures, which may lie in folders of it such as `train2017/`.

    Raises:
        InputError: a file is no JSON of this kind. What is wrong with a single entry is a rejection instead.
    """
    pictures = PictureList("COCO captions", root)
    for path, split in zip(lists, picture_list.splits_of(lists, folder), strict=True):
        expected = 'an object with the lists "images" and "annotations"'
        text = content_of(path, json_text.MAX_BYTES)
        content = json_text.parse(text, shown(str(path)), _Content, expected=expected, mend="mend the file")
        _take(content, path.relative_to(folder).as_posix(), pictures, split)
    return pictures.finish()


def _take(content: _Content, name: str, pictures: PictureList, split: Split | None) -> None:
    captions: dict[Id, list[str]] = {}
    for number, entry in enumerate(content["annotations"], start=1):
        with pictures.line(f"{name}, annotation {number}"):
            caption = _object(entry).get("caption")
            if not isinstance(caption, str):
                raise UnusableLine(f'expected "caption" to be a text, found {str(caption)[:80]!r}')
            captions.setdefault(_id(entry, "image_id"), []).append(caption)
    known: set[Id] = set()
    for number, entry in enumerate(content["images"], start=1):
        with pictures.line(f"{name}, image {number}"):
            identifier = _id(_object(entry), "id")
            if identifier in known:
                raise UnusableLine(f"the id {str(identifier)[:80]} is that of an earlier image too")
            known.add(identifier)
            file = picture_list.checked_file(entry.get("file_name"), '"file_name"')
            pictures.add(file, captions.get(identifier, []), split=split)
    if unknown := [identifier for identifier in captions if identifier not in known]:
        count, first = sum(len(captions[identifier]) for identifier in unknown), shown(str(unknown[0]))
        pictures.source.warnings.append(
            f"{shown(name)}: annotations of images that it does not have: {count:,}, the first of image {first}"
        )


def _object(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise UnusableLine("expected a JSON object")
    return entry


def _id(entry: dict[str, Any], key: str) -> Id:
    identifier = entry.get(key)
    if not isinstance(identifier, Id) or isinstance(identifier, bool):
        raise UnusableLine(f'expected "{key}" to be a number or a text, found {str(identifier)[:80]!r}')
    return identifier


def _has_keys(path: Path) -> bool:
    """Return whether a file has all that COCO's captions have; its other files have as many bytes as a film."""
    missing, before = set(KEYS), b""
    try:
        with opened(path) as file:
            while missing and (chunk := file.read(CHUNK)):
                seen = before + chunk
                missing -= {key for key in missing if key in seen}
                before = seen[-LONGEST_KEY:]
    except (Unreadable, OSError):
        return False
    return not missing
