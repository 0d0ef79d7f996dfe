"""What a step says while it runs under `kfp.local`: on the console, in its log, and why it failed.

kfp 2.17 forgets a step's exit status and keeps no log.
"""

import abc
import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from attngan.runtime import exit_status
from attngan.runtime.console import TOLD_AT_THE_END

ENVIRONMENT = {TOLD_AT_THE_END: "1"}  # of a step that is one of all
NOT_STARTED = 125  # how `docker run` ends when the engine could not start the container
TAIL_BYTES = 20_000
SENTENCES = {exit_status.PERSON: "attngan: ", NOT_STARTED: "docker: "}  # how the line begins that says why


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a step ended with another status than 0."""

    step: str
    status: int
    log: Path
    reason: str


class Tee:
    """Everything into the log; to the console what the step says, without what kfp's executor says."""

    def __init__(self, log: BinaryIO, console: TextIO):
        self.log = log
        self.console = console
        self.in_executor_input = False

    def copy(self, source: BinaryIO) -> None:
        """Copy lines until every process that could write has ended."""
        for line in source:
            self.log.write(line)
            self.log.flush()
            if self._is_for_people(line):
                self.console.write(line.decode(errors="replace"))
                self.console.flush()

    def _is_for_people(self, line: bytes) -> bool:
        if self.in_executor_input:
            self.in_executor_input = not line.startswith(b"}")
            return False
        from_executor = line.startswith(b"[KFP Executor ")
        self.in_executor_input = from_executor and line.rstrip().endswith(b"Got executor_input:")
        return not from_executor


class Runner(abc.ABC):
    """Runs steps in place of a function of kfp's, and keeps account of them.

    Args:
        logs: folder that gets `<step>.log`.
        console: where people look.
    """

    def __init__(self, logs: Path, console: TextIO):
        self.logs = logs
        self.console = console
        self.ran: list[str] = []
        self.failure: Failure | None = None

    @abc.abstractmethod
    def replaces(self) -> tuple[Any, str, Callable[..., Any]]:
        """Return which attribute of kfp's gives way, and to what."""

    @contextlib.contextmanager
    def installed(self) -> Iterator["Runner"]:
        """Let `kfp.local` start its steps here while the block runs, and keep its own account of them quiet."""
        owner, name, ours = self.replaces()
        original = getattr(owner, name)
        setattr(owner, name, ours)
        try:
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
                yield self
        finally:
            setattr(owner, name, original)

    def record(self, full_command: list[str], start: Callable[[str, Tee], int]) -> int:
        """Run one step to its end and return its exit status.

        Args:
            full_command: kfp's command, which names the step.
            start: given the step's name and where its output goes, runs it and returns its exit status.
        """
        step = full_command[full_command.index("--function_to_execute") + 1]
        self.ran.append(step)
        print(f"== {step} ==", file=self.console, flush=True)
        path = self.logs / f"{step}.log"
        with path.open("ab") as log:
            before = log.tell()
            status = start(step, Tee(log, self.console))
        if status != 0:
            self.failure = Failure(step, status, path, _reason(status, path, before))
        return status


def ended_by(status: int) -> str | None:
    """Return the name of the signal behind an exit status, if there is one."""
    number = -status if status < 0 else status - 128  # the shell around a step, or the engine, adds 128
    return signal.Signals(number).name if number in set(signal.Signals) else None


def _reason(status: int, path: Path, start: int) -> str:
    """Read from the end of the log why the step failed."""
    with path.open("rb") as log:
        log.seek(max(start, path.stat().st_size - TAIL_BYTES))
        lines = log.read().decode(errors="replace").strip().splitlines()
    if status in SENTENCES:
        said = [line.removeprefix(SENTENCES[status]) for line in lines if line.startswith(SENTENCES[status])]
        if said:
            return said[-1]
    if name := ended_by(status):
        return f"it was ended by {name}"
    return lines[-1] if lines else "it printed nothing"
