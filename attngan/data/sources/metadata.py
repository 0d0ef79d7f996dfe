"""Hugging Face's ImageFolder -> the same records: `metadata.jsonl` beside the pictures, or one for each split."""

from pathlib import Path
from typing import Any

from attngan.data.records import Source
from attngan.data.sources import picture_list
from attngan.data.sources.picture_list import PictureList, UnusableLine

LIST = "metadata.jsonl"


def find(folder: Path) -> list[Path]:
    """Return the lists of a folder: its own, or those of `train/`, `test/`, `validation/` and the like."""
    return picture_list.here_or_in_splits(folder, LIST)


def read(lists: list[Path], folder: Path, root: Path) -> Source:
    """Read `{"file_name": ..., "text": ...}` of each line; other keys are other people's, and are ignored.

    Args:
        lists: as `find` returns them.
        folder: that they were found in.
        root: the folder with the pictures.
    """
    pictures = PictureList("Hugging Face metadata", root)
    for path, split in zip(lists, picture_list.splits_of(lists, folder), strict=True):
        name = path.relative_to(folder)
        for number, line in picture_list.json_lines(path):
            with pictures.line(f"{name.as_posix()}, line {number}"):
                entry = picture_list.json_line(line)
                file = picture_list.checked_file(entry.get("file_name"), '"file_name"')
                pictures.add(file, _captions(entry.get("text")), split=split, folder=name.parent)
    return pictures.finish()


def _captions(text: Any) -> list[str]:
    captions = [text] if isinstance(text, str) else text
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise UnusableLine(f'expected "text" to be a text or a list of texts, found {str(text)[:80]!r}')
    return captions
