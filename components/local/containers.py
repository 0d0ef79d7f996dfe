"""Steps in containers: the `docker run` that a person could type, its exit status known, nothing left behind.

kfp 2.17 lets the engine remove a container before its exit status was read, takes the missing container for a success,
and leaves containers running when it is told to stop. Hence the docker command in place of kfp's own client.
"""

import csv
import dataclasses
import io
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from attngan.errors import InputError
from attngan.storage.sources import captions_beside
from components.local import processes
from components.local.step_log import ENVIRONMENT, Runner, Tee

SHARED_MEMORY = "8g"  # for NCCL between processes; the engine's default is 64 MB
# What changes a result or its speed out here changes it in there.
PASSED_ON = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "CUDA_VISIBLE_DEVICES")


@dataclasses.dataclass(frozen=True)
class Container:
    """How a step's container is started: as this user, on a root that cannot be written, without a network.

    Args:
        image: the image of the steps.
        read: files and folders that the step reads; they are at the same places inside, and so are captions that are
            read beside a source.
        write: folders, which must exist, that the step writes.
        gpus: give it all GPUs.
    """

    image: str
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    gpus: bool = False

    def command(self, name: str, *flags: str) -> list[str]:
        """Return `docker run` up to the image, to be followed by the command to run inside."""
        beside = [Path(folder) for path in self.read if (folder := captions_beside(str(path)))]
        return [
            *("docker", "run", f"--name={name}", *flags),
            *(f"--user={os.getuid()}:{os.getgid()}", "--network=none", "--read-only"),
            "--mount=type=volume,target=/tmp",  # on the engine's disk, for it may get larger than the memory
            *(f"--shm-size={SHARED_MEMORY}", *(["--gpus=all"] if self.gpus else [])),
            *(f"--env={variable}={os.environ[variable]}" for variable in PASSED_ON if variable in os.environ),
            *(_mount(path, "readonly") for path in dict.fromkeys([*self.read, *beside]) if path not in self.write),
            *(_mount(path) for path in dict.fromkeys(self.write)),
            self.image,
        ]


class ContainerRunner(Runner):
    """Runs each step in a container, in place of kfp's own task handler; the image is ours, whatever kfp names.

    Args:
        logs: folder that gets `<step>.log`.
        container: how to start it.
        console: where people look.
    """

    def __init__(self, logs: Path, container: Container, console: TextIO):
        super().__init__(logs, console)
        self.container = container

    def replaces(self) -> tuple[Any, str, Callable[..., Any]]:
        """Return kfp's method that starts a container."""
        from kfp.local import docker_task_handler as handler
        from kfp.local import status

        def run(task: handler.DockerTaskHandler) -> status.Status:
            ended = self.run(task.full_command, task.env_vars)
            return status.Status.SUCCESS if ended == 0 else status.Status.FAILURE

        return handler.DockerTaskHandler, "run", run

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run one step's command to its end and return its exit status."""
        flags = [f"--env={variable}={value}" for variable, value in {**(env_vars or {}), **ENVIRONMENT}.items()]
        out_of_memory = False

        def start(step: str, tee: Tee) -> int:
            nonlocal out_of_memory
            name = new_name(step)
            try:
                # No --init: kfp's shell is process 1, which only SIGKILL ends, so it waits for a step that is saving.
                status = run(name, [*self.container.command(name, *flags), *full_command], tee)
                out_of_memory = _ask("inspect", "--format={{.State.OOMKilled}}", name).stdout.strip() == "true"
                return status
            finally:
                _remove(name)

        status = self.record(full_command, start)
        if self.failure is not None and out_of_memory:
            self.failure = dataclasses.replace(self.failure, reason="its container ran out of memory")
        return status


def new_name(step: str) -> str:
    """Return a name for a container that no other has."""
    return f"attngan-{step.replace('_', '-')}-{secrets.token_hex(4)}"


def check(image: str) -> str:
    """Return the image's id, or say in one sentence what keeps us from starting it."""
    if shutil.which("docker") is None:
        raise InputError("docker: no such command; install Docker, or leave out --docker.")
    engine = _ask("version", "--format={{.Server.Version}}")
    if engine.returncode != 0:
        said = (engine.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"no Docker engine answers ({said}); start it, or leave out --docker.")
    found = _ask("image", "inspect", "--format={{.Id}}", image)
    if found.returncode != 0:
        raise InputError(
            f"{image}: no such image here; build it with `make image`, `docker pull` it, or name another with --image."
        )
    return found.stdout.strip()


def run(name: str, command: list[str], tee: Tee | None = None) -> int:
    """Run a `docker run` to its end and return the container's exit status; what stops us stops the container first.

    Args:
        name: the container's.
        command: the whole command.
        tee: gets the output; None leaves it where ours goes.
    """

    def send(process: subprocess.Popen, signum: int) -> None:
        # To every process inside but the first, as a terminal does it.
        inside = f"kill -s {signal.Signals(signum).name.removeprefix('SIG')} -- -1"
        if signum == signal.SIGKILL or _ask("exec", name, "sh", "-c", inside).returncode != 0:
            _remove(name)
            processes.signal_group(process, signal.SIGKILL)

    return processes.run(command, tee=tee, send=send)


def _mount(path: Path, *options: str) -> str:
    """Return a mount at the same place inside; --volume would make what is missing, and stumble over a colon."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["type=bind", f"source={path}", f"target={path}", *options])
    return f"--mount={text.getvalue()}"


def _remove(name: str) -> None:
    gone = _ask("rm", "--force", "--volumes", name)
    expected = ("No such container", "already in progress")  # --rm may have been faster
    if gone.returncode != 0 and not any(text in gone.stderr for text in expected):
        print(f"attngan: `docker rm --force {name}` failed: {gone.stderr.strip()}", file=sys.stderr, flush=True)


def _ask(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
