"""What several processes wait for in a training step, from what one of them would send: a model, in plain numbers."""

from collections.abc import Sequence
from typing import NamedTuple

from attngan.runtime.gradient_average import BUCKET_BYTES

LINK_BYTES = (4096, BUCKET_BYTES)  # whose sending times tell latency and bandwidth

# Kinds of messages.
BUCKET, BACKWARD_END = "bucket of gradients", "gradients at the end of backward"
SUMS, GATHERED_SUMS = "sums of batch norms", "gathered sums of batch norms"
SCORES, SCORE_GRADIENTS = "scores of pairs", "gradients of scores"  # bytes: of the pairs within a process


class Link(NamedTuple):
    """Between devices: bytes/s and seconds."""

    bandwidth: float
    latency: float


class Message(NamedTuple):
    """What one process has for the others: seconds into its step if it were alone, bytes of its own, and kind."""

    when: float
    num_bytes: int
    kind: str


def sending_seconds(message: Message, num_processes: int, link: Link) -> float:
    """Return how long a message takes from the moment that the link is free, as a ring sends it."""
    if message.kind == BACKWARD_END:
        return 0.0
    copies = num_processes - 1.0  # of a process's own bytes
    if message.kind in (BUCKET, SUMS):
        copies *= 2 / num_processes
    elif message.kind == SCORES:  # of its pictures with everybody's captions
        copies *= num_processes
    elif message.kind == SCORE_GRADIENTS:  # a reduction of those of all pairs
        copies *= 2 * num_processes
    return copies * message.num_bytes / link.bandwidth + link.latency


def waits(messages: Sequence[Message], num_processes: int, link: Link) -> dict[str, float]:
    """Return the seconds that a step of several processes is longer, by what it waits for.

    The link carries one message after the other. Gradients go in the background, and only the end of their backward
    waits for them; all others are waited for at once, and for the gradients before them.

    Args:
        messages: in the order of sending.
        num_processes: that train together; one waits for nothing.
        link: between any two of them.
    """
    found = dict.fromkeys((message.kind for message in messages if message.kind != BUCKET), 0.0)
    delay = free = 0.0
    for message in messages if num_processes > 1 else ():
        free = max(free, message.when + delay) + sending_seconds(message, num_processes, link)
        if message.kind != BUCKET:
            found[message.kind] += free - message.when - delay
            delay = free - message.when
    return found


def link_of(seconds: Sequence[float], num_processes: int) -> Link:
    """Return the link over which all-reduces of LINK_BYTES take so long."""
    sent = [2 * (num_processes - 1) / num_processes * num_bytes for num_bytes in LINK_BYTES]
    bandwidth = (sent[1] - sent[0]) / (seconds[1] - seconds[0])
    return Link(bandwidth, max(0.0, seconds[0] - sent[0] / bandwidth))


def sums_sent(channels: int, device_type: str) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return bytes and kind of what a synchronized batch norm sends in forward and in backward."""
    if device_type == "cuda":  # nn.SyncBatchNorm: means, deviations and a count; then two sums of gradients
        return [(4 * (2 * channels + 1), GATHERED_SUMS)], [(4 * 2 * channels, SUMS)]
    sums, squares = (4 * (channels + 1), SUMS), (4 * channels, SUMS)
    return [sums, squares], [squares, sums]
