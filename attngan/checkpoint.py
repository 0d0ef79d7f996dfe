"""Training state: written atomically, checked when read, the last two kept; and stopping when told to.

A state is a tree of dicts, lists, tensors, numbers and texts, read with `weights_only=True`: it cannot run code.
"""

import os
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from attngan import artifacts
from attngan.errors import InputError
from attngan.run_log import say

KEPT = 2


def state_folder(root: Path, *, step_name: str, key: Any) -> Path:
    """Return where the state of a run lives: under `root`, by a fingerprint of everything that shapes its result."""
    return root / f"{step_name}-{artifacts.fingerprint(key)[:16]}"


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the state after `step` steps, then remove all but the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    with artifacts.atomic_file(folder / f"step-{step:09d}.pt") as handle:
        torch.save({"step": step, **state}, handle)
    for old in _saved(folder)[KEPT:]:
        old.unlink()


def load(folder: Path) -> dict[str, Any] | None:
    """Return the newest state that can be read, or None where there is none.

    Raises:
        InputError: there are states, and none can be read: nothing is thrown away silently.
    """
    if folder.is_dir():
        for leftover in folder.glob(".*.part"):  # of a save that was killed
            leftover.unlink()
    saved = _saved(folder)
    for path in saved:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            say(f"{path}: this checkpoint cannot be read ({reason}); trying the one before it.")
            continue
        return state
    if saved:
        raise InputError(
            f"{folder}: none of its {len(saved)} checkpoints can be read; restore one of the files, "
            "or remove the folder to start from the beginning."
        )
    return None


def restore(target: Any, state: Any, *, name: str, folder: Path) -> None:
    """Load one part of a state into a network or optimiser, or say in a sentence that it does not fit."""
    try:
        target.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder}: the checkpoint's {name} does not fit this run ({detail}); "
            "use the settings it was made with, or remove the folder to start from the beginning."
        ) from None


def check_not_beyond(step: int, total: int, folder: Path, *, setting: str) -> None:
    """Refuse to call a run finished that was trained longer than is asked for now."""
    if step > total:
        raise InputError(
            f"{folder}: this run was already trained for {step:,} steps, {setting} asks for {total:,}; "
            "raise it, or remove the folder to start from the beginning."
        )


class Timer:
    """Says when a number of seconds has passed since it last said so."""

    def __init__(self, every_seconds: float):
        self.every_seconds = every_seconds
        self.last = time.monotonic()

    def due(self) -> bool:
        """Return whether the time has come, and start anew if so."""
        if time.monotonic() - self.last < self.every_seconds:
            return False
        self.last = time.monotonic()
        return True


class StopRequest:
    """Whether Ctrl-C or SIGTERM asked the run to stop; the loop looks between two steps."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def stop(self) -> None:
        """Leave as the signal would have it, once the state is saved."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(143)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the first Ctrl-C or SIGTERM for the length of a training loop; the second one ends it at once."""
    request = StopRequest()

    def on_signal(number: int, _: FrameType | None) -> None:
        signal.signal(number, before[number])
        request.signal = number
        os.write(1, b"\nstopping after this step; again to stop at once\n")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _saved(folder: Path) -> list[Path]:
    """Return the saved states, newest first."""
    return sorted(folder.glob("step-*.pt"), reverse=True) if folder.is_dir() else []
