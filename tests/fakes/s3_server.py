"""An S3 for tests: moto's server as a process of its own, behind the proxy that injects faults."""

import contextlib
import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

STARTS_IN = 60.0  # seconds
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@contextlib.contextmanager
def moto() -> Iterator[tuple[str, int]]:
    """Run the server while the block runs; give where it listens."""
    command = [str(Path(sys.executable).with_name("moto_server")), "-p", "0"]
    log = subprocess.PIPE
    server = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    try:
        yield "127.0.0.1", _port(server)
    finally:
        server.kill()
        server.wait()


def _port(server: "subprocess.Popen[str]") -> int:
    """Return the port that the server says it listens on."""
    for line in server.stdout or ():
        if "Running on http://127.0.0.1:" in line:
            threading.Thread(target=_read_on, args=(server,), daemon=True).start()
            return int(line.rsplit(":", 1)[1])
    raise RuntimeError(f"moto_server ended with {server.wait()}")


def _read_on(server: "subprocess.Popen[str]") -> None:
    """Take what the server prints, a line for each request: once the pipe is full, it would stand still."""
    for _ in server.stdout or ():
        pass


def reset(address: tuple[str, int]) -> None:
    """Forget every bucket."""
    connection = http.client.HTTPConnection(*address, timeout=STARTS_IN)
    connection.request("POST", "/moto-api/reset")
    connection.getresponse().read()
    connection.close()
