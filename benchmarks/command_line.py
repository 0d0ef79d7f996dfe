"""What the benchmarks' commands share: names to choose from, folders that are kept, a file for the figures."""

import json
from collections.abc import Collection
from pathlib import Path

import typer

from attngan.errors import InputError
from attngan.storage import artifacts


def some_of(only: str, names: Collection[str]) -> list[str]:
    """Return the names that `--only` has, with commas between; all of them where it has none."""
    chosen = [name.strip() for name in only.split(",")] if only else list(names)
    if unknown := set(chosen) - set(names):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: expected some of {', '.join(names)}")
    return chosen


def claim(folder: Path, facts: dict[str, object]) -> None:
    """Note in a folder that is kept what it is made with; another time it must be the same.

    Raises:
        InputError: it was made with something else, or for something else.
    """
    note = folder / "made_with.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not note.exists() and any(folder.iterdir()):
        raise InputError(f"--folder: {folder} holds other things, which might be lost; name a new or an empty folder.")
    found = json.loads(note.read_text(encoding="utf-8")) if note.exists() else facts
    if found != facts:
        raise InputError(f"--folder: {folder} was made with {found}, now it is {facts}; name another folder.")
    artifacts.write_text(note, json.dumps(facts) + "\n")


def check_out(out: Path, flag: str = "--out") -> None:
    """Refuse a folder for a file before hours are spent on what belongs into it."""
    if out.is_dir():
        raise InputError(f"{flag}: {out} is a folder; expected a file's name.")


def write_figures(out: Path, report: dict[str, object]) -> None:
    """Write figures as JSON, those too that are no numbers."""
    out.parent.mkdir(parents=True, exist_ok=True)
    artifacts.write_text(out, json.dumps(report, indent=2) + "\n")
