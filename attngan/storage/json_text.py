"""JSON that somebody may have edited, cut off or made up: read within bounds, refused in a sentence.

The one reader for every JSON file that attngan opens. What it returns holds finite numbers, text that can be written
as UTF-8, and no more levels than `MAX_DEPTH`.
"""

import difflib
import functools
import json
import math
from pathlib import Path
from typing import Any

import pydantic

from attngan.errors import InputError, shown

MAX_BYTES = 2**28  # of a file; none that attngan writes comes near
MAX_DEPTH = 100  # lists and objects inside one another
MAX_DIGITS = 400  # of a whole number
SHOWN = 120  # characters of what was found


def read(path: Path, shape: Any = Any, *, expected: str = "", mend: str = "copy the file again") -> Any:
    """Return what a JSON file holds.

    Args:
        path: the file.
        shape: a type that pydantic knows (`list[str]`, a TypedDict, ...), which the content must have.
        expected: the shape in words, such as "a list of words".
        mend: what to do about a file that does not hold it.

    Raises:
        InputError: it is not there, no JSON, or of another shape; one sentence.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'expected a file, found something else' if path.exists() else 'no such file'}.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{path}: expected JSON, found {size:,} bytes, more than {MAX_BYTES:,}; {mend}.")
    return parse(path.read_bytes(), str(path), shape, expected=expected, mend=mend)


def parse(
    content: bytes | str, where: str, shape: Any = Any, *, expected: str = "", mend: str = "copy the file again"
) -> Any:
    """Return what JSON text holds, as `read` does; `where` names it in the sentence."""
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
        _check_depth_and_text(value)
    except UnicodeDecodeError:
        raise InputError(f"{where}: expected JSON in UTF-8, found other bytes; {mend}.") from None
    except UnicodeEncodeError:
        raise InputError(f"{where}: expected JSON, found half of a surrogate pair in its text; {mend}.") from None
    except RecursionError:
        raise InputError(f"{where}: expected JSON, found {_TOO_DEEP}; {mend}.") from None
    except ValueError as error:
        found = " ".join(str(error).split())[:SHOWN] if content else "nothing: it is empty"
        raise InputError(f"{where}: expected JSON, found something else ({found}); {mend}.") from None
    return shaped(value, where, shape, expected=expected, mend=mend)


def shaped(value: Any, where: str, shape: Any, *, expected: str = "", mend: str = "copy the file again") -> Any:
    """Return a value of which the shape is known, or say what is wrong with it as `read` does."""
    try:
        return value if shape is Any else _adapter(shape).validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        what = expected or "what attngan writes there"
        detail = _detail(error.errors(), shape)
        raise InputError(f"{where}: expected {what}, found something else ({detail}); {mend}.") from None


def _detail(errors: list[Any], shape: Any) -> str:
    """Return what is wrong, in a few words; a field that is not known comes first, for it is why another is missing."""
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    place = ".".join(map(str, first["loc"]))
    if first["type"] != "extra_forbidden" or len(first["loc"]) != 1:
        return (f"{place}: {first['msg']}" if place else first["msg"])[:SHOWN]
    nearest = difflib.get_close_matches(place[:SHOWN], getattr(shape, "__annotations__", {}), n=1)
    return f"{shown(place)!r} is not known" + (f"; did you mean {nearest[0]!r}?" if nearest else "")


@functools.cache
def _adapter(shape: Any) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(shape)


_TOO_DEEP = f"lists and objects inside one another, more than {MAX_DEPTH} deep"


def _check_depth_and_text(value: Any) -> None:
    waiting = [(value, 1)]
    while waiting:
        each, depth = waiting.pop()
        if isinstance(each, str):
            each.encode()  # half of a surrogate pair cannot be written
        elif isinstance(each, dict | list):
            if depth > MAX_DEPTH:
                raise RecursionError
            if isinstance(each, dict):
                waiting += [(key, depth) for key in each]
            waiting += [(inner, depth + 1) for inner in (each.values() if isinstance(each, dict) else each)]


def _no_number(word: str) -> float:
    raise ValueError(f"{word}, which is no number")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:SHOWN]}, which no number here can be")
    return number
