"""Where steps read and write: local paths and `gs://` URIs behind the same few calls.

A folder is complete when its manifest is there, so `deliver` sends that last. `read` and `write` are for the pointers,
small files that several runs look at: a write says which generation it replaces, and fails if that is gone.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, overload

from attngan.errors import Changed, InputError
from attngan.runtime import scratch
from attngan.storage import artifacts, json_text, result_folder
from attngan.storage.result_folder import is_remote

NOTE = f"{result_folder.UNFINISHED}/{artifacts.MANIFEST}"  # beside a result that is being delivered


def join(uri: str | Path, *names: str) -> str:
    """Return the URI or path of something below a folder."""
    return "/".join([str(uri).rstrip("/"), *names])


def keyed(root: str, name: str, key: Any) -> str:
    """Return the folder below `root` that belongs to a step and to all that shapes its result, as JSON can hold it.

    What another version of the code computed otherwise (`artifacts.STATE_VERSION`) has another folder.
    """
    return join(root, f"{name}-{artifacts.fingerprint([artifacts.STATE_VERSION, key])[:16]}")


def fetch(uri: str, into: Path) -> Path:
    """Copy an object of cloud storage, or all below a prefix, into the folder `into`, each checked by crc32c.

    Returns:
        The file or folder, named like the last part of `uri`.
    """
    try:
        return _google(uri).fetch(uri, into)
    except OSError as error:
        error.filename = error.filename or str(into)  # the disk that is full, for whoever says it
        raise


def deliver(folder: Path, uri: str) -> None:
    """Copy a result folder below `uri`, its manifest last, so that a half-written result never looks complete.

    Only the files that its manifest names are sent. An older result's manifest is removed first, and its files last; in
    cloud storage a note says meanwhile whose files these are, in case that the delivery is cut short.
    """
    manifest, old = artifacts.read_manifest(folder), _own_files(uri)
    new = manifest["files"]
    if is_remote(uri):
        note = {**manifest, "files": old | new}
        write(join(uri, NOTE), json.dumps(note).encode(), generation=read(join(uri, NOTE))[1])
    remove(join(uri, artifacts.MANIFEST))
    copy([(folder / name, name) for name in new], uri)
    for name in old.keys() - new.keys():
        remove(join(uri, name))
    copy([(folder / artifacts.MANIFEST, artifacts.MANIFEST)], uri)
    if is_remote(uri):
        remove(join(uri, NOTE))


def _deliver_files(folder: Path, uri: str) -> None:
    """Copy files that are no result folder below `uri`; what is there stays."""
    there = set(names(uri))
    new = [name for name in names(str(folder)) if name not in there]
    for name in set(names(str(folder))) & there:
        if read(join(uri, name))[0] != (folder / name).read_bytes():
            raise InputError(f"{join(uri, name)}: is there already, with other content; name another folder.")
    copy([(folder / name, name) for name in new], uri)


@overload
def local_input(uri: str) -> contextlib.AbstractContextManager[Path]: ...
@overload
def local_input(uri: None) -> contextlib.AbstractContextManager[None]: ...
@overload
def local_input(uri: str | None) -> contextlib.AbstractContextManager[Path | None]: ...
@contextlib.contextmanager
def local_input(uri: str | None) -> Iterator[Path | None]:
    """Give an input as a local path while the block runs; None stays None."""
    if uri is None or not is_remote(uri):
        yield None if uri is None else Path(uri)
        return
    with scratch.folder("in") as folder:
        yield fetch(uri, folder)


@contextlib.contextmanager
def output(uri: str, *, kind: str | None, inputs: Iterable[str | None]) -> Iterator[Path]:
    """Give a local folder for a result; one for cloud storage is delivered when the block ends without an exception.

    Args:
        uri: where the result goes; what is local is looked at by the step, whose `result_folder` knows every link.
        kind: of the result; None for files that are no result folder.
        inputs: everything that is read for it, and other outputs.

    Raises:
        InputError: cloud storage cannot be reached, the result would replace something else there, or `uri` is an
            input, holds one or lies inside one.
    """
    if not is_remote(uri):
        yield Path(uri)
        return
    result_folder.check_apart([uri], inputs)
    _google(uri).check_reachable(uri)
    if kind is not None:
        _check_replaceable(uri, kind)
    with scratch.folder("out") as place:
        folder = place / "result"
        yield folder
        if kind is None:
            _deliver_files(folder, uri)
        else:
            deliver(folder, uri)


def send(path: Path, uri: str) -> None:
    """Move a whole local file to `uri`; a local `uri` lies in the same file system."""
    if is_remote(uri):
        folder, _, name = uri.rpartition("/")
        _google(uri).upload([(path, name)], folder)
        path.unlink()
    else:
        path.replace(uri)


def names(uri: str) -> list[str]:
    """Return the names, relative to it, of all files below a folder, sorted; a folder that is not there has none."""
    if is_remote(uri):
        return _google(uri).names(uri)
    return sorted(path.relative_to(uri).as_posix() for path in Path(uri).rglob("*") if path.is_file())


def modified(uri: str) -> float:
    """Return when a file was written, in seconds since 1970."""
    return _google(uri).modified(uri) if is_remote(uri) else Path(uri).stat().st_mtime


def remove(uri: str) -> None:
    """Remove a file if it is there."""
    if is_remote(uri):
        _google(uri).remove(uri)
    else:
        Path(uri).unlink(missing_ok=True)


def fingerprint(*uris: str) -> str:
    """Return a digest of the names and contents of files and of all files below folders; "" stands for nothing.

    Cloud storage is not downloaded: it keeps a crc32c of every object. So the same pictures have one fingerprint there
    and another one here.
    """
    return artifacts.fingerprint([_contents(uri) if uri else {} for uri in uris])


def read(uri: str) -> tuple[bytes, int]:
    """Return the content of a small file and its generation; nothing and 0 where there is none."""
    if is_remote(uri):
        return _google(uri).read(uri) or (b"", 0)
    try:
        content = Path(uri).read_bytes()
    except FileNotFoundError:
        return b"", 0
    return content, _generation(content)


def write(uri: str, content: bytes, *, generation: int) -> int:
    """Write a small file if it still is of `generation` (0: if there is none), and return its new generation.

    Raises:
        Changed: somebody else has written it since.
    """
    if is_remote(uri):
        return _google(uri).write(uri, content, generation=generation)
    path = Path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nothing is written there, and no link followed: the name may be somebody else's.
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # between looking and replacing
        if read(uri)[1] != generation:
            raise Changed(uri)
        with artifacts.atomic_file(path) as handle:
            handle.write(content)
    finally:
        os.close(lock)
    return _generation(content)


def _contents(uri: str) -> dict[str, Any]:
    """Return by name what stands for the content of each file; the name of a single file is ""."""
    if is_remote(uri):
        return _google(uri).contents(uri)
    if not Path(uri).exists():
        raise InputError(f"{uri}: no such file or folder.")
    if Path(uri).is_file():
        return {"": artifacts.sha256_of(Path(uri))}
    return {name: artifacts.sha256_of(Path(uri) / name) for name in names(uri)}


def copy(files: list[tuple[Path, str]], uri: str) -> None:
    """Copy local files into a folder, each under its name."""
    if is_remote(uri):
        _google(uri).upload(files, uri)
        return
    for path, name in files:
        target = Path(uri) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with artifacts.atomic_file(target) as to, path.open("rb") as handle:
            shutil.copyfileobj(handle, to, 2**20)


def _generation(content: bytes) -> int:
    """Return what stands for a local file's generation: its content says whether it was changed."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") | 1


