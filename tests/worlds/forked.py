"""Commands that are started often: forked from a process that has imported torch, which takes seconds, once."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["attngan.cli", "attngan.steps.train_generator", "attngan.storage.google_storage"])


class Command:
    """`attngan ARGUMENTS` in a process of its own, whose output lies in a file.

    Args:
        arguments: as on the command line.
        output: gets standard output and errors.
    """

    def __init__(self, arguments: Sequence[str], output: Path):
        self.output = output
        output.write_text("")
        self._process: ForkServerProcess = _CONTEXT.Process(
            target=_run, args=(list(arguments), str(output), dict(os.environ))
        )
        self._process.start()

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def status(self) -> int | None:
        """As `subprocess.Popen.poll` gives it."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None and self.status is None:
            os.kill(self._process.pid, number)

    def wait(self) -> int | None:
        self._process.join()
        return self.status

    def wait_for_line(self, start: str, seconds: float) -> str:
        """Wait until a line that begins so was printed, or the command has ended; return all that was printed."""
        deadline = time.monotonic() + seconds
        while True:
            has_ended, said = self.status is not None, self.said
            if has_ended or any(line.startswith(start) for line in said.splitlines()):
                return said
            assert time.monotonic() < deadline, said
            time.sleep(0.005)


def _run(arguments: list[str], output: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    handle = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    from attngan.cli import main

    sys.argv = ["attngan", *arguments]
    main()
