"""Cloud storage for tests: an emulator behind a proxy that injects faults when it is told to.

gcp-storage-emulator ignores `ifGenerationMatch`; the proxy compares generations itself before it passes a request on.
"""

import http.client
import http.server
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Literal

import local_server

Fault = Literal["503", "503 after", "reset", "reset after", "truncated", "damaged", "slow"]
Refusal = tuple[int, bytes]  # status and content
SLOW_SECONDS = 1.0


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on to the emulator.

    Attributes:
        choose_fault: asked before every request with its method, path and number; None lets it pass.
        requests: method and path of every request so far.
        drop: headers of requests that the storage does not know.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: tuple[str, int]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.choose_fault: Callable[[str, str, int], Fault | Refusal | None] = lambda method, path, number: None
        self.requests: list[tuple[str, str]] = []
        self.drop: tuple[str, ...] = ()
        self.lock = threading.Lock()  # a precondition and what it guards are one

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Stay quiet where a client went away: tests kill some."""


class _Handler(local_server.Handler):
    def _pass_on(self):
        body = self._body()
        self.server.requests.append((self.command, self.path))
        fault = self.server.choose_fault(self.command, self.path, len(self.server.requests))
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        if fault == "503":
            return self._answer(503, [], b"try later")
        if fault == "reset":
            return self._reset()
        if isinstance(fault, tuple):
            return self._answer(fault[0], [("Content-Type", "application/xml")], fault[1])
        with self.server.lock:
            refused = self._broken_precondition(body)
            status, headers, content = refused or self._ask(self.command, self.path, body, dict(self.headers))
        if fault == "503 after":
            return self._answer(503, [], b"try later")
        if fault == "reset after":
            return self._reset()
        if fault == "damaged" and content:
            content = content[:-1] + bytes([content[-1] ^ 1])
        return self._answer(status, headers, content, cut=fault == "truncated")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _pass_on

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _ask(self, method, path, body, headers):
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=30)
        dropped = ("transfer-encoding", *map(str.lower, self.server.drop))
        headers = {name: value for name, value in headers.items() if name.lower() not in dropped}
        connection.request(method, path, body, {**headers, "Content-Length": str(len(body))})
        answer = connection.getresponse()
        content = _quoted_links(answer.read())
        connection.close()
        return answer.status, answer.getheaders(), content

    def _broken_precondition(self, body: bytes):
        """Return the answer 412 where the object is not of the generation that the request names."""
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if "ifGenerationMatch" not in query:
            return None
        bucket = url.path.split("/b/")[1].split("/")[0]
        name = query["name"][0] if "name" in query else _name_in(body)
        path = f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}"
        status, _, content = self._ask("GET", path, b"", {})
        generation = int(json.loads(content)["generation"]) if status == 200 else 0
        if generation == int(query["ifGenerationMatch"][0]):
            return None
        return 412, [("Content-Type", "application/json")], b'{"error": {"code": 412, "message": "conditionNotMet"}}'

    def _answer(self, status, headers, content, *, cut=False):
        self.send_response(status)
        size = len(content)
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                size = int(value)  # of what a GET would bring
            elif name.lower() not in ("content-length", "connection", "date", "server", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._reset()

    def _reset(self):
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


def _quoted_links(content: bytes) -> bytes:
    """Return what the emulator says of objects with links that hold, as the real ones do, the quoted name."""
    if not content.startswith(b"{") or b'"mediaLink"' not in content:
        return content
    value = json.loads(content)
    for each in value.get("items", [value]):
        start = each["mediaLink"].split("/o/")[0]
        each["mediaLink"] = f"{start}/o/{urllib.parse.quote(each['name'], safe='')}?alt=media"
    return json.dumps(value).encode()


def _name_in(body: bytes) -> str:
    """Return the object's name in the JSON part of a multipart upload."""
    start = body.index(b"{")
    return json.JSONDecoder().raw_decode(body[start:].decode("utf-8", errors="replace"))[0]["name"]
