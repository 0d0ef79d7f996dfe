"""A training step over all GPUs of the node: starts torch.distributed.run's processes and tells what became of them.

Each process leaves its outcome in a folder that it shares with the step, so that a mistake is one sentence, not one
from each process, and a bug keeps its traceback.
"""

import contextlib
import functools
import inspect
import json
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec

import torch

import attngan
from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.errors import InputError, TransientError
from attngan.runtime import distributed, exit_status, scratch
from attngan.runtime.console import say

Arguments = ParamSpec("Arguments")
Figures = dict[str, float]
WORKER = "attngan.runtime.distributed_worker"
JOB, STOP = "job.json", "stop"  # in the shared folder
# How a process can end.
DONE, MISTAKE, TRANSIENT, BUG, STOPPED = "done", "mistake", "transient", "bug", "stopped"


def over_processes(setting: str) -> Callable[[Callable[Arguments, Figures]], Callable[Arguments, Figures]]:
    """Let a training step run in as many processes as its config asks for, started here or by a torchrun around it.

    Args:
        setting: name of the batch size that the processes share, such as "training.batch_size".
    """

    def decorate(step: Callable[Arguments, Figures]) -> Callable[Arguments, Figures]:
        @functools.wraps(step)
        def started(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figures:
            arguments = inspect.signature(step).bind(*args, **kwargs).arguments
            config: Config = arguments["config"]
            section, _, name = setting.partition(".")
            batch_size = getattr(getattr(config, section), name)
            if not distributed.is_started():
                count = num_processes(config, batch_size)
                distributed.check_divisible(batch_size, count, setting)
                if count > 1:
                    return launch(step.__name__, count, arguments)
            with distributed.joined(config.device, config.num_threads):
                distributed.check_divisible(batch_size, distributed.world_size(), setting)
                return step(*args, **kwargs)

        return started

    return decorate


def num_processes(config: Config, batch_size: int) -> int:
    """Return how many processes train: as set, or one for each CUDA device as long as they share the batch evenly."""
    count = config.num_processes
    if not distributed.is_on_cuda(config.device):
        return count or 1
    num_devices = 1 if ":" in config.device else max(1, torch.cuda.device_count())  # none: the step says so
    if count > num_devices:
        raise InputError(
            f"num_processes: {count} are asked for, and device {config.device} here means {num_devices}; lower it."
        )
    if count:
        return count
    chosen = max(each for each in range(1, num_devices + 1) if distributed.is_divisible(batch_size, each))
    if chosen < num_devices:
        say(f"{chosen} of {num_devices} GPUs train: a batch of {batch_size} cannot be shared out among more.")
    return chosen


def launch(step: str, count: int, arguments: dict[str, Any]) -> Figures:
    """Run a step in `count` processes of this machine to their end, and return what the first one returned.

    Ctrl-C and SIGTERM are handed on to the processes, which save the state and end.

    Args:
        step: a training step's name.
        count: how many processes.
        arguments: of the step: its config, paths and texts.

    Raises:
        InputError: what a process could not do and a person can put right.
        RuntimeError: a bug in one of them, with its traceback.
        SystemExit: they stopped as told, or one of them was killed.
    """
    with scratch.folder("processes") as folder:
        write_job(folder, step, arguments)
        with _stop_handed_on(folder) as received:
            exit_codes = _run(folder, count)
        outcomes = [_outcome(folder, rank) for rank in range(count)]
    return _judged(outcomes, exit_codes, received)


def write_job(folder: Path, step: str, arguments: dict[str, Any]) -> None:
    """Write what the processes are to run."""
    given = {name: value for name, value in arguments.items() if name != "config"}
    paths = {name: str(value) for name, value in given.items() if isinstance(value, Path)}
    others = {name: value for name, value in given.items() if name not in paths}
    job = {"step": step, "config": configs.dump(arguments["config"]), "paths": paths, "others": others}
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")


def read_job(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of the step that a process is to run."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    paths = {name: Path(value) for name, value in job["paths"].items()}
    return job["step"], {"config": configs.load(job["config"]), **paths, **job["others"]}


def write_outcome(folder: Path, rank: int, kind: str, what: Any) -> None:
    """Write how a process ended, and its figures where it is DONE, a sentence for a mistake, a traceback for a BUG."""
    draft = folder / f".outcome-{rank}"
    draft.write_text(json.dumps([kind, what]), encoding="utf-8")
    draft.replace(folder / f"outcome-{rank}.json")


def _outcome(folder: Path, rank: int) -> tuple[str, Any]:
    path = folder / f"outcome-{rank}.json"
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ("", None)


def _run(folder: Path, count: int) -> dict[int, int]:
    """Run the processes to their end, and return the exit codes of those that failed, by rank.

    torch's agent waits in a thread of its own: in the main thread it would answer a signal by killing the processes
    within 30 seconds, whether their state is saved or not.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launch_config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    exit_codes: dict[int, int] = {}
    errors: list[BaseException] = []

    def run() -> None:
        try:
            elastic_launch(launch_config, sys.executable)("-m", WORKER, str(folder), str(os.getpid()))
        except ChildFailedError as error:
            exit_codes.update({rank: failure.exitcode for rank, failure in error.failures.items()})
        except BaseException as error:
            errors.append(error)

    with _environment():
        agent = threading.Thread(target=run, name="torch.distributed.run")
        agent.start()
        agent.join()
    if errors:
        raise errors[0]
    return exit_codes


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Let the processes find this attngan, and keep torch's account of them off the console: we tell their end once."""
    logger, before = logging.getLogger("torch.distributed"), dict(os.environ)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    package = str(Path(attngan.__file__).parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [package, before.get("PYTHONPATH")]))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        logger.setLevel(level)


@contextlib.contextmanager
def _stop_handed_on(folder: Path) -> Iterator[list[int]]:
    """Hand Ctrl-C and SIGTERM on by a file that the processes watch; yields the signals so far."""
    received: list[int] = []

    def on_signal(number: int, _: Any) -> None:
        received.append(number)
        (folder / STOP).write_text(str(len(received)), encoding="utf-8")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _judged(outcomes: list[tuple[str, Any]], exit_codes: dict[int, int], received: list[int]) -> Figures:
    """Return the first process's figures, or end as the cause of all that failed would have it."""
    for kind, what in outcomes:
        if kind in (MISTAKE, TRANSIENT):
            raise (InputError if kind == MISTAKE else TransientError)(what)
    if outcomes[0][0] == DONE and not exit_codes:
        return outcomes[0][1]
    if received and outcomes[0][0] != BUG:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else exit_status.Terminated
    for rank, code in exit_codes.items():
        if code < 0 and code != -signal.SIGTERM:  # with that torch ends the others; they may fail for want of this one
            print(
                f"attngan: process {rank} of {len(outcomes)} was ended by {signal.Signals(-code).name}, as when memory "
                "runs out; the last state is kept: run the same command again to go on.",
                file=sys.stderr,
                flush=True,
            )
            raise SystemExit(1)
    for rank, (kind, what) in enumerate(outcomes):
        if kind == BUG:
            raise RuntimeError(f"process {rank} of {len(outcomes)} failed:\n{what}")
    raise exit_status.Terminated
