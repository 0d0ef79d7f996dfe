"""What an experiment tracker can do, and what it is told: `mlflow_run` and `wandb_run` do it, `trackers` asks them."""

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attngan.config.settings import Config

Row = dict[str, float]  # "step", and figures by name
File = bytes | Path  # its content, or a folder that stays while it is sent
LONGEST = 500  # characters of a value, at most


class Service(abc.ABC):
    """One run of a tracker, through its client; a method raises whatever that does.

    Args:
        kind: of the result that the step makes: names begin with it, so that all steps may share a run.
        key: the same where a step goes on, and no other.
        config: its settings.
    """

    title: str

    def __init__(self, kind: str, key: str, config: Config):
        self.kind, self.key, self.config = kind, key, config

    @property
    @abc.abstractmethod
    def place(self) -> str:
        """Where the tracker is; it may hold a password."""

    @abc.abstractmethod
    def connect(self) -> None:
        """Find the run of this step, or make it, and tell it the settings; asked again after each failure."""

    @abc.abstractmethod
    def missing(self, rows: list[Row]) -> list[Row]:
        """Return those of the rows that the run did not have when it was found, or got since."""

    @abc.abstractmethod
    def send_rows(self, rows: list[Row]) -> None:
        """Add rows."""

    @abc.abstractmethod
    def send_file(self, name: str, content: File) -> None:
        """Add a file or a folder, or replace it; `name` begins with the kind of result, and ends as the file's."""

    @abc.abstractmethod
    def send_facts(self, facts: Mapping[str, str]) -> None:
        """Add texts by name: the fingerprints of what the step is made from and makes."""

    @abc.abstractmethod
    def end(self, *, failed: bool) -> None:
        """Say that the step is over."""


def flat(config: Any) -> dict[str, str]:
    """Return all settings as `section.name` -> what `--set` would take, cut where it is very long."""
    found = {}
    for name, value in config.model_dump(mode="json").items():
        of_section = {f"{name}.{part}": each for part, each in value.items()} if isinstance(value, dict) else None
        found |= of_section or {name: value}
    return {name: str(value)[:LONGEST] for name, value in found.items()}
