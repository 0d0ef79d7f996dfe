"""A folder that takes one run at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from attngan.errors import TransientError

LOCK = ".attngan.lock"


def lock(path: Path) -> int:
    """Return a file that this process has locked, for as long as it stays open; made if it is not there.

    Raises:
        BlockingIOError: another process has it.
    """
    # Nothing is written there, and no link followed: the name may be somebody else's.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        pass  # a file system that knows no locks
    return handle


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep other runs out of a run's folder while the block runs."""
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        handle = lock(out / LOCK)
    except BlockingIOError:
        raise TransientError(f"{out}: another run is at work there; wait for it, or name another --out.") from None
    try:
        yield
    finally:
        os.close(handle)
        if is_new and {path.name for path in out.iterdir()} <= {LOCK}:
            (out / LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                out.rmdir()
