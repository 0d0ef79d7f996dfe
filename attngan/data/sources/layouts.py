"""Which layout a folder has, and its reader: the one place that knows them all.

A new layout that keeps captions in lists is a file here with `find` and `read`, and a line in `LAYOUTS`.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from attngan.data.records import Source
from attngan.data.sources import captioned_folder, coco, cub, metadata, tables
from attngan.data.sources.picture_list import split_named
from attngan.data.sources.source_files import entries_of, pictures_below, shown
from attngan.errors import InputError


class Layout(NamedTuple):
    """A way to keep captions in lists.

    Attributes:
        name: what sentences call it.
        find: the lists of a folder, none where it is of another layout.
        read: these lists, the folder that they were found in, the folder with the pictures.
    """

    name: str
    find: Callable[[Path], list[Path]]
    read: Callable[[list[Path], Path, Path], Source]


class _Found(NamedTuple):
    layout: Layout
    lists: list[Path]
    folder: Path


OWN = Layout("captions.jsonl", captioned_folder.find, captioned_folder.read_list)  # attngan's own rules over the others
LAYOUTS = (
    Layout("metadata.jsonl", metadata.find, metadata.read),
    Layout("a .csv or .tsv file (or captions.txt) with columns for picture and caption", tables.find, tables.read),
    Layout("COCO captions (.json)", coco.find, coco.read),
)
EXPECTED = ", ".join(
    ["CUB-200-2011 (images.txt)", *(layout.name for layout in (OWN, *LAYOUTS)), "or NAME.txt beside each image"]
)
NOT_LISTED = "not listed, and so not used"
WITHOUT_TEXT = "not used (no text file beside it, or another kind of file)"


def read(root: Path, captions: Path | None = None, *, beside: Path | None = None) -> Source:
    """Read the captions of a folder of any layout; no picture is opened.

    CUB's layout comes first, then lists, then NAME.txt beside the images. Each is looked for in the folder and, since
    archives wrap what they hold, one folder deeper.

    Args:
        root: folder with the images, at any depth.
        captions: folder with the captions; None: the root.
        beside: folder that has the captions where the root does not; where the root is of an archive, what lies beside.

    Raises:
        InputError: there is no layout that is known, or more than one. What is wrong with a single image is a rejection
            instead.
    """
    if (birds := cub.find_layout(root)) is not None:
        source = cub.read(birds, captions, beside=beside)
        _tell_unlisted(source, birds / "images")
        return source
    places = [captions] if captions is not None else [place for place in (root, beside) if place is not None]
    for texts in places:
        found = _find(texts)
        source = _read_lists(found, root, texts) if found else captioned_folder.read_text_files(root, texts)
        if source.records or (source.rejected and (found or texts == places[-1])):
            _tell_unlisted(source, root, NOT_LISTED if found else WITHOUT_TEXT)
            return source
    unfit = [f"; {sentence}" for texts in places for sentence in tables.unfit(texts)]
    raise InputError(f"{places[-1]}: expected {EXPECTED}; found none of them{''.join(unfit[:3])}.")


def _read_lists(found: _Found, root: Path, texts: Path) -> Source:
    source = found.layout.read(found.lists, found.folder, found.folder if texts == root else root)
    if not source.records and not source.rejected:
        names = " and ".join(shown(str(path)) for path in found.lists)
        raise InputError(f"{names}: expected pictures with captions, found none; fill the list.")
    return source


def _find(texts: Path) -> _Found | None:
    """Return the lists of a folder, or of the one folder in it that has some."""
    for layouts in ([OWN], LAYOUTS):
        for folders in ([texts], _folders_in(texts)):
            found = [
                _Found(layout, lists, folder)
                for folder in folders
                for layout in layouts
                if (lists := layout.find(folder))
            ]
            if found:
                return _only(found, texts)
    return None


def _only(found: Sequence[_Found], texts: Path) -> _Found:
    """Return the one layout that was found; several lists of it must be those of splits."""
    first = found[0]
    lists = [path for each in found for path in each.lists]
    are_splits = all(split_named(path.relative_to(first.folder).as_posix()) for path in first.lists)
    if len(found) > 1 or (len(lists) > 1 and not are_splits):
        one, other = lists[0], found[1].lists[0] if len(found) > 1 else lists[1]
        names = " and ".join(shown(path.relative_to(texts).as_posix()) for path in (one, other))
        raise InputError(
            f"{texts}: expected one list of captions, found {names}; move all but one away, or name the folder of one "
            "with --captions."
        )
    return first


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in entries_of(folder) if os.path.isdir(path)]


def _tell_unlisted(source: Source, folder: Path, why: str = NOT_LISTED) -> None:
    """Note how many pictures of a folder are neither taken nor rejected, and why."""
    known = {record.path for record in source.records} | source.named
    known |= {folder / entry.file for entry in source.rejected}
    if unlisted := [name for name in pictures_below(folder) if folder / name not in known]:
        example = shown(min(name.as_posix() for name in unlisted))
        source.warnings.append(f"pictures that are {why}: {len(unlisted):,}, such as {example}")
