"""The members of a sweep: every combination of the values that some settings are to have."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from attngan.config import settings, yaml_text
from attngan.config.settings import Config
from attngan.errors import InputError, shown

MOST = 10_000  # members
MANY = 10  # members: more are asked about before
# Sections of what a sweep compares: the dataset is made once, and all are measured in the same way.
_BOTH = ("seed", "precision", "text_encoder", "image_encoder", "damsm", "watch")
TRAINED = (*_BOTH, "generator", "discriminator", "training")
WATCHED = ("every_epochs", "learning_rate_factor")  # of `watch`, what shapes encoders too
REASONS = {"data": "the dataset is made once", "evaluate": "all are measured in the same way"}


class Member(NamedTuple):
    """One training of a sweep."""

    overrides: tuple[str, ...]  # `section.name=value` of what varies, as `--set` takes it
    config: Config

    @property
    def varied(self) -> dict[str, str]:
        """What sets it apart: settings and their values."""
        return dict(override.split("=", 1) for override in self.overrides)


def members(vary: Sequence[str], load: Callable[[Sequence[str]], Config]) -> list[Member]:
    """Return all combinations, the first setting slowest.

    Args:
        vary: `section.name=value,value,...`, each value as YAML has it.
        load: given overrides, returns the settings of all of the sweep with them.

    Raises:
        InputError: a setting is unknown, given twice, has one value or one that does not fit, shapes no training, or
            there are too many combinations; one sentence.
    """
    choices: dict[str, list[str]] = {}
    for text in vary:
        name, values = _choice(text, load)
        if name in choices:
            raise InputError(f"--vary {shown(text)}: {name} is given twice; give all its values at once.")
        choices[name] = values
    if not choices:
        raise InputError("--vary: expected at least one, such as --vary training.damsm_weight=1,5,10.")
    if (count := math.prod(map(len, choices.values()))) > MOST:
        raise InputError(f"--vary: expected at most {MOST:,} combinations, found {count:,}; vary less at once.")
    combinations = itertools.product(*([f"{name}={value}" for value in values] for name, values in choices.items()))
    found = [Member(overrides, load(overrides)) for overrides in combinations]
    _check_different(found)
    return found


def too_many(found: Sequence[Member], cost: str) -> InputError:
    """Return what to say of many members that nobody has agreed to."""
    return InputError(f"--vary: {len(found):,} members, {cost}; give --yes if that is meant, or vary less.")


def in_a_pod(text: str, varied: str, *, num_gpus: int = 0) -> Member:
    """Return a member as its step on a cluster gets it.

    Args:
        text: YAML of the settings that all share.
        varied: what varies, a `section.name=value` a line.
        num_gpus: that the step has asked for: it stops where they cannot be used.
    """
    overrides, device = varied.splitlines(), ["device=cuda"] if num_gpus else []
    loaded = settings.load(text, overrides=[*overrides, *device], defaults=settings.IN_A_POD)
    return Member(tuple(overrides), loaded)


def shared(config: Config) -> dict[str, Any]:
    """Return the settings that shape encoders, as JSON holds them: members who agree in these share theirs."""
    shaping = config.shaping()
    found = {name: shaping[name] for name in (*_BOTH, "data") if name in shaping and name != "watch"}
    return {**found, "watch": config.watch.model_dump(include=set(WATCHED))}


def with_own_encoders(members: Sequence[Member]) -> list[Member]:
    """Return of all members who share encoders the first."""
    first: dict[str, Member] = {}
    for member in members:
        first.setdefault(repr(shared(member.config)), member)
    return list(first.values())


def _choice(text: str, load: Callable[[Sequence[str]], Config]) -> tuple[str, list[str]]:
    """Return a setting and its values, each as `--set` takes it."""
    where = f"--vary {shown(text)}"
    name, equals, listed = text.partition("=")
    if not equals or not name:
        raise InputError(f"{where}: expected section.name=value,value, such as --vary training.damsm_weight=1,5,10.")
    section = name.split(".")[0]
    if section in Config.model_fields and section not in TRAINED:
        why = REASONS.get(section, "it shapes no training")
        raise InputError(f"{where}: {section} cannot vary within a sweep, since {why}; make a run for each value.")
    values: Any = yaml_text.parse(f"values: [{listed}]", where)["values"]
    if len(values) < 2:
        raise InputError(f"{where}: expected several values with commas between, found {len(values)}; else use --set.")
    texts = [yaml_text.one_line(value) for value in values]
    for value in texts:
        override = f"{name}={value}"
        try:
            load([override])
        except InputError as error:
            raise InputError(f"{where}: {str(error).removeprefix(f'--set {shown(override)}: ')}") from None
    return name, texts


def _check_different(found: list[Member]) -> None:
    """Refuse members that would make the same."""
    seen: dict[str, Member] = {}
    for member in found:
        key = repr([member.config.shaping(), member.config.looked_through])
        if key in seen:
            raise InputError(
                f"--vary: {' '.join(member.overrides)} makes the same as {' '.join(seen[key].overrides)}; give each "
                "value once, of settings that change what is made."
            )
        seen[key] = member
