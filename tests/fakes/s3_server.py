"""An S3 for tests: moto's server as a process of its own, or a real store that is named in `ATTNGAN_TEST_S3`.

`ATTNGAN_TEST_S3=http://KEY:SECRET@127.0.0.1:8333` runs the same tests against SeaweedFS, MinIO or whatever is there;
its bucket `pictures` is emptied by every test.
"""

import contextlib
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BUCKET = "pictures"


class Store(NamedTuple):
    """Where a store listens, and what it asks of those who come."""

    address: tuple[str, int]
    key: str = "key"
    secret: str = "secret"

    def environment(self, url: str) -> dict[str, str]:
        """Return the variables for a process that asks it at `url`."""
        keys = {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}
        return {**keys, "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": url}


@contextlib.contextmanager
def running() -> Iterator[Store]:
    """Run the server while the block runs, unless a store is named."""
    if named := os.environ.get("ATTNGAN_TEST_S3"):
        url = urllib.parse.urlsplit(named)
        yield Store((url.hostname or "", url.port or 80), url.username or "", url.password or "")
        return
    command = [str(Path(sys.executable).with_name("moto_server")), "-p", "0"]
    log = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    server = subprocess.Popen(command, env={**os.environ, "NO_COLOR": "1"}, **log)
    try:
        yield Store(("127.0.0.1", _port(server)))
    finally:
        server.kill()
        server.wait()


def empty(client) -> None:
    """Make the bucket, empty; SeaweedFS would keep the folders of what was in it."""
    if BUCKET in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for each in page.get("Contents", ()):
                client.delete_object(Bucket=BUCKET, Key=each["Key"])
        client.delete_bucket(Bucket=BUCKET)
    client.create_bucket(Bucket=BUCKET)


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
