"""Settings as YAML text: read within bounds, checked against a model with all mistakes in one sentence, and written.

The one reader for YAML that somebody wrote. What it returns is made of sections, lists, finite numbers, and text that
can be written as UTF-8; text of other kinds (`2020-01-01`, which YAML would make a date) stays text.
"""

import difflib
import json
import math
import sys
import typing
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from attngan.errors import InputError, shown

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 2**18  # of text; all settings of a run take a fiftieth of it
MAX_DEPTH = 20  # sections and lists inside one another
MAX_VALUES = 10_000  # and names, before aliases are written out; a config has two hundred, and captions to draw
MAX_DIGITS = 400  # of a number; as text float64 needs no more
# Values, and characters in them, that the text may stand for once its aliases are written out: more than text without
# aliases can hold.
MAX_WRITTEN_OUT = 2 * MAX_BYTES

MAX_NAMED = 10  # mistakes in one sentence
MOST_MEANT = 3  # settings that a wrong name may stand for
TAG = "tag:yaml.org,2002:"


def parse(text: str | bytes, where: str) -> dict[str, Any]:
    """Return the settings in YAML text, bytes in UTF-8; `where` names it in messages.

    Raises:
        InputError: it is no YAML, holds what no setting is, or is larger than settings can be; one sentence.
    """
    values = _read(text, where)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected settings such as 'seed: 1', found {type(values).__name__}.")
    return values


def place(override: str, values: dict[str, Any]) -> None:
    """Put `section.name=value` into settings; the value is YAML too."""
    name, separator, text = override.partition("=")
    where = f"--set {shown(override)}"
    if not separator or not name:
        raise InputError(f"{where}: expected section.name=value, such as --set damsm.epochs=2.")
    *sections, last = name.split(".")
    if len(sections) >= MAX_DEPTH:
        raise InputError(f"{where}: expected section.name=value, found {len(sections)} sections inside one another.")
    value = _read(text, where)
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"{where}: {shown(section)} is a single value, it has no settings inside.")
    values[last] = value


def validated(model: type[Model], values: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> Model:
    """Return the settings as a model, or name every mistake at once.

    Args:
        model: all of the settings.
        values: of the settings.
        where: they are from, for messages.
        overrides: `section.name=value` that were put into them: mistakes in one of these are said to be there.
    """
    try:
        return model.model_validate_json(json.dumps(values, allow_nan=False))
    except ValidationError as error:
        raise InputError(explain(error, model, where, overrides)) from None


def dump(values: dict[str, Any]) -> str:
    """Return settings as YAML, a line each."""
    return yaml.safe_dump(values, sort_keys=False)


def one_line(value: Any) -> str:
    """Return one value as YAML in one line; JSON would not do: YAML reads its 2e-05 as text."""
    written = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=sys.maxsize)
    return written.strip()[1:-1]


def _read(text: str | bytes, where: str) -> Any:
    if len(text) > MAX_BYTES:
        raise InputError(f"{where}: expected settings, found more than {MAX_BYTES:,} bytes of text; give only those.")
    try:
        reader = _Reader(text if isinstance(text, str) else text.decode("utf-8"), where)
        node = reader.get_single_node()
    except InputError:
        raise
    except UnicodeDecodeError:
        raise InputError(f"{where}: expected YAML text in UTF-8, found other bytes; save it as UTF-8.") from None
    except Exception as error:  # PyYAML's own, and whatever chr, int and the like raise inside of it
        reason = shown(" ".join(str(error).split()), limit=200)
        raise InputError(f"{where}: not readable as YAML ({reason}).") from None
    return None if node is None else reader.value(node, [])


