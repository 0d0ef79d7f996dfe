"""A folder that takes one run at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from attngan.errors import TransientError

LOCK = ".attngan.lock"


def lock(path: Path, *, waits: bool = False) -> int:
    """Return a file that this process has locked, for as long as it stays open; made if it is not there.

    On a file system that knows no locks nobody is kept out.

    Args:
        path: of the file.
        waits: until no other process has it.

    Raises:
        BlockingIOError: another process has it.
    """
    # Nothing is written there, and no link followed: the name may be somebody else's.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        if isinstance(error, OSError) and not isinstance(error, BlockingIOError):
            return handle  # a file system that knows no locks
        os.close(handle)
        raise
    return handle


def is_at(handle: int, path: Path) -> bool:
    """Return whether an open file is the one at a path: not one that was removed, or replaced."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    return False


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep other runs out of a run's folder while the block runs."""
    handle, is_new = _locked(out)
    try:
        yield
    finally:
        try:
            if is_new and {path.name for path in out.iterdir()} <= {LOCK}:
                (out / LOCK).unlink(missing_ok=True)  # while it is locked: who opened it meanwhile makes another one
                with contextlib.suppress(OSError):
                    out.rmdir()
        finally:
            os.close(handle)


def _locked(out: Path) -> tuple[int, bool]:
    """Return the lock of a run's folder, as a file that stays open, and whether the folder was made for it."""
    while True:
        is_new = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        try:
            handle = lock(out / LOCK)
        except FileNotFoundError:
            continue  # a run that has ended meanwhile removed the folder
        except BlockingIOError:
            raise TransientError(f"{out}: another run is at work there; wait for it, or name another --out.") from None
        if is_at(handle, out / LOCK):
            return handle, is_new
        os.close(handle)  # of a folder that is gone
