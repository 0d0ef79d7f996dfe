"""An HTTP server of a test, in a thread of its own."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TypeVar

Server = TypeVar("Server", bound=HTTPServer)
POLL_SECONDS = 0.02


class Handler(BaseHTTPRequestHandler):
    """Answers over connections that stay open, each answer in one packet: a second one waits 40 ms for the first."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle_expect_100(self) -> bool:
        """Say that the rest may come; the answer would wait in its packet otherwise, and the client a second for it."""
        answered = super().handle_expect_100()
        self.wfile.flush()
        return answered

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a server while the block runs."""
    threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
