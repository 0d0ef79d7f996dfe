"""A folder that takes one run at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from attngan.errors import TransientError

LOCK = ".attngan.lock"


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep other runs out of a run's folder while the block runs."""
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    # Nothing is written there, and no link followed: the name may be somebody else's.
    lock = os.open(out / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransientError(f"{out}: another run is at work there; wait for it, or name another --out.") from None
        except OSError:
            pass  # a file system that knows no locks
        yield
    finally:
        os.close(lock)
        if is_new and {path.name for path in out.iterdir()} <= {LOCK}:
            (out / LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                out.rmdir()
