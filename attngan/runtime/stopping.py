"""Ctrl-C and SIGTERM while training: the loop looks between two steps, saves its state, and leaves."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from attngan.runtime import console


class StopRequest:
    """Whether Ctrl-C or SIGTERM asked the run to stop; the loop looks between two steps."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def stop(self) -> None:
        """Leave as the signal would have it, once the state is saved."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(143)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the first Ctrl-C or SIGTERM for the length of a training loop; the second one ends it at once."""
    request = StopRequest()

    def on_signal(number: int, _: FrameType | None) -> None:
        signal.signal(number, before[number])
        request.signal = number
        console.say_from_signal("stopping after this step; again to stop at once")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
