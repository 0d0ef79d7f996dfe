"""What a command tells the shell: 0 done, 2 for what a person can put right, 130/143 when interrupted, 1 for a bug."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from attngan.errors import InputError

PERSON = 2
INTERRUPTED = 130
TERMINATED = 143

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_PLACES = (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would be, so that whoever saves its state on one does on the other."""


@contextlib.contextmanager
def reported(folder: Path | str | None = None) -> Iterator[None]:
    """Turn what stops the block into one line on standard error and the right exit status; a bug keeps its traceback.

    Args:
        folder: where the block writes, named when the disk is full.
    """
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        _say(str(interrupt) or "interrupted; run the same command again to go on.")
        raise SystemExit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED) from None
    except SystemExit as stop:
        if stop.code == TERMINATED:  # a training loop saved its state and left
            _say("stopped; run the same command again to go on.")
        raise
    except Exception as error:
        sentence = explain(error, folder)
        if sentence is None:
            raise
        _say(sentence)
        raise SystemExit(PERSON) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def explain(error: BaseException, folder: Path | str | None = None) -> str | None:
    """Return the sentence for an error that a person can put right, None for a bug."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            place = cause.filename2 or cause.filename or folder or Path.cwd()  # a copy's target comes second
            return f"{place}: {_FULL[cause.errno]}; make room there, then run the same command again."
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, _PLACES) and error.filename:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        return f"{os.fsdecode(error.filename)}: {reason}; check the path and who may read and write it."
    return None


def terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """Answer SIGTERM as Ctrl-C is answered."""
    raise Terminated


def _say(sentence: str) -> None:
    print(f"attngan: {sentence}", file=sys.stderr, flush=True)
