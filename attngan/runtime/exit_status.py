"""What a command tells the shell: 0 done, 2 for what a person can put right, 130/143 when interrupted, 1 for a bug."""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from attngan.errors import InputError, is_lasting, shown

PERSON = 2
INTERRUPTED = 130
TERMINATED = 143
PODS = ("KFP_POD_NAME", "PET_NNODES")  # Kubeflow Pipelines and Trainer set these in the pods of a run's steps
MAY_PASS = "this may pass: "  # how a sentence begins in their logs where another try need not end in the same way

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_PLACES = (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)
# What else a path, or the disk behind it, can do that has no class of its own: too long a name, links in a circle, a
# disk that may only be read, a device that is not there or fails, a file too large, too many open, one that is run.
_OTHERS = {
    getattr(errno, name)
    for name in ("ENAMETOOLONG", "ELOOP", "EROFS", "ENXIO", "ENODEV", "EIO", "EFBIG", "EMFILE", "ENFILE", "ETXTBSY")
}
LONGEST = 200  # characters of a path in a sentence
LONGEST_SENTENCE = 20_000


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would be, so that whoever saves its state on one does on the other."""


@contextlib.contextmanager
def reported(folder: Path | str | None = None) -> Iterator[None]:
    """Turn what stops the block into one line on standard error and the right exit status; a bug keeps its traceback.

    Args:
        folder: where the block writes, named when the disk is full.
    """
    before = signal.signal(signal.SIGTERM, terminate)
    print_anything()
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
        is_marked = not is_lasting(error) and any(name in os.environ for name in PODS)
        _say(f"{MAY_PASS}{sentence}" if is_marked else sentence)
        raise SystemExit(PERSON) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def explain(error: BaseException, folder: Path | str | None = None) -> str | None:
    """Return the sentence for an error that a person can put right, None for a bug."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            place = _shown_path(cause.filename2 or cause.filename or folder or Path.cwd())  # a copy's target is second
            return f"{place}: {_FULL[cause.errno]}; make room there, then run the same command again."
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, _PLACES) and error.filename:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        return f"{_shown_path(error.filename)}: {reason}; check the path and who may read and write it."
    if isinstance(error, OSError) and error.errno in _OTHERS:
        place = error.filename or folder or Path.cwd()
        return f"{_shown_path(place)}: {os.strerror(error.errno).lower()}; check the path, and the disk behind it."
    # No text of ours is outside of ASCII, and no file that we write is anything but UTF-8.
    if isinstance(error, UnicodeEncodeError):
        found = shown(error.object[max(0, error.start - 20) : error.end + 20])
        return f"expected text that can be written as {error.encoding}, found {found}; say it in other characters."
    if isinstance(error, UnicodeDecodeError):
        found = shown(repr(error.object[max(0, error.start - 20) : error.end + 20]))
        return f"expected text in {error.encoding}, found other bytes ({found}); save the file as UTF-8."
    return None


def print_anything() -> None:
    """Let standard output take every text: what its encoding has no word for is written as an escape.

    Captions hold any letter and file names any byte, and neither is worth a step that has worked for hours.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _shown_path(place: object) -> str:
    return shown(os.fsdecode(place) if isinstance(place, str | bytes | os.PathLike) else str(place), limit=LONGEST)


def terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """Answer SIGTERM as Ctrl-C is answered."""
    raise Terminated


def _say(sentence: str) -> None:
    print(
        f"attngan: {shown(sentence, LONGEST_SENTENCE)}", file=sys.stderr, flush=True
    )  # one line, whatever a name holds
