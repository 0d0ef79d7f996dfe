"""A step's result folder: made beside what is there, and put in its place when it is whole.

Every step passes here, so this is where an output is kept from costing what was there: it may not be an input, hold one
or lie inside one; files that attngan did not write are neither replaced nor removed; and an earlier result stays
complete until the new one is. While a result is made it lies in `unfinished/` inside its folder, which one process at a
time holds.
"""

import contextlib
import fnmatch
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from attngan.errors import InputError, TransientError
from attngan.storage import artifacts, folder_lock, json_text, uris
from attngan.storage.artifacts import MANIFEST

UNFINISHED = "unfinished"  # inside a result folder, until the result is whole
MARK = ".attngan"  # inside that: it is ours; locked by the process that works there
REPLACED = ".replaced.json"  # inside that: manifest of the result that is being replaced

_MODEL = ("config.yaml", "vocabulary.json", "generator.safetensors", "text_encoder.safetensors")
_WATCHED = ("progress.html", "metrics.jsonl", "tensorboard/events.*")
HOLDS = {  # what a folder of each kind may hold
    "dataset": (
        *("dataset.json", "vocabulary.json", "config.yaml", "contact-sheet.jpg"),
        *(f"{split}/{name}" for split in ("train", "test") for name in ("pixels.bin", "*.npy", "*.npz", "*.jsonl")),
    ),
    "damsm": ("*_encoder.safetensors", "vocabulary.json", "config.yaml", "retrieval.json", *_WATCHED),
    "generator": (*_MODEL, *_WATCHED, "film.webp", "samples/step-*.png"),
    "metrics": ("metrics.json", "report.html"),
    "gallery": ("index.html", "[0-9][0-9][0-9]*-*.png"),
    "bundle": (*_MODEL, "provenance.json", "README.md", "pictures/[0-9][0-9].png"),
    "onnx": ("text_encoder.onnx", "generator.onnx", "vocabulary.json", "onnx.json"),
}


@contextlib.contextmanager
def result(folder: Path, kind: str, *, inputs: Iterable[Path | None], is_watched: bool = False) -> Iterator[Path]:
    """Give a folder to make a result in; it takes its place in `folder` when the block ends without an exception.

    The block writes files and, last, their manifest (`artifacts.finish`).

    Args:
        folder: of the result; what it holds of an earlier one stays until the new one is whole.
        kind: of the result, such as "dataset".
        inputs: every file and folder that is read for it, other results of the same step too.
        is_watched: people look at what is being made, so it stays where the block ends early.

    Raises:
        InputError: the folder is an input, holds one or lies inside one; files of others stand in the way; or another
            process makes a result there. Nothing was written then.
    """
    uris.check_apart([folder], inputs)
    _check_folder(folder)
    draft, is_new = folder / UNFINISHED, not folder.exists()
    with _held(draft):
        try:
            if (draft / MANIFEST).is_file():  # an earlier process ended while it put its result in place
                _put_in_place(draft, folder)
            _check_free(folder, kind)
            _empty(draft)
            yield draft
            _put_in_place(draft, folder)
        except BaseException:
            is_begun = any(path.name != MARK for path in draft.iterdir())
            if not ((is_watched and is_begun) or (draft / MANIFEST).is_file()):
                _remove(draft)
                if is_new:
                    with contextlib.suppress(OSError):  # others have put something there meanwhile
                        folder.rmdir()
            raise
        _remove(draft)


def check_free(folder: Path, kind: str) -> None:
    """Refuse what `result` would refuse to make a result in, before other work is done for it; nothing is written."""
    _check_folder(folder)
    _check_draft(folder / UNFINISHED)
    if not (folder / UNFINISHED / MANIFEST).is_file():  # else an earlier process ended while it put its result in place
        _check_free(folder, kind)


def in_the_way(names: Iterable[str], kind: str, own: Collection[str]) -> str | None:
    """Return the first file in a result folder that a new result could replace and that no earlier one wrote.

    Args:
        names: files in the folder, relative to it.
        kind: of the new result.
        own: files of the earlier result.
    """
    patterns = HOLDS[kind]
    strangers = (name for name in names if name not in own)
    return next((name for name in strangers if any(_fits(name, each) for each in patterns)), None)


def belongs(name: str, kind: str) -> bool:
    """Return whether a result of this kind may hold a file of this name: what another manifest says is not ours."""
    return any(_fits(name, pattern) for pattern in HOLDS[kind])