class _Reader(yaml.SafeLoader):
    """Turns YAML into values itself: PyYAML would make dates, sets and bytes, take the last of two, and never tire."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern) for tag, pattern in resolvers if tag.removeprefix(TAG) in ("null", "bool", "int", "float")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str, where: str):
        super().__init__(text)
        self.where = where
        self.depth = self.num_values = 0
        self.left = MAX_WRITTEN_OUT

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node as PyYAML does, which calls itself for those inside."""
        self.depth += 1
        self.num_values += 1
        if self.depth > MAX_DEPTH:
            self.refuse([], f"sections and lists at most {MAX_DEPTH} deep", "more")
        if self.num_values > MAX_VALUES:
            self.refuse([], f"at most {MAX_VALUES:,} names and values", "more")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def value(self, node: yaml.Node, place: list[str]) -> Any:
        """Return what a node stands for, its aliases written out; `place` is where that is."""
        self.spend(node, place)
        kind = node.tag.removeprefix(TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self.section(node, place)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.value(each, [*place, str(index)]) for index, each in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and kind == "str":
            return self.text(node, place)
        if isinstance(node, yaml.ScalarNode) and kind in ("null", "bool", "int", "float"):
            return self.plain(node, kind, place)
        return self.refuse(place, "a number, text, list or section", f"YAML's {node.tag.replace(TAG, '!!')}")

    def spend(self, node: yaml.Node, place: list[str]) -> None:
        """Count a value or name; aliases may stand for one often, and for others that stand for it."""
        self.left -= 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        if self.left < 0 or len(place) > MAX_DEPTH:
            self.refuse(place, "settings", "an alias (*name) that stands for too much, or for itself")

    def section(self, node: yaml.MappingNode, place: list[str]) -> dict[str, Any]:
        """Return the settings of a section by name; a name stands in it once."""
        values: dict[str, Any] = {}
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{TAG}str":
                found = key.value if isinstance(key, yaml.ScalarNode) else "a list or section"
                self.refuse(place, "the name of a setting", found)
            self.spend(key, place)
            name = self.text(key, place)
            if name in values:
                self.refuse([*place, name], "one value", "two of them; give one")
            values[name] = self.value(inner, [*place, name])
        return values

    def text(self, node: yaml.ScalarNode, place: list[str]) -> str:
        """Return a text; JSON writes a character of 17 bits or more as a pair of escapes, which YAML leaves as two."""
        if "\0" in node.value:
            self.refuse(place, "text", f"NUL in {node.value!r}")
        try:
            return node.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            return self.refuse(place, "text", f"half of a surrogate pair in {node.value!r}")

    def plain(self, node: yaml.ScalarNode, kind: str, place: list[str]) -> int | float | bool | None:
        """Return a number, true, false or nothing."""
        if kind == "null":
            return None
        if kind == "bool" and node.value.lower() in self.bool_values:
            return self.bool_values[node.value.lower()]
        if kind in ("int", "float") and len(node.value) <= MAX_DIGITS:
            try:
                number = self.construct_yaml_int(node) if kind == "int" else self.construct_yaml_float(node)
                if math.isfinite(number):
                    return number
            except (ValueError, OverflowError, IndexError):
                pass  # what int and float make of "0x_", 1:00:00 ... and of nothing at all
        return self.refuse(place, "true or false" if kind == "bool" else "a finite number", node.value)

    def refuse(self, place: list[str], expected: str, found: str) -> NoReturn:
        """Say what is wrong, and where."""
        at = f" {shown('.'.join(place))}:" if place else ""
        raise InputError(f"{self.where}:{at} expected {expected}, found {shown(found)}.")


def explain(error: ValidationError, model: type[BaseModel], where: str, overrides: Sequence[str] = ()) -> str:
    """Return all mistakes as one sentence; an unknown setting comes with the nearest known one.

    Args:
        error: of validating `model`.
        model: all of the settings.
        where: they are from.
        overrides: see `validated`.
    """
    entries = error.errors()
    mistakes: dict[str, list[str]] = {}
    for entry in entries[:MAX_NAMED]:
        said = _explain(entry, model)
        mistakes.setdefault(_origin(entry, said, overrides) or where, []).append(said)
    more = [f"and {len(entries) - MAX_NAMED:,} more"] if len(entries) > MAX_NAMED else []
    return "; ".join([*(f"{place}: {'; '.join(said)}" for place, said in mistakes.items()), *more])


def _origin(entry: Any, said: str, overrides: Sequence[str]) -> str:
    """Return the overrides that a mistake is in, as they were typed; of settings that do not fit, those it names."""
    place, last = ".".join(map(str, entry["loc"])), {each.partition("=")[0]: each for each in overrides}
    meant = [
        f"--set {shown(override)}"
        for name, override in last.items()
        if (f"{place}.".startswith(f"{name}.") or f"{name}.".startswith(f"{place}.") if place else name in said)
    ]
    return ", ".join(meant)


def _explain(entry: Any, model: type[BaseModel]) -> str:
    place = [str(part) for part in entry["loc"]]
    name = shown(".".join(place))
    if entry["type"] == "extra_forbidden":
        meant = " or ".join(_meant(place, model))
        return f"unknown setting {name}" + (f" (did you mean {meant}?)" if meant else "")
    if entry["type"] == "value_error":
        return f"{name}: {entry['ctx']['error']}" if place else str(entry["ctx"]["error"])
    if entry["type"] == "missing":
        return f"{name}: missing, a value is needed"
    is_number_as_text = isinstance(entry["input"], str) and entry["type"].startswith("float")
    hint = "; in YAML write 0.0002, since 2e-4 is read as text" if is_number_as_text else ""
    return f"{name}: {entry['msg'][:1].lower()}{entry['msg'][1:]}, found {shown(repr(entry['input']))}{hint}"


def _meant(place: list[str], model: type[BaseModel]) -> list[str]:
    """Return the settings that a wrong name may stand for: of its section, of another one, or of any that is like it.

    A name with dots is one in YAML text, where sections are written otherwise.
    """
    *sections, name = place
    known, own, inside = list(_places(model)), _names_at(sections, model), name.split(".")
    if len(inside) > 1 and [*sections, *inside] in known:
        return [": {".join(inside) + ": ..." + "}" * (len(inside) - 1)]
    like = difflib.get_close_matches(name, sorted({*own, *(each[-1] for each in known)}), n=1)
    if like and like[0] in own:
        return [".".join([*sections, like[0]])]
    found = [".".join(each) for each in known if each[-1] in like]
    return found if len(found) <= MOST_MEANT else []


def _places(model: type[BaseModel]) -> Iterator[list[str]]:
    """Give the place of every setting."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from ([name, *place] for place in _places(field.annotation))
        else:
            yield [name]


def _names_at(place: list[str], model: type[BaseModel]) -> list[str]:
    section: Any = model
    for name in place:
        section = typing.get_args(section)[0] if name.isdigit() else section.model_fields[name].annotation
    return list(section.model_fields)
