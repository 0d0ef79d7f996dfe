"""A receiver of notices in this process: it keeps what it gets, and answers as it is told, faults included."""

import contextlib
import http.server
import json
import threading
from typing import Any

import local_server

SECRET = "T0AB12CD3/B0EF45GH6/x9Kq2LmN8pRs4TuV6wXy1Z"  # of the address, and nobody's
ELSEWHERE = "https://elsewhere.test/services/T1/B1/other-secret"


class Handler(local_server.Handler):
    server: "Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        state = self.server
        state.requests.append({"path": self.path, "headers": dict(self.headers), "body": json.loads(body)})
        answer = state.answers[0] if len(state.answers) == 1 else state.answers.pop(0)
        with contextlib.suppress(ConnectionError):
            getattr(self, f"say_{answer}")() if isinstance(answer, str) else self.say(*answer)

    def do_GET(self) -> None:  # what a client does that follows a redirect
        self.server.requests.append({"path": self.path, "method": "GET"})
        self.say(200, "followed")

    def say(self, status: int, text: str = "", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(text.encode()))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def say_nothing(self) -> None:
        self.server.released.wait(30)

    def say_slowly(self) -> None:
        """Answer a byte at a time, so that no single wait is long."""
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: x\r\n" * 1000:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.released.wait(0.02):
                return

    def say_garbage(self) -> None:
        self.wfile.write(b"\x00\xff no answer of a web server\r\n\r\n")
        self.close_connection = True

    def say_half(self) -> None:
        """Break the connection off before an answer."""
        self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    """Answers: (status, text, headers) or the name of a fault; each once, the last for ever."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.answers: list[Any] = [(200, "ok")]
        self.released = threading.Event()

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"{self.host}/services/{SECRET}"

    def server_close(self) -> None:
        self.released.set()
        super().server_close()
