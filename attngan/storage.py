"""Where steps read and write: local paths and `gs://` URIs behind the same few calls.

A folder is complete when its manifest is there, so `deliver` sends that last. `read` and `write` are for the pointers,
small files that several runs look at: a write says which generation it replaces, and fails if that is gone.
"""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

from attngan import artifacts, scratch
from attngan.errors import Changed, InputError

SCHEME = "gs://"


def is_remote(uri: str | Path) -> bool:
    """Return whether `uri` names cloud storage."""
    return str(uri).startswith(SCHEME)


def join(uri: str | Path, *names: str) -> str:
    """Return the URI or path of something below a folder."""
    return "/".join([str(uri).rstrip("/"), *names])


def keyed(root: str, name: str, key: Any) -> str:
    """Return the folder below `root` that belongs to a step and to all that shapes its result, as JSON can hold it."""
    return join(root, f"{name}-{artifacts.fingerprint(key)[:16]}")


def fetch(uri: str, into: Path) -> Path:
    """Copy an object of cloud storage, or all below a prefix, into the folder `into`, each checked by crc32c.

    Returns:
        The file or folder, named like the last part of `uri`.
    """
    return _google(uri).fetch(uri, into)


def deliver(folder: Path, uri: str) -> None:
    """Copy a folder below `uri`, its manifest last, so that a half-written result never looks complete.

    Where there is a manifest, only the files it names are sent, and an older manifest at `uri` is removed first.
    """
    remove(join(uri, artifacts.MANIFEST))
    files = [(folder / name, name) for name in _names_to_deliver(folder)]
    copy([file for file in files if file[1] != artifacts.MANIFEST], uri)
    copy([file for file in files if file[1] == artifacts.MANIFEST], uri)


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
def output(uri: str) -> Iterator[Path]:
    """Give a local folder for a result; one for cloud storage is delivered when the block ends without an exception."""
    if not is_remote(uri):
        yield Path(uri)
        return
    _google(uri).check_reachable(uri)
    with scratch.folder("out") as place:
        folder = place / "result"
        yield folder
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
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # between looking and replacing
        if read(uri)[1] != generation:
            raise Changed(uri)
        with artifacts.atomic_file(path) as handle:
            handle.write(content)
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


def _names_to_deliver(folder: Path) -> list[str]:
    if (folder / artifacts.MANIFEST).is_file():
        return [*artifacts.read_manifest(folder)["files"], artifacts.MANIFEST]
    return names(str(folder))


def _google(uri: str):
    """Return the module that knows Google Cloud, or say that it is not installed."""
    try:
        from attngan import google_storage
    except ImportError:
        raise InputError(
            f"{uri}: cloud storage needs google-cloud-storage; install the gcs extra of attngan, or give a local path."
        ) from None
    return google_storage
