"""The running server among clients that are slow, silent, gone or talk nonsense: others are answered, little logged."""

import contextlib
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

pytest.importorskip("fastapi")
serve_connections = pytest.importorskip("attngan.serving.connections")
httpx = pytest.importorskip("httpx")
FILES = 256  # that the server may have open
PROMPT = 2  # seconds for an answer while others misbehave
HALF_BODY = b'POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"caption": '
HALF_HEAD = b"POST /generate HTTP/1.1\r\nHost: x\r\nX-Slow"
CLIENT_SECONDS = 1.5  # instead of the server's five, which these tests would wait for often
PATIENCE = 20  # seconds until what should be dropped is dropped, on a busy machine
COMMAND = f"""
from attngan.serving import connections as serve_connections
serve_connections.CLIENT_SECONDS = {CLIENT_SECONDS}
from attngan.cli import main
main()
"""


class Server:
    """`attngan serve` as a process with few file descriptors, and what it says."""

    def __init__(self, bundle):
        self.said = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "serve", str(bundle), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
        )
        self.address = self.process.stdout.readline().split()[-1]
        self.port = int(self.address.rpartition(":")[2])
        httpx.get(self.address + "/healthz", timeout=60)  # which opens what it needs for itself

    def connect(self, sent=b""):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.sendall(sent)
        return connection

    def ask(self, sent):
        """Send bytes and return all that comes back until the server closes."""
        with self.connect(sent) as connection:
            return received(connection)

    def log(self):
        self.said.seek(0)
        return self.said.read()

    def new_lines(self, before):
        return self.log()[len(before) :].splitlines()

    def is_prompt(self):
        started = time.monotonic()
        assert httpx.get(self.address + "/healthz", timeout=PROMPT).status_code == 200
        return time.monotonic() - started < PROMPT

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def received(connection):
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(2**16):
            parts.append(part)
    return b"".join(parts)


@pytest.fixture(scope="module")
def server(bundle):
    server = Server(bundle)
    yield server
    with server.connect(HALF_BODY):  # which must not keep it from ending
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0, server.log()
    assert "Traceback" not in server.log()


@pytest.fixture(autouse=True)
def still_draws(request):
    yield
    if "server" not in request.fixturenames:
        return
    server = request.getfixturevalue("server")
    answer = httpx.post(server.address + "/generate", json={"caption": "a red bird", "num_images": 1}, timeout=60)
    assert answer.status_code == 200 and "Traceback" not in server.log()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(HALF_BODY, id="half bodies", marks=pytest.mark.slow),
        pytest.param(HALF_HEAD, id="half heads"),
        pytest.param(b"", id="silence", marks=pytest.mark.slow),
    ],
)
def test_hundreds_that_send_too_little_are_dropped_while_others_are_answered(sent, server):
    before, files = server.log(), server.open_files()
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        for number in range(300):
            stack.enter_context(server.connect(sent))
            if number % 50 == 0:
                assert server.is_prompt()
        while time.monotonic() < started + CLIENT_SECONDS or server.open_files() > files + 2:
            assert server.is_prompt() and server.open_files() < FILES
            assert time.monotonic() < started + PATIENCE
            time.sleep(0.1)
    assert len(server.new_lines(before)) <= 4, server.new_lines(before)


@pytest.mark.parametrize("sent", [HALF_BODY, HALF_HEAD], ids=["half a body", "half a head"])
def test_a_request_that_does_not_arrive_is_answered_with_408_after_a_few_seconds(sent, server):
    started = time.monotonic()
    answer = server.ask(sent)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"connection: close" in answer and b'{"error": "' in answer
    assert CLIENT_SECONDS - 0.1 < time.monotonic() - started < PATIENCE


@pytest.mark.parametrize("path", [b"/generate", b"/healthz", b"/nowhere"])
def test_a_body_that_drips_is_dropped_too_also_where_the_answer_came_before_it(path, server):
    started = time.monotonic()
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with server.connect(head) as connection, contextlib.suppress(ConnectionError):
        while time.monotonic() < started + PATIENCE:
            connection.sendall(b"x")
            time.sleep(0.2)
    assert time.monotonic() < started + PATIENCE


def test_a_body_that_breaks_off_is_one_line_at_most(server):
    before = server.log()
    for _ in range(30):
        server.connect(HALF_BODY).close()
    time.sleep(1)
    assert len(server.new_lines(before)) <= 1


