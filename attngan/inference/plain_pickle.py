"""Reading a pickle that holds nothing but plain values: it can run no code, and needs no more memory than its size.

Python's own unpickler, in its Python form, with everything taken away that lists, dicts, tuples, texts and numbers do
not need. (The form in C sets aside memory for whatever place in its memo a file names.)
"""

import pickle
import re
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

from attngan.errors import InputError

# Instructions by the names of `pickletools`; of those that call or build, only what numpy's numbers need.
_ALLOWED = {
    getattr(pickle, name)[0]
    for name in (
        "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
        "BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES UNICODE BINUNICODE SHORT_BINUNICODE "
        "EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
        "GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE"
    ).split()
}


def load(path: Path) -> Any:
    """Return the lists, dicts, tuples, texts, numbers and numpy numbers of a pickle; byte strings read as Latin-1.

    Raises:
        InputError: there is no such file, it is cut off, or it asks for anything else.
    """
    try:
        with path.open("rb") as handle:
            return _PlainUnpickler(handle, encoding="latin1").load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except _NotPlainError as error:
        raise InputError(
            f"{path}: expected a pickle of lists, dicts, texts and numbers, found {error}, which could run code; "
            "it was not run. Get the file from where it was published."
        ) from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way; none of it is a fault of ours
        reason = f"{type(error).__name__} {error}".strip()
        raise InputError(f"{path}: not a whole pickle ({reason}); copy the file again.") from None


class _NotPlainError(Exception):
    """The pickle asks for something that plain values do not need."""


class _NumberType:
    """Stands for `numpy.dtype`, of single numbers only."""

    def __init__(self, code: str, *_: Any):
        if not isinstance(code, str) or not re.fullmatch(r"[iu][1248]|f[248]|b1", code):
            raise _NotPlainError(f"numpy's type {code!r}")
        self.code, self.order = code, "<"


def _number(kind: Any, data: bytes | str) -> int | float | bool:
    """Stand for numpy's function that makes a number of its type and its bytes."""
    if not isinstance(kind, _NumberType):
        raise _NotPlainError(f"a number of type {kind!r}")
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, np.dtype(kind.order + kind.code), count=1)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """Stand for `_codecs.encode`, by which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise _NotPlainError(f"the encoding {encoding!r}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy", "dtype"): _NumberType,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    ("_codecs", "encode"): _encode,
}


def _refuse(unpickler: "_PlainUnpickler") -> NoReturn:
    raise _NotPlainError("an instruction beyond them")


class _PlainUnpickler(pickle._Unpickler):
    dispatch: ClassVar = {
        code: method if code in _ALLOWED else _refuse for code, method in pickle._Unpickler.dispatch.items()
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise _NotPlainError(f"{module}.{name}")
        return _STAND_INS[module, name]

    def load_build(self) -> None:
        """Set the byte order of a number's type: the one state that is restored."""
        state, kind = self.stack.pop(), self.stack[-1]
        if not isinstance(kind, _NumberType) or not isinstance(state, tuple) or state[1] not in ("<", ">", "|", "="):
            raise _NotPlainError("an object with a state")
        kind.order = state[1]

    dispatch[pickle.BUILD[0]] = load_build
