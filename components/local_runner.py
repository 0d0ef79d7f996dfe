"""Step processes under `kfp.local`: each step's output on the console and in a log, its exit status known, no orphans.

kfp 2.17 forgets a step's exit status, keeps no log, and leaves steps running when it is told to stop.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from attngan import exit_status

GRACE_SECONDS = 60.0  # for a step to save its state
TAIL_BYTES = 20_000
SENTENCE = "attngan: "  # how a step begins the line that says why it stopped


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a step ended with another status than 0."""

    step: str
    status: int
    log: Path
    reason: str


class StepRunner:
    """Runs the process of each step, in place of kfp's own function.

    Args:
        logs: folder that gets `<step>.log`.
        code: folder to import attngan from.
        console: where people look.
    """

    def __init__(self, logs: Path, code: Path, console: TextIO):
        self.logs = logs
        self.code = code
        self.console = console
        self.ran: list[str] = []
        self.failure: Failure | None = None

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run one step's command to its end and return its exit status."""
        step = full_command[full_command.index("--function_to_execute") + 1]
        self.ran.append(step)
        print(f"== {step} ==", file=self.console, flush=True)
        path = self.logs / f"{step}.log"
        with path.open("ab") as log:
            start = log.tell()
            status = _run(full_command, self._environment(env_vars), _Tee(log, self.console))
        if status != 0:
            self.failure = Failure(step, status, path, _reason(status, path, start))
        return status

    @contextlib.contextmanager
    def installed(self) -> Iterator["StepRunner"]:
        """Let `kfp.local` start its steps here while the block runs, and keep its own account of them quiet."""
        from kfp.local import subprocess_task_handler as handler

        original = handler.run_local_subprocess
        handler.run_local_subprocess = self.run
        try:
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
                yield self
        finally:
            handler.run_local_subprocess = original

    def _environment(self, env_vars: dict[str, str] | None) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(self.code), os.environ.get("PYTHONPATH")]))
        return {**os.environ, **(env_vars or {}), "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}


class _Tee:
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


def _run(command: list[str], environment: dict[str, str], tee: _Tee) -> int:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        try:
            tee.copy(process.stdout)
            return process.wait()
        except BaseException as stop:
            _stop(process, signal.SIGTERM if isinstance(stop, exit_status.Terminated) else signal.SIGINT, tee)
            raise


def _stop(process: subprocess.Popen, signum: int, tee: _Tee) -> None:
    """Tell every process of the step to stop, and wait until the last has ended: it may be saving its state."""
    _signal_group(process, signum)
    last_resort = threading.Timer(GRACE_SECONDS, _signal_group, [process, signal.SIGKILL])
    last_resort.start()
    try:
        assert process.stdout is not None
        tee.copy(process.stdout)
    finally:
        last_resort.cancel()
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signum)


def _reason(status: int, path: Path, start: int) -> str:
    """Read from the end of the log why the step failed."""
    with path.open("rb") as log:
        log.seek(max(start, path.stat().st_size - TAIL_BYTES))
        lines = log.read().decode(errors="replace").strip().splitlines()
    said = [line.removeprefix(SENTENCE) for line in lines if line.startswith(SENTENCE)]
    if status == exit_status.PERSON and said:
        return said[-1]
    number = -status if status < 0 else status - 128  # the shell around a step adds 128
    if number in set(signal.Signals):
        return f"it was ended by {signal.Signals(number).name}"
    return lines[-1] if lines else "it printed nothing"