@pytest.mark.slow
def test_who_does_not_take_the_answers_is_dropped(server):
    before = server.open_files()
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    connection.send(request * 100)
        deadline = time.monotonic() + 2 * PATIENCE
        while server.open_files() > before:
            assert server.is_prompt() and time.monotonic() < deadline
            time.sleep(0.3)


def test_a_slow_but_steady_client_is_served(server):
    body = b'{"caption": "a red bird", "num_images": 1}'
    head = b"POST /generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with server.connect() as connection:
        time.sleep(0.8 * CLIENT_SECONDS)  # a browser opens connections before it needs them
        for part in (head[:20], head[20:], body[:10], body[10:]):
            connection.sendall(part)
            time.sleep(0.2 * CLIENT_SECONDS)
        assert received(connection).startswith(b"HTTP/1.1 200 ")


NONSENSE = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n", b"400"),
    "blank lines": (b"\r\n\r\n\r\n", b"400"),
    "a head of a megabyte": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2**20, b"400"),
    "lengths that differ": (b"POST /generate HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}", b"400"),
    "a length of 5,000 digits": (
        b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"400",
    ),
    "a length below nought": (b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
    "chunks that are none": (b"POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    "such chunks after the answer": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"405"),
    "an unknown coding": (b"POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n{}", b"400"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", b"400"),
    "a host that is none": (b"GET /metrics/ HTTP/1.1\r\nHost: [\xff\r\nConnection: close\r\n\r\n", b"307"),
    "bytes in the path": (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    "half a surrogate pair in the path": (
        b"GET /v2/models/%ED%A0%80%00%0D%0Ax HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"404",
    ),
    "another protocol": (
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"404",
    ),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"405"),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
    "garbage after a request": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\x00\x00\r\n\r\n", b"200"),
}


@pytest.mark.parametrize(("sent", "status"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_refused_and_hardly_logged(sent, status, server):
    before = server.log()
    for _ in range(20):
        with server.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
            if status == b"405" and b"chunked" in sent:
                assert connection.recv(2**16).startswith(b"HTTP/1.1 405 ")
                connection.sendall(b"zz\r\n")
                assert received(connection) in (b"", b'{"error":"Method Not Allowed."}')
            else:
                answer = connection.recv(2**16) if b"megabyte" not in sent else b""
                assert answer.startswith(b"HTTP/1.1 " + status + b" "), answer[:100]
    assert len(server.new_lines(before)) <= 2, server.new_lines(before)


def test_pipelined_requests_are_answered_in_their_order(server):
    requests = [b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD /v2 HTTP/1.1\r\nHost: x\r\n\r\n"] * 20
    answer = server.ask(b"".join(requests) + b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    lines = [line for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ") or b"HTTP/1.1 " in line]
    assert [line.rpartition(b"HTTP/1.1 ")[2][:3] for line in lines] == [b"200", b"405"] * 20 + [b"200"]


def test_others_are_answered_while_many_draw(server):
    body = {"caption": "a red bird", "num_images": 4}
    statuses = []

    def draw():
        statuses.append(httpx.post(server.address + "/generate", json=body, timeout=60).status_code)

    threads = [threading.Thread(target=draw) for _ in range(30)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert server.is_prompt()
    assert set(statuses) <= {200, 503} and 200 in statuses


def test_what_is_said_over_and_over_is_logged_once_with_how_often():
    seldom = serve_connections.Seldom(seconds=0.2)

    def logged(message, level=logging.WARNING):
        record = logging.LogRecord("uvicorn.error", level, "", 0, message, (), None)
        return record.getMessage() if seldom.filter(record) else None

    assert [logged("a"), logged("a"), logged("b"), logged("a")] == ["a", None, "b", None]
    assert [logged("c", logging.ERROR), logged("c", logging.ERROR)] == ["c", "c"]
    time.sleep(0.2)
    assert [logged("a"), logged("a"), logged("b")] == ["a (2 more since the last time)", None, "b"]


@pytest.mark.parametrize(
    ("files", "connections"), [(256, 96), (1024, 480), (10**6, 500), (resource.RLIM_INFINITY, 500)]
)
def test_connections_leave_room_for_other_files(files, connections, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert serve_connections.max_connections() == connections
