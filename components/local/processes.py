"""Steps as processes: their exit status known, no orphans.

kfp 2.17 leaves steps running when it is told to stop.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from attngan.runtime import exit_status
from components.local.step_log import ENVIRONMENT, Runner, Tee

GRACE_SECONDS = 60.0  # for a step to save its state


class ProcessRunner(Runner):
    """Runs each step as a process, in place of kfp's own function.

    Args:
        logs: folder that gets `<step>.log`.
        code: folder to import attngan from.
        console: where people look.
    """

    def __init__(self, logs: Path, code: Path, console: TextIO):
        super().__init__(logs, console)
        self.code = code

    def replaces(self) -> tuple[Any, str, Callable[..., Any]]:
        """Return kfp's function that starts a process."""
        from kfp.local import subprocess_task_handler as handler

        return handler, "run_local_subprocess", self.run

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run one step's command to its end and return its exit status."""
        path = os.pathsep.join(filter(None, [str(self.code), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, **(env_vars or {}), **ENVIRONMENT, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
        return self.record(full_command, lambda _, tee: run(full_command, environment=environment, tee=tee))


def signal_group(process: subprocess.Popen, signum: int) -> None:
    """Send a signal to a process and to all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signum)


def run(
    command: list[str],
    *,
    environment: Mapping[str, str] | None = None,
    tee: Tee | None = None,
    send: Callable[[subprocess.Popen, int], None] = signal_group,
) -> int:
    """Run a command to its end and return its exit status; what stops us stops it first.

    Args:
        command: program and arguments.
        environment: of the command; ours when None.
        tee: gets the output; None leaves it where ours goes.
        send: sends a signal to everything that the command started.
    """
    streams = {} if tee is None else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, start_new_session=True, **streams)
    with process:
        try:
            return _follow(process, tee)
        except BaseException as stop:
            _stop(process, signal.SIGTERM if isinstance(stop, exit_status.Terminated) else signal.SIGINT, tee, send)
            raise


def _follow(process: subprocess.Popen, tee: Tee | None) -> int:
    if tee is not None:
        assert process.stdout is not None
        tee.copy(process.stdout)
    return process.wait()


def _stop(
    process: subprocess.Popen, signum: int, tee: Tee | None, send: Callable[[subprocess.Popen, int], None]
) -> None:
    """Tell every process of the step to stop, and wait until the last has ended: it may be saving its state."""
    send(process, signum)
    last_resort = threading.Timer(GRACE_SECONDS, send, [process, signal.SIGKILL])
    last_resort.start()
    try:
        _follow(process, tee)
    finally:
        last_resort.cancel()
        send(process, signal.SIGKILL)
        process.wait()
