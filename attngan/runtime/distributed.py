"""Several processes that train one model together, each on its part of every batch; with one process nothing changes.

Every process holds all networks and draws the same random numbers. What couples the pictures of a batch is gathered,
gradients are averaged, and the first process alone writes.
"""

import contextlib
import datetime
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from attngan.errors import InputError, TransientError
from attngan.runtime import machine

Value = TypeVar("Value")
PATIENCE = datetime.timedelta(hours=2)  # of the others, while the first process validates, draws or saves


def is_started() -> bool:
    """Return whether torch.distributed.run started this process, ours or one around this command."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_first() -> bool:
    """Return whether this is the process that writes."""
    return rank() == 0


def rank_of_node() -> int:
    """Return the number of this process among those of its machine, from 0."""
    return int(os.environ["LOCAL_RANK"]) if world_size() > 1 else 0


def size_of_node() -> int:
    """Return how many processes of this machine train together."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world_size() > 1 else 1


def is_on_cuda(device: str) -> bool:
    """Return whether a training with this `device` setting runs on CUDA."""
    return torch.cuda.is_available() if device == "auto" else device.partition(":")[0] == "cuda"


def is_divisible(batch_size: int, num_processes: int) -> bool:
    """Return whether a batch can be shared out evenly, at least two pictures each."""
    return num_processes == 1 or (batch_size % num_processes == 0 and batch_size >= 2 * num_processes)


def check_divisible(batch_size: int, num_processes: int, setting: str) -> None:
    """Refuse a batch that cannot be shared out."""
    if not is_divisible(batch_size, num_processes):
        raise InputError(
            f"{setting}: {batch_size} pictures cannot be shared out among {num_processes} processes evenly, two or "
            f"more each; make it a multiple of {num_processes}, or set num_processes."
        )


@contextlib.contextmanager
def joined(device: str, num_threads: int) -> Iterator[None]:
    """Join the other processes that torch.distributed.run started, while the block runs; a lone process just runs.

    Args:
        device: the setting; "auto" and "cuda" become this process's own CUDA device.
        num_threads: the setting; 0 shares out the machine's cores.
    """
    if not is_started() or os.environ["WORLD_SIZE"] == "1" or dist.is_initialized():
        yield
        return
    backend = "gloo"
    if is_on_cuda(device):
        backend = "cpu:gloo,cuda:nccl"
        _take_cuda_device(device, int(os.environ["LOCAL_RANK"]))
    if not num_threads:
        torch.set_num_threads(max(1, machine.num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    with _silence():  # gloo tells who met whom
        dist.init_process_group(backend, timeout=PATIENCE)
    with contextlib.nullcontext() if is_first() else _silence():
        yield
    dist.destroy_process_group()  # not after an error: the others may be waiting in it


def part(batch_size: int) -> slice:
    """Return which pictures of the whole batch are this process's: as many as any other's, in the order of ranks."""
    size = batch_size // world_size()
    return slice(rank() * size, (rank() + 1) * size)


def gather(scores: Tensor) -> Tensor:
    """Return the rows of the whole batch, from those of this process's part.

    Backward sums the gradients of all processes. Where every process computes the same loss of the whole batch, each
    part thus gets its gradient as many times as there are processes, which `GradientAverage` takes back.
    """
    return scores if world_size() == 1 else _Gather.apply(scores)


def average(figures: Tensor) -> Tensor:
    """Return the mean of a tensor without gradient over the processes."""
    if world_size() == 1:
        return figures
    total = figures.clone()
    dist.all_reduce(total)
    return total / world_size()


def randn_like(images: Tensor) -> Tensor:
    """Return standard normal numbers for this process's images, those which one process would draw for the batch."""
    # Row by row whatever the layout of the images: a CPU draws numbers that lie one after another ten times as fast.
    whole = torch.randn(len(images) * world_size(), *images.shape[1:], dtype=images.dtype, device=images.device)
    return whole[part(len(whole))]


def in_any_process(*values: object) -> list[bool]:
    """Return for each value whether it is true in any process. No CUDA device waits for it."""
    if world_size() == 1:
        return [bool(value) for value in values]
    truths = torch.tensor([int(bool(value)) for value in values])
    dist.all_reduce(truths, dist.ReduceOp.MAX)
    return [bool(truth) for truth in truths.tolist()]


def wait_for_all() -> None:
    """Wait until every process is here."""
    in_any_process(False)


def check_same(value: int, what: str) -> None:
    """Refuse to go on where processes have different values: they would wait for each other for ever."""
    first = from_first(lambda: value)
    if in_any_process(first != value)[0]:
        raise TransientError(
            f"{what} is {first:,} for the first process and another one elsewhere; run the command again."
        )


def from_first(compute: Callable[[], Value]) -> Value:
    """Let the first process compute something, and return it in all of them."""
    if world_size() == 1:
        return compute()
    box: list[Any] = [compute() if is_first() else None]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context, features: Tensor) -> Tensor:
        parts = [torch.empty_like(features, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, features.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[part(len(total))]


def _take_cuda_device(device: str, local_rank: int) -> None:
    if ":" in device:
        raise InputError(
            f"device: {device!r} is one device, {os.environ['WORLD_SIZE']} processes train; set it to cuda."
        )
    if local_rank >= torch.cuda.device_count():
        raise InputError(
            f"num_processes: process {local_rank} of this node finds {torch.cuda.device_count()} CUDA devices; "
            "start at most one process for each."
        )
    torch.cuda.set_device(local_rank)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Send what this process says to nowhere: the first one says it too. Errors stay."""
    sys.stdout.flush()
    console = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(console, 1)
        os.close(console)
