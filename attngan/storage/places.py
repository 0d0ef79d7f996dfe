"""Where steps read and write: local paths and URIs of cloud storage behind the same few calls.

`read` and `write` are for the pointers, small files that several runs look at: a write says which generation it
replaces, and fails if that is gone.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

import torch.distributed as dist

from attngan.errors import Changed, InputError
from attngan.runtime import distributed, scratch
from attngan.storage import artifacts, cloud, folder_lock
from attngan.storage.cloud import Generation
from attngan.storage.uris import is_remote, join

LOCK = ".attngan-write.lock"  # of all pointers in a folder on this machine; not the one that a whole run holds


def keyed(root: str, name: str, key: Any) -> str:
    """Return the folder below `root` that belongs to a step and to all that shapes its result, as JSON can hold it.

    What another version of the code computed otherwise (`artifacts.STATE_VERSION`) has another folder.
    """
    return join(root, f"{name}-{artifacts.fingerprint([artifacts.STATE_VERSION, key])[:16]}")


def fetch(uri: str, into: Path) -> Path:
    """Copy an object of cloud storage, or all below a prefix, into the folder `into`, each checked by its checksum.

    Returns:
        The file or folder, named like the last part of `uri`.
    """
    try:
        return cloud.of(uri).fetch(uri, into)
    except OSError as error:
        error.filename = error.filename or str(into)  # the disk that is full, for whoever says it
        raise


@overload
def local_input(uri: str) -> contextlib.AbstractContextManager[Path]: ...
@overload
def local_input(uri: None) -> contextlib.AbstractContextManager[None]: ...
@overload
def local_input(uri: str | None) -> contextlib.AbstractContextManager[Path | None]: ...
@contextlib.contextmanager
def local_input(uri: str | None) -> Iterator[Path | None]:
    """Give an input as a local path while the block runs; None stays None, and "" is none."""
    if uri is not None and not uri.strip():
        raise InputError("expected the path or the URI of an input, found an empty name; give one.")
    if uri is None or not is_remote(uri):
        yield None if uri is None else Path(uri)
        return
    with scratch.folder("in") as folder:
        path = fetch(uri, folder)
        with told_as(uri, path):
            yield path


@contextlib.contextmanager
def told_as(uri: str, path: Path) -> Iterator[None]:
    """Let sentences name what was given, and not the copy of it here, which is gone when they are read."""
    try:
        yield
    except InputError as error:
        error.args = (str(error).replace(str(path), uri.rstrip("/")),)
        raise


@contextlib.contextmanager
def node_input(uri: str | None) -> Iterator[Path | None]:
    """Give an input as `local_input` does, once for all processes of a node; it is gone when all have left."""
    if distributed.world_size() == 1 or uri is None or not is_remote(uri):
        with local_input(uri) as path:
            yield path
        return
    node = os.environ.get("GROUP_RANK", "0")
    with contextlib.ExitStack() as stack:
        fetches = os.environ["LOCAL_RANK"] == "0"
        path = str(stack.enter_context(local_input(uri))) if fetches else None
        told: list[Any] = [None] * distributed.world_size()
        dist.all_gather_object(told, (node, path))
        here = next(Path(path) for where, path in told if path and where == node)
        with told_as(uri, here):
            yield here
        dist.all_gather_object(told, None)  # nobody reads any more


def send(path: Path, uri: str) -> None:
    """Move a whole local file to `uri`; a local `uri` lies in the same file system."""
    if is_remote(uri):
        folder, _, name = uri.rpartition("/")
        cloud.of(uri).upload([(path, name)], folder)
        path.unlink()
    else:
        path.replace(uri)


def names(uri: str) -> list[str]:
    """Return the names, relative to it, of all files below a folder, sorted; a folder that is not there has none.

    Links are followed, as whoever opens a file by its name follows them; a folder with two names has the first.
    """
    if is_remote(uri):
        return cloud.of(uri).names(uri)
    return sorted(path.relative_to(uri).as_posix() for path in paths_below(Path(uri)) if os.path.isfile(path))


def paths_below(folder: Path) -> Iterator[Path]:
    """Give what lies in a folder at any depth and is no folder; links to folders are followed.

    Each folder is read once, by the first of its names in the order of names, however its disk lists it.
    """
    waiting, seen = [folder], set()
    while waiting:
        now = waiting.pop()
        real = os.path.realpath(now)
        if real in seen:  # of two names, or a link to a folder above, which would never end
            continue
        seen.add(real)
        try:
            paths = [now / name for name in sorted(os.listdir(now))]
        except OSError:
            continue  # what cannot be read shows nothing
        folders = []
        for path in paths:
            if os.path.isdir(path):
                folders.append(path)
            else:
                yield path
        waiting += reversed(folders)


def modified(uri: str) -> float:
    """Return when a file was written, in seconds since 1970."""
    return cloud.of(uri).modified(uri) if is_remote(uri) else Path(uri).stat().st_mtime


def remove(uri: str) -> None:
    """Remove a file if it is there."""
    if is_remote(uri):
        cloud.of(uri).remove(uri)
    else:
        Path(uri).unlink(missing_ok=True)


def fingerprint(*uris: str) -> str:
    """Return a digest of the names and contents of files and of all files below folders; "" stands for nothing.

    Cloud storage is not downloaded: it keeps a checksum of every object. So the same pictures have one fingerprint
    there and another one here.
    """
    return artifacts.fingerprint([_contents(uri) if uri else {} for uri in uris])


def read(uri: str) -> tuple[bytes, Generation]:
    """Return the content of a small file and its generation; nothing and 0 where there is none."""
    if is_remote(uri):
        return cloud.of(uri).read(uri) or (b"", 0)
    try:
        if (size := Path(uri).stat().st_size) > cloud.MAX_READ:
            raise cloud.too_large(uri, size)
        content = Path(uri).read_bytes()
    except FileNotFoundError:
        return b"", 0
    return content, _generation(content)


def write(uri: str, content: bytes, *, generation: Generation) -> Generation:
    """Write a small file if it still is of `generation` (0: if there is none), and return its new generation.

    Raises:
        Changed: somebody else has written it since.
    """
    if is_remote(uri):
        return cloud.of(uri).write(uri, content, generation=generation)
    path = Path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = folder_lock.lock(path.parent / LOCK, waits=True)  # between looking and replacing
    try:
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
        return cloud.of(uri).contents(uri)
    if not Path(uri).exists():
        raise InputError(f"{uri}: no such file or folder.")
    if Path(uri).is_file():
        return {"": artifacts.sha256_of(Path(uri))}
    return {name: artifacts.sha256_of(Path(uri) / name) for name in names(uri)}


def copy(files: list[tuple[Path, str]], uri: str) -> None:
    """Copy local files into a folder, each under its name."""
    if is_remote(uri):
        cloud.of(uri).upload(files, uri)
        return
    for path, name in files:
        target = Path(uri) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with artifacts.atomic_file(target) as to, path.open("rb") as handle:
            shutil.copyfileobj(handle, to, 2**20)


def _generation(content: bytes) -> int:
    """Return what stands for a local file's generation: its content says whether it was changed."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") | 1
