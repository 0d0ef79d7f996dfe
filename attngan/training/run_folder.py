"""What a run keeps beside its results: `config.yaml`, the settings in force; `train.json`, which steps are done."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from attngan.config import described
from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.errors import InputError
from attngan.runtime.console import say
from attngan.storage import artifacts, json_text

CONFIG, NOTES = "config.yaml", "train.json"
HEADER = """\
# The settings of this run: edit them, and the same command goes on; without this file they are chosen. --set and
# --config write it anew. Where damsm.steps and training.steps are not 0, they count, and epochs do not.
"""
NUM_CHANGES = 5  # of settings, that are named


class Done(TypedDict):
    """A step that is done, by fingerprints."""

    key: str  # of what it was made from
    made: str  # of what came out


class Notes(TypedDict):
    """What is known of the steps that are done."""

    seconds: dict[str, Annotated[float, Field(ge=0, le=1e9)]]  # about what each takes that has not begun
    settings: NotRequired[str]  # fingerprint of those that `seconds` are of
    done: dict[str, Done]
    minutes: NotRequired[float | None]  # that settings were chosen for


class RunFolder:
    """The settings and the notes of a run.

    Args:
        out: the run's folder; it need not exist.

    Raises:
        InputError: its notes are damaged.
    """

    config: Config  # in force, once it is known or chosen

    def __init__(self, out: Path):
        self.out, self.before = out, None
        self.notes: Notes = {"seconds": {}, "done": {}}
        if (out / NOTES).exists():
            self.notes = json_text.read(out / NOTES, Notes, mend="remove it: what is done is done again")

    def known(self, given: Sequence[Path], overrides: Sequence[str], minutes: float | None) -> Config | None:
        """Return the settings of files or those in the folder, with overrides on top; None where they are to be chosen.

        Where they are others than those in the folder, that is said, and `keep_settings` will write them there.
        """
        path = self.out / CONFIG
        if given and minutes is not None:
            raise InputError("--minutes: the settings of --config say how long it takes; leave one of them out.")
        self.before = self._there()
        if not given and self.before is None:
            return None
        if given or minutes is None or minutes == self.notes.get("minutes"):
            config = configs.load_files(given or [path], overrides=overrides)
            if self.before is not None and (changes := configs.differences(config, self.before)):
                more = f", and {len(changes) - NUM_CHANGES} more" if len(changes) > NUM_CHANGES else ""
                say(f"settings: {path} is written anew, with {', '.join(changes[:NUM_CHANGES])}{more}")
            elif not given:
                say(f"settings: those of {path}; delete it to have them chosen again")
            return config
        self._check_as_chosen(path, minutes)
        say(f"settings: chosen again, for {minutes:g} minutes")
        return None

    def _there(self) -> Config | None:
        """Return the settings in the folder, if there are any."""
        path = self.out / CONFIG
        if not os.path.lexists(path):
            return None
        if path.is_file() and not path.read_bytes().strip():
            raise InputError(f"{path}: expected the settings of this run, found none; restore or delete it.")
        return configs.load_files([path])

    def _check_as_chosen(self, path: Path, minutes: float) -> None:
        """Refuse to choose settings again where a person has had a hand in them."""
        assert self.before is not None
        if fingerprint(self.before) != self.notes.get("settings"):
            raise InputError(
                f"--minutes {minutes:g}: {path} was edited, so nothing is chosen again; for a longer training raise "
                "damsm.steps and training.steps there, or delete it."
            )

    def note_chosen(self, config: Config, seconds: dict[str, float], minutes: float | None) -> None:
        """Note that settings were chosen, and about what each step takes with them, in seconds."""
        self.notes |= {"seconds": seconds, "minutes": minutes, "settings": fingerprint(config)}

    def keep_settings(self) -> None:
        """Write the settings in force into the folder, unless those there are the same."""
        self.out.mkdir(parents=True, exist_ok=True)
        if self.config != self.before:
            artifacts.write_text(self.out / CONFIG, HEADER + described.dump(self.config))
        self.keep_notes()

    def keep_notes(self) -> None:
        """Write the notes into the folder."""
        artifacts.write_json(self.out / NOTES, self.notes)


def fingerprint(config: Config) -> str:
    """Return what stands for the settings that shape a run's results."""
    return artifacts.fingerprint([config.shaping()])
