"""What can go wrong outside of our code: what a person can put right, and a race that another run has won."""


class InputError(ValueError):
    """Something a person gave is missing, damaged or does not fit.

    The message is one sentence or two: what was expected, what was found, where, and what to do. The command line
    prints it and exits with status 2; every other exception is a bug and keeps its traceback.
    """


class TransientError(InputError):
    """What stands in the way lies outside of what was given, and may be gone when the same is tried again.

    Storage or a server that does not answer, credentials and permissions, a file that is not there yet, a device of
    this node that cannot be used, another process at the same work.
    """


def is_lasting(error: BaseException) -> bool:
    """Return whether an error is a mistake that stays one however often the same is tried.

    Where anything that it came of may pass, or is a fault of a file, a disk or a connection, it is not taken for one.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TransientError | OSError):
            return False
        cause = cause.__cause__ or cause.__context__
    return isinstance(error, InputError | UnicodeError)


class Changed(Exception):
    """What was to be replaced is no longer what it was when it was read: somebody else has written it since."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or what kind it is where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


SHOWN = 120  # characters of what was found, in a message


def shown(found: str, limit: int = SHOWN) -> str:
    """Return what a person gave as a message can hold it: on one line, of characters that print, and short."""
    text = found[:limit]
    if not text.isprintable():
        text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    return text if len(found) <= limit else f"{text}... ({len(found):,} characters)"
