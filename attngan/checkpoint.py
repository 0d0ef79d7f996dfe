"""Training state: written whole, checked when read, the last two kept, owned by one run.

A state is a tree of dicts, lists, tensors, numbers and texts, read with `weights_only=True`: it cannot run code. It
lives in a folder, local or gs://, as `step-<number>-<random>.pt`; `latest.json` points at the last two, and at the last
one that was good, to which a run that goes wrong goes back. Whoever moves the pointer says what it replaces, so of two
runs in one folder the one that comes too late stops, and no state is lost.
"""

import json
import os
import pickle
import re
import secrets
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from attngan import artifacts, distributed, storage
from attngan.errors import Changed, InputError
from attngan.run_log import say

POINTER = "latest.json"
NAME = re.compile(r"\.?step-(\d{9})-[0-9a-f]+\.(pt|part)")


class StateStore:
    """Where a run keeps its state, under a key from everything that shapes its result.

    A context: a state is sent to cloud storage while the training goes on; leaving waits for the last one.

    Args:
        root: folder for the states of many runs, local or gs://.
        step_name: of the step.
        key: what shapes the result, as JSON can hold it: settings, fingerprints of data and code.
    """

    def __init__(self, root: str, *, step_name: str, key: Any):
        self.uri = storage.keyed(root, step_name, key)
        self._kept: list[dict[str, Any]] = []  # the newest first
        self._generation = 0  # of the pointer, when it was read or written by us
        self._run = secrets.token_hex(4)
        self._sender = ThreadPoolExecutor(max_workers=1)
        self._sent: list[Future[None]] = []

    def __enter__(self) -> "StateStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._sender.shutdown(wait=True)
        if kind is None:
            self.wait()

    def load(self, *, good: bool = False) -> dict[str, Any] | None:
        """Return the newest state that can be read, or None where there is none.

        Args:
            good: return the newest of those that were saved as good.

        Raises:
            InputError: there are states, and none can be read: nothing is thrown away silently.
        """
        content, self._generation = storage.read(storage.join(self.uri, POINTER))
        if not content:
            return None
        kept = self._parse(content)
        entries = [entry for entry in kept if entry.get("good")] if good else kept
        for index, entry in enumerate(entries):
            with ExitStack() as stack:
                try:
                    state = self._read(entry, stack)
                except InputError:
                    raise  # cloud storage is not to be had: the state may be there all the same
                except (RuntimeError, EOFError, FileNotFoundError, ValueError, pickle.UnpicklingError) as error:
                    reason = " ".join(str(error).split())[:160] or type(error).__name__
                    say(f"{self.uri}: the checkpoint {entry['file']} cannot be read ({reason}).")
                    continue
            self._kept = kept if good else kept[index:]
            return state
        raise InputError(
            f"{self.uri}: none of its {len(entries)} {'good ' * good}checkpoints can be read; restore one of the "
            "files, or remove the folder to start from the beginning."
        )

    def save(self, step: int, state: dict[str, Any], *, good: bool = False) -> None:
        """Keep the state after `step` steps, the one before it, and the last good one.

        Where the run went back to `step`, what was saved after it is forgotten.

        Args:
            step: how many steps were taken.
            state: everything that shapes the rest of the run.
            good: nothing is wrong with it: a run that goes wrong may go back to it.

        Raises:
            InputError: another run has saved its state here since this one last looked.
        """
        self.wait()
        name = f"step-{step:09d}-{self._run}{secrets.token_hex(2)}"
        if storage.is_remote(self.uri):
            draft = Path(tempfile.gettempdir()) / f"attngan-{name}.part"
        else:
            draft = Path(self.uri) / f".{name}.part"
            draft.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as handle:
                torch.save({"step": step, **state}, handle)
                handle.flush()
                os.fsync(handle.fileno())
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        entry = {"step": step, "file": f"{name}.pt", "bytes": draft.stat().st_size, "good": good}
        self._sent.append(self._sender.submit(self._commit, draft, entry))
        if not storage.is_remote(self.uri):
            self.wait()

    def show(self, paths: Iterable[Path], folder: Path) -> None:
        """Copy files of `folder` to beside the states, for people who watch and for the run that goes on from here."""
        files = [(path, path.relative_to(folder).as_posix()) for path in paths]
        self._sent.append(self._sender.submit(storage.copy, files, self.uri))

    def shown(self, prefix: str) -> list[str]:
        """Return the names of files that were shown and begin so."""
        return [name for name in storage.names(self.uri) if name.startswith(prefix)]

    def fetch(self, name: str, folder: Path) -> None:
        """Copy a file that was shown back into a folder, under its name."""
        with storage.local_input(storage.join(self.uri, name)) as path:
            storage.copy([(path, name)], str(folder))

    def wait(self) -> None:
        """Wait until the last state is where it belongs, and raise what kept it from there."""
        sent, self._sent = self._sent, []
        for each in sent:
            each.result()

    def settle(self) -> None:
        """Wait, in every process, until the last state is where it belongs: the first to leave ends the others."""
        self.wait()
        distributed.agreed(False)

    def _commit(self, draft: Path, entry: dict[str, Any]) -> None:
        before = [each for each in self._kept if each["step"] <= entry["step"]]
        kept = [entry, *before[:1]]
        if not any(each.get("good") for each in kept):
            kept += [each for each in before[1:] if each.get("good")][:1]
        try:
            entry["sha256"] = artifacts.sha256_of(draft)
            storage.send(draft, storage.join(self.uri, entry["file"]))
            pointer = json.dumps({"states": kept}, indent=2).encode()
            self._generation = storage.write(storage.join(self.uri, POINTER), pointer, generation=self._generation)
        except (Changed, FileNotFoundError):  # another run is further, and may have cleared away our draft
            storage.remove(storage.join(self.uri, entry["file"]))
            raise InputError(
                f"{self.uri}: another run of the same settings, data and code saves its state here, so this one "
                f"stopped after step {entry['step']:,}; wait for the other, or stop it and run this command again."
            ) from None
        finally:
            draft.unlink(missing_ok=True)
        for gone in self._kept:
            if gone not in kept:
                storage.remove(storage.join(self.uri, gone["file"]))
        self._kept = kept
        self._remove_before(kept[-1]["step"])

    def _remove_before(self, step: int) -> None:
        """Remove whole and half-written states from before a step; a later one may be another run's."""
        for name in storage.names(self.uri):
            match = NAME.fullmatch(name)
            if match and int(match[1]) < step:
                storage.remove(storage.join(self.uri, name))

    def _parse(self, content: bytes) -> list[dict[str, Any]]:
        try:
            entries = json.loads(content)["states"]
            if entries and all(NAME.fullmatch(entry["file"]) and entry["sha256"] for entry in entries):
                return entries
        except (ValueError, KeyError, TypeError):
            pass
        raise InputError(
            f"{storage.join(self.uri, POINTER)}: expected the names of the last checkpoints, found something else; "
            "restore the file, or remove the folder to start from the beginning."
        )

    def _read(self, entry: dict[str, Any], stack: ExitStack) -> dict[str, Any]:
        if entry["file"] not in storage.names(self.uri):
            raise FileNotFoundError("it is gone")
        path = stack.enter_context(distributed.node_input(storage.join(self.uri, entry["file"])))
        if artifacts.sha256_of(path) != entry["sha256"]:
            raise ValueError(f"{path.stat().st_size:,} of {entry['bytes']:,} bytes, or other ones")
        return torch.load(path, map_location="cpu", weights_only=True)


def restore(target: Any, state: Any, *, name: str, where: str) -> None:
    """Load one part of a state into a network or optimiser, or say in a sentence that it does not fit."""
    try:
        target.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise InputError(
            f"{where}: the checkpoint's {name} does not fit this run ({detail}); "
            "use the settings it was made with, or remove the folder to start from the beginning."
        ) from None


def check_not_beyond(step: int, total: int, where: str, *, setting: str) -> None:
    """Refuse to call a run finished that was trained longer than is asked for now."""
    if step > total:
        raise InputError(
            f"{where}: this run was already trained for {step:,} steps, {setting} asks for {total:,}; "
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
