"""An HTTP server of a test, in a thread of its own."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import HTTPServer
from typing import TypeVar

Server = TypeVar("Server", bound=HTTPServer)
POLL_SECONDS = 0.02


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a server while the block runs."""
    threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
