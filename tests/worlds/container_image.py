"""The container image of this commit, for the tests that need it, and `pipeline.py` beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attngan.storage import artifacts

ROOT = Path(__file__).resolve().parents[2]

IMAGE = f"attngan/python:{artifacts.code_revision()}"


def require() -> None:
    """Skip the test, with the reason, where there is no engine or no image; fail where ATTNGAN_REQUIRE_IMAGE is set."""
    give_up = pytest.fail if os.environ.get("ATTNGAN_REQUIRE_IMAGE") else pytest.skip
    if shutil.which("docker") is None:
        give_up("no docker command")
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        give_up("no Docker engine answers")
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True).returncode:
        give_up(f"no image {IMAGE}; make image builds it")


def containers_now() -> set[str]:
    """Return the ids of the containers that attngan started, ended ones too."""
    command = ["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", "name=attngan-"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def command(*arguments: object) -> list[str]:
    """Return a command of `pipeline.py`."""
    return [sys.executable, str(ROOT / "pipeline.py"), *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess:
    """Run a command of `pipeline.py`."""
    return subprocess.run(command(*arguments), capture_output=True, text=True)


def wait_for(line: str, process: subprocess.Popen) -> None:
    """Read a process's output up to a line."""
    for said in process.stdout:
        if line in said:
            return
    raise AssertionError(f"it ended with {process.wait()} before it said {line!r}")