def _fits(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def check_replaceable(manifest: dict[str, Any], folder: str | Path, kind: str) -> None:
    """Refuse to replace a complete result of another kind."""
    if manifest["kind"] != kind:
        raise InputError(
            f"{folder}: expected a place for the {kind}, found a complete {manifest['kind']} folder; name another one."
        )


def refusal(folder: str | Path, name: str) -> InputError:
    """Return what to say of a file that stands in the way of a result."""
    return InputError(
        f"{folder}/{name}: stands in the way of the result, and no earlier result here wrote it; move it away, or name "
        "another folder."
    )


def _check_free(folder: Path, kind: str) -> None:
    """Make sure that a result can take its place in `folder` once it is whole."""
    own = _names_of_result(folder, kind)
    for name in (*HOLDS[kind], *own):
        _check_no_link(folder, name)
        if name in own and (folder / name).is_dir():
            raise refusal(folder, name)  # which an earlier result wrote as a file
    places = {folder / PurePosixPath(pattern).parent for pattern in HOLDS[kind]}
    found = (entry for place in places if place.is_dir() for entry in place.iterdir())
    if (name := in_the_way((entry.relative_to(folder).as_posix() for entry in found), kind, own)) is not None:
        raise refusal(folder, name)


def _names_of_result(folder: Path, kind: str) -> set[str]:
    """Return the files of the complete result of this kind in a folder, none where there is no result."""
    if not os.path.lexists(folder / MANIFEST):
        return set()
    try:
        manifest = artifacts.read_manifest(folder)
    except InputError:
        raise refusal(folder, MANIFEST) from None
    check_replaceable(manifest, folder, kind)
    return set(manifest["files"])


def _check_no_link(folder: Path, name: str) -> None:
    """Refuse a name whose folders are links or files: a result would land elsewhere."""
    for above in [*PurePosixPath(name).parents][:-1]:
        place = folder / above
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise refusal(folder, str(above))


@contextlib.contextmanager
def _held(draft: Path) -> Iterator[None]:
    """Make the folder for what is unfinished, and keep other processes out of it while the block runs."""
    _check_draft(draft)
    mark = _marked(draft)
    try:
        yield
    finally:
        os.close(mark)


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder for the result, found a file; name another --out.")


def _check_draft(draft: Path) -> None:
    is_there = os.path.lexists(draft)
    if is_there and (draft.is_symlink() or not draft.is_dir() or draft.is_mount() or not _is_ours(draft)):
        raise refusal(draft.parent, UNFINISHED)


def _marked(draft: Path) -> int:
    """Return the mark of a draft that this process holds, as a file that stays open."""
    while True:
        draft.mkdir(parents=True, exist_ok=True)
        try:
            mark = folder_lock.lock(draft / MARK)
        except BlockingIOError:
            raise TransientError(
                f"{draft.parent}: another process is making a result there; wait for it, or name another folder."
            ) from None
        if folder_lock.is_at(mark, draft / MARK):
            return mark
        os.close(mark)  # of a draft that took its place meanwhile


def _is_ours(draft: Path) -> bool:
    mark = draft / MARK
    return (mark.is_file() and not mark.is_symlink()) or not any(draft.iterdir())


def _empty(draft: Path) -> None:
    """Remove what an earlier process left."""
    for path in draft.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


def _remove(draft: Path) -> None:
    """Remove a draft, its mark last: where a process ends meanwhile, the next one knows it for ours."""
    with contextlib.suppress(OSError):
        _empty(draft)
        shutil.rmtree(draft)


def _put_in_place(draft: Path, folder: Path) -> None:
    """Move a whole result to its place; where a process ends in the middle, the next one goes on here."""
    new = artifacts.read_manifest(draft)
    replaced = draft / REPLACED
    if replaced.is_file():
        old = set(json_text.read(replaced, artifacts.Manifest)["files"])
    else:
        old = _names_of_result(folder, new["kind"])
        for name in (*new["files"], MANIFEST):
            _check_no_link(folder, name)
            if os.path.lexists(folder / name) and (draft / name).exists() and name not in (*old, MANIFEST):
                raise refusal(folder, name)
        if old:
            os.replace(folder / MANIFEST, replaced)
    for name in new["files"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (draft / name).exists():
            os.replace(draft / name, folder / name)
    for name in (name for name in old - new["files"].keys() if belongs(name, new["kind"])):
        (folder / name).unlink(missing_ok=True)
        for above in [*PurePosixPath(name).parents][:-1]:
            with contextlib.suppress(OSError):  # something of others is in it
                (folder / above).rmdir()
    os.replace(draft / MANIFEST, folder / MANIFEST)
