"""One process of a training step, started by `launcher`: it runs the step and leaves its outcome in a file."""

import importlib
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from attngan.errors import is_lasting
from attngan.runtime import exit_status, launcher

WATCH_SECONDS = 0.2
GRACE_SECONDS = 60.0  # to save the state, once the step that started this process is gone


def main(folder: Path, parent: int) -> int:
    """Run the step that the folder names, and return the exit status.

    Args:
        folder: shared with the step that started this process.
        parent: its process; without it this one saves its state and ends.
    """
    exit_status.print_anything()
    rank = int(os.environ["RANK"])
    signal.signal(signal.SIGTERM, exit_status.terminate)
    threading.Thread(target=_watch, args=(folder, parent), daemon=True).start()
    name, arguments = launcher.read_job(folder)
    step = getattr(importlib.import_module(f"attngan.steps.{name}"), name)
    try:
        try:
            figures = step(**arguments)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torch ends all when one fails; this one is ending by itself
    except (KeyboardInterrupt, SystemExit):
        launcher.write_outcome(folder, rank, launcher.STOPPED, None)
        return exit_status.TERMINATED
    except Exception as error:
        sentence = exit_status.explain(error, arguments["out"])
        if sentence is None:
            launcher.write_outcome(folder, rank, launcher.BUG, traceback.format_exc())
            return 1
        kind = launcher.MISTAKE if is_lasting(error) else launcher.TRANSIENT
        launcher.write_outcome(folder, rank, kind, sentence)
        return exit_status.PERSON
    launcher.write_outcome(folder, rank, launcher.DONE, figures)
    return 0


def _watch(folder: Path, parent: int) -> None:
    """Send this process SIGTERM for each signal that the step was sent, and when the step is gone."""
    handed_on = 0
    while os.getppid() == parent:
        stop = folder / launcher.STOP
        count = int(stop.read_text(encoding="utf-8") or 0) if stop.exists() else 0
        if count > handed_on:
            handed_on = count
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(exit_status.TERMINATED)  # it waits for a process that is no more, where no signal is heard


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
