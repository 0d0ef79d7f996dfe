"""Result folders: complete when `manifest.json`, written last, is there; every file in it is named with its sha256.

A folder has a kind ("dataset", "damsm", "generator", "metrics", "gallery", "bundle"), a format version, a fingerprint
over its content, and whatever facts its step wants to keep (config, commit, counts).
"""

import contextlib
import hashlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO, NotRequired

from pydantic import AfterValidator
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

import attngan
from attngan.errors import InputError, shown
from attngan.storage import json_text

FORMAT_VERSION = 1
# Of what runs keep for going on. Raise it by hand when the code computes other numbers (those in tests/golden change):
# states of before are then left alone, and a run begins anew. Other edits of the code do not concern a state.
STATE_VERSION = 1
MANIFEST = "manifest.json"
MADE_BY = {  # the step that writes a folder of each kind
    "dataset": "preprocess",
    "damsm": "pretrain-damsm",
    "generator": "train-generator",
    "metrics": "evaluate",
    "gallery": "export-samples",
    "bundle": "export-samples",
    "onnx": "export-onnx",
}
CARD = "README.md"  # for people, who may edit it: it must be there, and may say anything


def _stays_inside(name: str) -> str:
    """Refuse the name of a file that lies elsewhere than in its folder, or that no file can have."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name or name in (".", MANIFEST):
        raise ValueError(f"the file name {shown(name)} leads out of the folder, or is no file's")
    return name


FileName = Annotated[str, AfterValidator(_stays_inside)]


class File(TypedDict):
    """What a manifest says of a file."""

    bytes: int
    sha256: str


class Manifest(TypedDict):
    """What every manifest holds; facts of its step stand beside it."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    kind: str
    format_version: int
    fingerprint: str
    revision: str
    files: dict[FileName, File]


class MetricsManifest(Manifest):
    """Of a `metrics` folder."""

    generator: str
    figures: dict[str, float]
    not_learnt: NotRequired[list[str]]  # why, in sentences


class BundleManifest(Manifest):
    """Of a `bundle`."""

    generator: str


FACTS = {"metrics": MetricsManifest, "bundle": BundleManifest}  # what other steps read in a manifest of this kind


@contextlib.contextmanager
def atomic_file(path: Path, *, replaces: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` and rename it to `path` when the block ends without an exception.

    The content is flushed to the disk before the rename: after a crash either the old file or the new one is there.

    Args:
        path: of the file.
        replaces: a file that is there gives way; else FileExistsError, where the file system knows hard links.
    """
    handle = (path.parent / f".{path.name}.{secrets.token_hex(4)}.part").open("xb")  # with the rights of any new file
    try:
        with handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        if replaces or not _link(handle.name, path):
            os.replace(handle.name, path)
    except BaseException:
        Path(handle.name).unlink(missing_ok=True)
        raise


def _link(draft: str, path: Path) -> bool:
    """Give a file its name where nothing has it, and return whether the file system can do that."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:
        return False
    os.unlink(draft)
    return True


def write_text(path: Path, text: str) -> None:
    """Write a whole text file atomically, as UTF-8."""
    with atomic_file(path) as handle:
        handle.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a whole JSON file atomically; not-a-number is refused, since JSON has no word for it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finish(
    folder: Path, kind: str, files: list[str], *, digests: Mapping[str, str] | None = None, **facts: Any
) -> dict[str, Any]:
    """Declare `folder` complete: write its manifest over the named files, and return it.

    Args:
        folder: holds every file of `files`.
        kind: what the folder is, checked by `check`.
        files: paths relative to the folder; only these belong to the result.
        digests: sha256 of files for which it is known; the others are read.
        facts: anything JSON can hold, kept in the manifest.
    """
    entries = {name: _describe(folder / name, (digests or {}).get(name)) for name in sorted(files)}
    manifest = {
        "kind": kind,
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint({name: entry["sha256"] for name, entry in entries.items()}),
        "attngan": attngan.__version__,
        "revision": code_revision(),
        **facts,
        "files": entries,
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def check(folder: Path, kind: str, *, contents: bool = False) -> dict[str, Any]:
    """Return the manifest of a complete result folder, or say in one sentence why it is none.

    Args:
        folder: the result folder.
        kind: the kind it must be of.
        contents: also compare every file's sha256 (its size always is); of `CARD` neither.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected the {kind} folder that an earlier step wrote.")
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder}: no {MANIFEST}, so it is no finished {kind}; give the folder that {MADE_BY[kind]} wrote, or run "
            "it again."
        )
    manifest = read_manifest(folder, kind)
    for name, entry in manifest["files"].items():
        _compare(folder, name, entry, contents=contents)
    return manifest


def read_manifest(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """Return the manifest of a folder, of this kind where one is named and with the facts that its readers rely on.

    Raises:
        InputError: it is no manifest, of another kind, or of another version.
    """
    path, expected = folder / MANIFEST, "a manifest of attngan"
    manifest = json_text.read(path, Manifest, expected=expected, mend="copy the whole folder again")
    if kind is not None and manifest["kind"] != kind:
        raise InputError(f"{folder}: expected a {kind} folder, found a {manifest['kind']} folder.")
    if manifest["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{folder}: its format version is {manifest['format_version']}, this attngan ({attngan.__version__}) "
            f"reads {FORMAT_VERSION}; write it again with this version, or install the one that wrote it."
        )
    facts = FACTS.get(manifest["kind"], Manifest)
    return json_text.shaped(manifest, str(path), facts, expected=f"{expected} for a {manifest['kind']} folder")


def fingerprint(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return a file's sha256."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def checked_sha256(path: Path, expected: str, setting: str, *, where: str | None = None) -> str:
    """Return the sha256 of a file of weights that others made; InputError if it is not the one that was promised.

    Args:
        path: the file.
        expected: the sha256, or its first digits; "" for any.
        setting: which says so.
        where: what the user calls the file; None for its path.
    """
    where = where or str(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{where}: expected a file of weights, found {found}.")
    found = sha256_of(path)
    if not found.startswith(expected.lower()):
        raise InputError(
            f"{where}: expected sha256 {expected}, found {found}; copy the file again, or correct {setting}."
        )
    return found


def code_revision() -> str:
    """Return the commit this code is at: ATTNGAN_REVISION (set in the image), else git's word, else "unknown"."""
    if os.environ.get("ATTNGAN_REVISION"):
        return os.environ["ATTNGAN_REVISION"]
    source = Path(attngan.__file__).resolve().parent
    if not (source.parent / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _describe(path: Path, digest: str | None) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": digest or sha256_of(path)}


def _compare(folder: Path, name: str, entry: dict[str, Any], *, contents: bool) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder / MANIFEST}: the file name {name!r} leads out of the folder.")
    if not path.is_file():
        raise InputError(f"{path}: named in {MANIFEST} but not there; copy the whole folder again.")
    if name == CARD:
        return
    if path.stat().st_size != entry["bytes"]:
        raise InputError(
            f"{path}: expected {entry['bytes']:,} bytes, found {path.stat().st_size:,}; copy the whole folder again."
        )
    if contents and sha256_of(path) != entry["sha256"]:
        raise InputError(f"{path}: its content is not what {MANIFEST} says (sha256); copy the whole folder again.")
