"""Training state: written whole, checked when read, the last two kept, owned by one run.

A state is a tree of dicts, lists, tensors, numbers and texts, read with `weights_only=True`: it cannot run code. It
lives in a folder, local or in cloud storage, as `step-<number>-<random>.pt`; `latest.json` points at the last two, and
at the last one that was good, to which a run that goes wrong goes back. Whoever moves the pointer says what it
replaces, so of two runs in one folder the one that comes too late stops, and no state is lost. Where the pointer is
damaged or gone, the newest state that proves itself sound is used.
"""

import contextlib
import errno
import functools
import json
import os
import pickle
import re
import secrets
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NotRequired

import torch
from pydantic import Field
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from attngan.errors import Changed, InputError, TransientError
from attngan.runtime import distributed, scratch
from attngan.runtime.console import say
from attngan.storage import artifacts, json_text, places, tensor_files, uris

POINTER = "latest.json"
NAME = re.compile(r"\.?step-([0-9]{9})-[0-9a-f]+\.(pt|part)")
STATE = re.compile(r"step-([0-9]{9})-[0-9a-f]+\.pt")
UNREADABLE = (  # what is raised for a file that is no sound state
    *(RuntimeError, EOFError, FileNotFoundError, ValueError, KeyError, IndexError, TypeError, AttributeError),
    *(AssertionError, OverflowError, struct.error, zlib.error, zipfile.BadZipFile, pickle.UnpicklingError),
)


