"""What lies in the folder for temporary files (TMPDIR): folders that outlive no run for long, and mapped numbers."""

import contextlib
import errno
import fcntl
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from attngan.errors import InputError

if TYPE_CHECKING:  # whoever needs a folder alone does not wait for torch
    import torch

SUFFIX = ".scratch"  # of folders that may be removed as soon as no process holds them
ZEROS = bytes(2**20)
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def folder(purpose: str) -> Iterator[Path]:
    """Give an empty folder for temporary files, which goes when the block ends.

    A killed process leaves its folder behind: whoever asks for one next, for any purpose, removes those that no living
    process holds.

    Args:
        purpose: a word for people who look into the folder for temporary files.
    """
    place = Path(tempfile.gettempdir())
    _remove_abandoned(place)
    path, lock = _held_folder(place, purpose)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _held_folder(place: Path, purpose: str) -> tuple[Path, int | None]:
    """Make a folder and lock it; where the file system knows no locks, its name is one that nobody clears."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"attngan-{purpose}-", suffix=SUFFIX, dir=place))
        try:
            lock = _locked(path)
        except OSError:
            path.rmdir()
            return Path(tempfile.mkdtemp(prefix=f"attngan-{purpose}-", dir=place)), None
        if lock is not None:
            return path, lock


def _locked(path: Path) -> int | None:
    """Return a descriptor that holds a folder until it is closed; None where another process has taken or removed it.

    Raises:
        OSError: the file system knows no locks, or the folder is somebody else's.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):  # else it was removed between the two calls
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _remove_abandoned(place: Path) -> None:
    for path in place.glob(f"attngan-*{SUFFIX}"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.getuid() and (lock := _locked(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def check_room(folder: Path, size: int, what: str, *, instead: str = "") -> None:
    """Make sure that there is room for a file, before it is written and found too large in the middle.

    Args:
        folder: of the file.
        size: of the file in bytes.
        what: in it, for people.
        instead: what else than a larger disk could help, from the comma on.

    Raises:
        InputError: there is not.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise _no_room(folder, size, what, f"{free / 1e9:,.1f} GB free", instead)


def take_room(file: IO[bytes], size: int, folder: Path, what: str, *, instead: str = "") -> None:
    """Make a file `size` bytes long and take the room on the disk; what it holds stays, what is new is zero.

    A mapped file with holes in it ends the process (SIGBUS) when the disk is full: nothing can be said then.

    Args:
        file: open for writing.
        size: in bytes.
        folder: of the file, named when it is full.
        what: in the file, for people.
        instead: what else than a larger disk could help, from the comma on.

    Raises:
        InputError: the disk is full.
    """
    found = None
    try:
        _allocate(file, size)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        found = os.strerror(error.errno).lower()
    if found is not None:  # outside of the handler, so that no other disk is taken for the full one
        raise _no_room(folder, size, what, found, instead)


def _allocate(file: IO[bytes], size: int) -> None:
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    left = size - file.seek(0, os.SEEK_END)
    while left > 0:
        left -= file.write(ZEROS[:left])
    file.flush()
    os.fsync(file.fileno())  # some file systems look for the room only now


def _no_room(folder: Path, size: int, what: str, found: str, instead: str) -> InputError:
    return InputError(
        f"{folder}: {what} need {size / 1e9:,.1f} GB, found {found}; set TMPDIR to a larger disk{instead}."
    )


def write_through(path: Path) -> None:
    """Wait until the disk has what was written to a file, through a mapping of it too (Linux)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mapped_zeros(shape: Sequence[int], dtype: "torch.dtype", what: str) -> "torch.Tensor":
    """Return zeros in a mapped file that has no name: nothing is left of it however the process ends.

    So the system need not hold them in memory.

    Args:
        shape: of the tensor.
        dtype: of the tensor.
        what: these numbers are, for people.

    Raises:
        InputError: there is no room for the file.
    """
    import torch

    place, size = Path(tempfile.gettempdir()), math.prod(shape) * dtype.itemsize
    check_room(place, size, what)
    with tempfile.TemporaryFile(dir=place) as file:
        take_room(file, size, place, what)
        return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype).view(*shape)
