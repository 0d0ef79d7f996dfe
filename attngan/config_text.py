"""Settings as YAML text: read, checked against a model with all mistakes in one sentence, and written."""

import json
import sys
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from attngan import config_errors
from attngan.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def parse(text: str, where: str) -> dict[str, Any]:
    """Return the settings in YAML text; `where` names it in messages."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not readable as YAML ({' '.join(str(error).split())}).") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected settings such as 'seed: 1', found {type(values).__name__}.")
    return values


def place(override: str, values: dict[str, Any]) -> None:
    """Put `section.name=value` into settings; the value is YAML too."""
    name, separator, text = override.partition("=")
    if not separator or not name:
        raise InputError(f"--set {override}: expected section.name=value, such as --set damsm.epochs=2.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"--set {override}: the value is not readable as YAML.") from None
    *sections, last = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {override}: {section} is a single value, it has no settings inside.")
    values[last] = value


def validated(model: type[Model], values: dict[str, Any], where: str) -> Model:
    """Return the settings as a model, or name every mistake at once."""
    try:
        return model.model_validate_json(json.dumps(values, allow_nan=False))
    except ValidationError as error:
        raise InputError(f"{where}: {config_errors.explain(error, model)}") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: a value is not a number, text, list or section ({error}).") from None


def dump(values: dict[str, Any]) -> str:
    """Return settings as YAML, a line each."""
    return yaml.safe_dump(values, sort_keys=False)


def one_line(value: Any) -> str:
    """Return one value as YAML in one line; JSON would not do: YAML reads its 2e-05 as text."""
    written = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=sys.maxsize)
    return written.strip()[1:-1]
