"""The server's connections: how long a client may take, how many may be open, and how much of it is logged.

uvicorn waits for ever for a request that does not arrive, and accepts until no file descriptor is left; strangers must
be able to do neither.
"""

import json
import logging
import resource
import socket
import time
from asyncio import TimerHandle, Transport
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from attngan.serving.drawing_queue import LATE

if TYPE_CHECKING:
    from fastapi import FastAPI

CLIENT_SECONDS = 5  # for a whole request, or for taking some of an answer
MAX_CONNECTIONS = 500  # with what uvicorn keeps of each, 50 MB
OTHER_FILES = 64  # open ones that are no connections, at most
ACCEPTED_AT_ONCE = 16  # in one round of the event loop, before any of them can be turned away
QUEUE = 1024  # which the kernel holds until they are accepted
LOG_SECONDS = 10  # between two lines that say the same


def run(app: "FastAPI", listening: socket.socket) -> None:
    """Answer what comes to a bound socket until SIGTERM or Ctrl-C."""
    Connection.limit = max_connections()
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        http=Connection,
        ws="none",
        loop="asyncio",  # which accepts as many at once as `backlog` says
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=CLIENT_SECONDS,
    )
    logging.getLogger("uvicorn.error").addFilter(Seldom())
    Server(config).run([listening])


def max_connections() -> int:
    """Return how many connections leave file descriptors for those that are accepted before they are counted."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(8, min(MAX_CONNECTIONS, (files - OTHER_FILES) // 2))


class Server(uvicorn.Server):
    """uvicorn's, with a longer queue in the kernel than it accepts at once."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for each in sockets or []:
            each.listen(QUEUE)


class Connection(H11Protocol):
    """uvicorn's connection, whose client has its time to send a request and to take the answer.

    It is the client's turn until its request is whole, and again while the answer waits to be taken. Where that lasts
    too long, and where there are too many connections, those whose clients were longest at their turn are dropped.
    """

    limit: ClassVar[int] = MAX_CONNECTIONS

    def connection_made(self, transport: Transport) -> None:
        """Begin with the client's turn, and make room where there is none."""
        self._timer: TimerHandle | None = None
        self._since = 0.0
        self._unsent = 0
        super().connection_made(transport)
        self._follow_turns()
        if sum(not each.transport.is_closing() for each in self.connections) > self.limit:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent; a new request on an open connection has the whole time."""
        if self._is_idle():
            self._stop_timer()
        super().data_received(data)
        self._follow_turns()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._follow_turns()

    def pause_writing(self) -> None:
        """Wait for the client to take some of the answer."""
        super().pause_writing()
        self._follow_turns()

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        self._follow_turns()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client, in one line if it went away in the middle of a request."""
        self._stop_timer()
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not (cycle.response_complete or cycle.disconnected):
            self.logger.warning("A client went away in the middle of its request.")
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer has begun already."""
        self._drop(400, f"{msg.rstrip('.')}; send HTTP/1.1.")

    def _is_clients_turn(self) -> bool:
        cycle = self.cycle
        is_ours = cycle is not None and not cycle.more_body and not cycle.response_complete
        return not is_ours or self.flow.write_paused

    def _is_idle(self) -> bool:
        """Whether nothing of a next request is there."""
        return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _follow_turns(self) -> None:
        if not self._is_clients_turn():
            self._stop_timer()
        elif self._timer is None:
            self._since, self._unsent = time.monotonic(), 0
            self._timer = self.loop.call_later(CLIENT_SECONDS, self._time_is_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:  # it takes its answer, if slowly
            self._unsent = unsent
            self._timer = self.loop.call_later(CLIENT_SECONDS, self._time_is_up)
            return
        if unsent:
            self.logger.warning("A client did not take its answer: dropped.")
        elif not self._is_idle():
            self.logger.warning("A request did not arrive within %d seconds: dropped.", CLIENT_SECONDS)
        self._drop(408, LATE)

    def _make_room(self) -> None:
        self.logger.warning("More than %d connections: those that keep us waiting longest are dropped.", self.limit)
        waiting = [each for each in self.connections if each._timer is not None and not each.transport.is_closing()]
        min(waiting, key=lambda each: each._since)._drop(503, "too many connections; try again in a moment.")

    def _drop(self, status: int, sentence: str) -> None:
        """Close the connection, after an answer to the request that has begun, if it has none yet."""
        self._stop_timer()
        cycle = self.cycle
        is_wanted = self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self._is_idle()
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if is_wanted and not self.transport.get_write_buffer_size():
            self.transport.write(_answer(status, sentence))
        # What a client does not take would keep the connection open for ever.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()


def _answer(status: int, sentence: str) -> bytes:
    body = json.dumps({"error": sentence}).encode()
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


class Seldom(logging.Filter):
    """Lets a warning through once in a while, with how often it came in between: strangers must not fill the log."""

    def __init__(self, seconds: float = LOG_SECONDS):
        super().__init__()
        self._seconds = seconds
        self._last: dict[str, float] = {}  # by what is said, its numbers and names not yet put in
        self._held_back: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        if record.levelno > logging.WARNING or record.exc_info:
            return True
        said, now = str(record.msg), time.monotonic()
        if now < self._last.get(said, -self._seconds) + self._seconds:
            self._held_back[said] += 1
            return False
        self._last[said] = now
        if count := self._held_back.pop(said, 0):
            record.msg = f"{said} ({count} more since the last time)"
        return True