class Entry(TypedDict):
    """What the pointer says of a state; its step is in its name."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    file: Annotated[str, Field(pattern=f"^{STATE.pattern}$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: int
    good: NotRequired[bool]


class Pointer(TypedDict):
    """What `latest.json` holds."""

    states: Annotated[list[Entry], Field(min_length=1)]


EXPECTED = "the names of the last checkpoints"
MEND = "restore the file, or remove the folder to start from the beginning"


class StateStore:
    """Where a run keeps its state, under a key from everything that shapes its result.

    A context: a state is written and sent while the training goes on; leaving waits for the last one.

    Args:
        root: folder for the states of many runs, local or in cloud storage.
        step_name: of the step.
        key: what shapes the result, as JSON can hold it: settings, fingerprints of data.
        length: steps of a run that has a folder of its own, since the one of all lengths is beyond it; None: that one.
    """

    def __init__(self, root: str, *, step_name: str, key: Any, length: int | None = None):
        self._owner = {"root": root, "step_name": step_name, "key": key}
        self.uri = places.keyed(root, step_name, key) + (f"-{length}-steps" if length is not None else "")
        self._kept: list[dict[str, Any]] = []  # the newest first
        self._there: list[str] = []  # files of the folder, before the pointer was moved last
        self._generation = 0  # of the pointer, when it was read or written by us
        self._run, self.revision = secrets.token_hex(4), artifacts.code_revision()
        self._sender = ThreadPoolExecutor(max_workers=1)
        self._sent: list[Future[None]] = []
        self._copy_of_state: dict[str, Any] = {}  # that is being written, or was
        self._scratch = contextlib.ExitStack()

    def __enter__(self) -> "StateStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._sender.shutdown(wait=True)
        self._scratch.close()
        if kind is None:
            self.wait()

    def load(self, *, good: bool = False) -> dict[str, Any] | None:
        """Return the newest state that can be read, or None where there is none.

        The pointer says which it is. Where it is damaged or gone, or no state that it names can be read, the folder is
        searched for sound ones.

        Args:
            good: return the newest of those that were saved as good; there must be one.

        Raises:
            InputError: there are states, and none can be read: nothing is thrown away silently.
        """
        self.wait()
        content, self._generation = places.read(self._pointer)
        listed, problem = self._listed(content)
        wanted = [entry for entry in listed if entry.get("good") or not good]
        for index, entry in enumerate(wanted):
            state = self._read(entry)
            if state is not None:
                self._kept = listed if good else listed[index:]
                return state
        others = self._names_beside([entry["file"] for entry in listed])
        state = self._search(others, good=good)
        if state is not None:
            problem = problem or f"{self._pointer}: it names no {'good ' * good}state that can be read"
            say(f"{problem}; the newest {'good ' * good}state that is sound is used instead: step {state['step']:,}.")
            return state
        if places.read(self._pointer)[1] != self._generation:
            return self.load(good=good)  # another run has saved its state in the meantime
        if self._generation or others or good:
            raise InputError(self._why_nothing(problem, len(wanted) + len(others), good=good))
        return None

    def of_length(self, length: int) -> "StateStore":
        """Return the folder that belongs to runs of so many steps alone."""
        return StateStore(**self._owner, length=length)

    def last_good(self, *, at_most: int, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """Return the newest good state after at most so many steps that can be read and fits; nothing is changed."""
        for entry in distributed.from_first(self._entries):  # a run that goes on there must not tell processes apart
            if entry["step"] <= at_most and entry.get("good", True):
                state = self._read(entry)
                if state is not None and state.get("good") and fits(state):
                    return state
        return None

    def save(self, step: int, state: dict[str, Any], *, good: bool = False) -> None:
        """Keep the state after `step` steps, the one before it, and the last good one, while the training goes on.

        The state is copied, which takes a share of a second, and written and sent in the background. Where the run went
        back to `step`, what was saved after it is forgotten. Where the folder was deleted since the last state, it is
        made anew.

        Args:
            step: how many steps were taken.
            state: everything that shapes the rest of the run.
            good: nothing is wrong with it: a run that goes wrong may go back to it.

        Raises:
            InputError: the state before this one could not be kept: another run has saved its own here since.
        """
        self.wait()
        self._copy_of_state = tensor_files.copied(state, self._copy_of_state)
        content = {"step": step, **self._copy_of_state, "good": good, "revision": self.revision}
        self._sent.append(self._sender.submit(self._save, content))

    def show(self, paths: Iterable[Path], folder: Path) -> None:
        """Copy files of `folder` to beside the states, for people who watch and for the run that goes on from here."""
        files = [(path, path.relative_to(folder).as_posix()) for path in paths]
        self._sent.append(self._sender.submit(self._copy, files))

    def shown(self, prefix: str) -> list[str]:
        """Return the names of files that were shown and begin so."""
        return [name for name in places.names(self.uri) if name.startswith(prefix)]

    def fetch(self, name: str, folder: Path) -> None:
        """Copy a file that was shown back into a folder, under its name."""
        with places.local_input(uris.join(self.uri, name)) as path:
            places.copy([(path, name)], str(folder))

    def take_over(self, other: "StateStore", state: dict[str, Any]) -> None:
        """Begin with a good state of another folder, and with what was shown there until then."""
        self.save(state["step"], state, good=True)
        names = [name for name in other.shown("samples/") if _step_of(name) <= state["step"]]
        with scratch.folder("shown") as folder:
            for name in names:
                other.fetch(name, folder)
            self.show([folder / name for name in names], folder)
            self.wait()

    def wait(self) -> None:
        """Wait until the last state is where it belongs, and raise what kept it from there."""
        sent, self._sent = self._sent, []
        for each in sent:
            each.result()

    def settle(self) -> None:
        """Wait, in every process, until the last state is where it belongs: the first to leave ends the others."""
        self.wait()
        distributed.wait_for_all()

    def _copy(self, files: list[tuple[Path, str]]) -> None:
        try:
            places.copy(files, self.uri)
        except FileNotFoundError:  # the folder was deleted meanwhile
            places.copy(files, self.uri)

    @property
    def _pointer(self) -> str:
        return uris.join(self.uri, POINTER)

    @functools.cached_property
    def _drafts(self) -> Path:
        """The folder where a state is written before it is sent: beside the others, or one for temporary files."""
        return self._scratch.enter_context(scratch.folder("state")) if uris.is_remote(self.uri) else Path(self.uri)

    def _save(self, content: dict[str, Any]) -> None:
        try:
            self._write_and_commit(content)
        except FileNotFoundError:  # a local folder was deleted, and the draft in it
            self._write_and_commit(content)

    def _write_and_commit(self, content: dict[str, Any]) -> None:
        """Write a state's draft and send it to where it belongs; FileNotFoundError if the folder is deleted then."""
        name = f"step-{content['step']:09d}-{self._run}{secrets.token_hex(2)}"
        draft = self._drafts / f".{name}.part"
        draft.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as handle:
                torch.save(content, handle)
                handle.flush()
                os.fsync(handle.fileno())
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        self._commit(draft, {"step": content["step"], "file": f"{name}.pt", "good": content["good"]})

    def _commit(self, draft: Path, entry: dict[str, Any]) -> None:
        try:
            entry |= {"bytes": draft.stat().st_size, "sha256": artifacts.sha256_of(draft)}
            places.send(draft, uris.join(self.uri, entry["file"]))
            kept = self._point_at(entry)
        except (Changed, FileNotFoundError) as error:  # another run is further, and may have cleared away our draft
            if isinstance(error, FileNotFoundError) and self._is_deleted():
                raise
            places.remove(uris.join(self.uri, entry["file"]))
            raise TransientError(
                f"{self.uri}: another run of the same settings and data saves its state here, so this one "
                f"stopped after step {entry['step']:,}; wait for the other, or stop it and run this command again."
            ) from None
        finally:
            draft.unlink(missing_ok=True)
        for gone in self._kept:
            if gone not in kept:
                places.remove(uris.join(self.uri, gone["file"]))
        self._kept = kept
        self._remove_before(kept[-1]["step"])

    def _point_at(self, entry: dict[str, Any]) -> list[dict[str, Any]]:
        """Move the pointer to a state and to those that are kept beside it, and return them.

        Raises:
            Changed: another run has moved it.
            FileNotFoundError: the state is gone already.
        """
        self._there = there = places.names(self.uri)
        if entry["file"] not in there and not uris.is_remote(self.uri):
            raise FileNotFoundError(f"{entry['file']} is gone")
        before = [each for each in self._kept if each["step"] <= entry["step"] and each["file"] in there]
        kept = [entry, *before[:1]]
        if not any(each.get("good") for each in kept):
            kept += [each for each in before[1:] if each.get("good")][:1]
        pointer = json.dumps({"states": kept}, indent=2).encode()
        try:
            self._generation = places.write(self._pointer, pointer, generation=self._generation)
        except Changed:
            if not self._generation or not self._is_deleted():
                raise
            say(
                f"{self.uri}: this folder of states, or its {POINTER}, was deleted while the run went on; made anew "
                f"with the state after step {entry['step']:,}."
            )
            self._generation = 0
            return self._point_at(entry)
        return kept

    def _is_deleted(self) -> bool:
        """Return whether there is no pointer (any more): a run that saves its state beside this one has one."""
        return places.read(self._pointer)[1] == 0

    def _remove_before(self, step: int) -> None:
        """Remove whole and half-written states from before a step; a later one may be another run's."""
        for name in self._there:
            match = NAME.fullmatch(name)
            if match and int(match[1]) < step:
                places.remove(uris.join(self.uri, name))

    def _listed(self, content: bytes) -> tuple[list[dict[str, Any]], str | None]:
        """Return the states that the pointer names, and what is wrong with it."""
        if not self._generation:
            return [], f"{self._pointer}: expected {EXPECTED}, found no file"
        try:
            pointer = json_text.parse(content, self._pointer, Pointer, expected=EXPECTED, mend=MEND)
        except InputError as error:
            return [], str(error).removesuffix(f"; {MEND}.")
        return [{**entry, "step": _step_of(entry["file"])} for entry in pointer["states"]], None

    def _entries(self) -> list[dict[str, Any]]:
        """Return what is known of all states in the folder: those that the pointer names, then others."""
        content, self._generation = places.read(self._pointer)
        listed = self._listed(content)[0]
        others = self._names_beside([entry["file"] for entry in listed])
        return [*listed, *({"file": name, "step": _step_of(name)} for name in others)]

    def _names_beside(self, listed: Collection[str]) -> list[str]:
        """Return the names of all states in the folder but those that the pointer names, the newest first."""
        names = [name for name in places.names(self.uri) if STATE.fullmatch(name) and name not in listed]
        return sorted(names, key=_step_of, reverse=True)

    def _search(self, names: list[str], *, good: bool) -> dict[str, Any] | None:
        """Return the newest sound state of these, the newest first, and keep it and those that belong beside it."""
        wanted, kept = None, []
        for name in names:
            entry: dict[str, Any] = {"step": _step_of(name), "file": name}
            state = self._read(entry)
            if state is None:
                continue
            kept.append(entry)
            if wanted is None and (entry["good"] or not good):
                wanted = state
            if len(kept) > 1 and any(each["good"] for each in kept):
                break
        if wanted is not None:
            self._kept = kept
        return wanted

    def _read(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        """Return a state, or say why it cannot be read; an entry without a checksum gets all that the state tells."""
        try:
            if entry["file"] not in places.names(self.uri):
                raise FileNotFoundError("it is gone")
            with places.node_input(uris.join(self.uri, entry["file"])) as path:
                size, sha256 = path.stat().st_size, artifacts.sha256_of(path)
                if "sha256" not in entry:
                    _check_whole(path)
                elif entry["sha256"] != sha256:
                    raise ValueError(f"{size:,} of {entry['bytes']:,} bytes, or other ones")
                state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or state.get("step") != entry["step"]:
                raise ValueError(f"expected the state after step {entry['step']:,}, found something else")
        except InputError:
            raise  # cloud storage is not to be had: the state may be there all the same
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            say(f"{self.uri}: the checkpoint {entry['file']} cannot be read ({reason}).")
            return None
        if "sha256" not in entry:
            entry |= {"bytes": size, "sha256": sha256, "good": bool(state.get("good"))}
        return state

    def _why_nothing(self, problem: str | None, tried: int, *, good: bool) -> str:
        """Return the sentence for a folder without a state that can be read; `problem` is the pointer's."""
        if tried:
            return (
                f"{self.uri}: none of its {tried} {'good ' * good}checkpoints can be read; restore one of the files, "
                "or remove the folder to start from the beginning."
            )
        if good:
            return (
                f"{self.uri}: no good checkpoint is there to go back to; remove the folder to start from the beginning."
            )
        return f"{problem}; {MEND}."


def _step_of(name: str) -> int:
    """Return after how many steps a state was saved, or a picture drawn."""
    return int(name.partition("step-")[2].replace(".", "-").split("-")[0])


def _check_whole(path: Path) -> None:
    """Refuse a state of which a part does not have its checksum; `torch.load` does not look."""
    try:
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()
    except OSError as error:
        if error.errno != errno.EINVAL:  # that of a part which begins before the file does
            raise
        damaged = "the list of parts"
    if damaged is not None:
        raise ValueError(f"{damaged} in it is damaged")


def restore(target: Any, state: Any, *, name: str, where: str) -> None:
    """Load one part of a state into a network or optimizer, or say in a sentence that it does not fit."""
    try:
        target.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise InputError(
            f"{where}: the checkpoint's {name} does not fit this run ({detail}); "
            "use the settings it was made with, or remove the folder to start from the beginning."
        ) from None
