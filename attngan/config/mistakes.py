"""Every mistake in a config in words: the setting's name, what it takes, what was found."""

import difflib
import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from attngan.errors import shown

MAX_NAMED = 10  # mistakes in one sentence


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return all mistakes as one sentence; an unknown setting comes with the nearest known one.

    Args:
        error: of validating `model`.
        model: all of the settings.
    """
    entries = error.errors()
    more = [f"and {len(entries) - MAX_NAMED:,} more"] if len(entries) > MAX_NAMED else []
    return "; ".join([*(_explain(entry, model) for entry in entries[:MAX_NAMED]), *more])


def _explain(entry: Any, model: type[BaseModel]) -> str:
    place = [str(part) for part in entry["loc"]]
    name = shown(".".join(place))
    if entry["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], _names_at(place[:-1], model), n=1)
        return f"unknown setting {name}" + (f" (did you mean {'.'.join([*place[:-1], near[0]])}?)" if near else "")
    if entry["type"] == "value_error":
        return f"{name}: {entry['ctx']['error']}" if place else str(entry["ctx"]["error"])
    if entry["type"] == "missing":
        return f"{name}: missing, a value is needed"
    is_number_as_text = isinstance(entry["input"], str) and entry["type"].startswith(("float", "int"))
    hint = "; in YAML write 0.0002, since 2e-4 is read as text" if is_number_as_text else ""
    return f"{name}: {entry['msg'][:1].lower()}{entry['msg'][1:]}, found {shown(repr(entry['input']))}{hint}"


def _names_at(place: list[str], model: type[BaseModel]) -> list[str]:
    section: Any = model
    for name in place:
        section = typing.get_args(section)[0] if name.isdigit() else section.model_fields[name].annotation
    return list(section.model_fields)