def _check_replaceable(uri: str, kind: str) -> None:
    """Make sure that a result can take its place in cloud storage, before it is made."""
    there, manifest = names(uri), _manifest(uri)
    if manifest is not None:
        result_folder.check_replaceable(manifest, uri, kind)
    elif artifacts.MANIFEST in there:
        raise result_folder.refusal(uri, artifacts.MANIFEST)
    name = result_folder.in_the_way(there, kind, _own_files(uri))
    if name is not None:
        raise result_folder.refusal(uri, name)


def _own_files(uri: str) -> dict[str, Any]:
    """Return what manifests say of the files in a folder: of its result, and of one whose delivery was cut short."""
    manifests = [manifest for manifest in (_manifest(uri), _manifest(uri, NOTE)) if manifest is not None]
    return {name: entry for manifest in manifests for name, entry in manifest["files"].items()}


def _manifest(uri: str, name: str = artifacts.MANIFEST) -> dict[str, Any] | None:
    """Return a manifest in a folder, None where there is none or one that attngan did not write."""
    content, _ = read(join(uri, name))
    with contextlib.suppress(InputError):
        return json_text.parse(content, uri, artifacts.Manifest)
    return None


def _google(uri: str):
    """Return the module that knows Google Cloud, or say that it is not installed."""
    try:
        from attngan.storage import google_storage
    except ImportError:
        raise InputError(
            f"{uri}: cloud storage needs google-cloud-storage; install the gcs extra of attngan, or give a local path."
        ) from None
    return google_storage
