"""Times of two ways to do the same, taken in turns in one process, so that a noisy machine is fair to both."""

import contextlib
import ctypes
import dataclasses
import datetime
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import attngan
from attngan.runtime import acceleration, machine
from attngan.storage import artifacts

Work = Callable[[], object]
SECONDS = 0.5  # that one measurement takes, at the least
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_SETTLED_THRESHOLD = 32 * 2**20  # bytes: glibc's own for mapping, after larger pieces were freed; for trimming twice it


@dataclasses.dataclass(frozen=True)
class Case:
    """Two ways to do one piece of work.

    Attributes:
        name: of the row.
        plain: as the released code does it; None where there is no other way.
        ours: as attngan does it.
        count: units that one call does.
        unit: plural noun ("images").
        flops: of one call of ours, 0 where they are not counted.
        precision: of most of them.
        plain_keeps_memory: freed memory is kept in both ways, not in ours alone.
    """

    name: str
    plain: Work | None
    ours: Work
    count: int
    unit: str
    flops: float = 0.0
    precision: torch.dtype = torch.float32
    plain_keeps_memory: bool = False


def compare(case: Case, rounds: int, device: torch.device) -> dict[str, object]:
    """Run both ways in turns, `rounds` times timed, and return medians, the ratios' spread, and memory.

    The first turn warms up, and tells the memory that each way takes at the most, beside what the process holds.
    """
    ways = {"ours": case.ours} if case.plain is None else {"plain": case.plain, "ours": case.ours}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, int] = {}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            if not turn:
                _give_memory_back()  # so that what the other way left behind is not counted
                reset_peak_memory(device)
                held = peak_memory(device)
            _set_memory(keep=name == "ours" or case.plain_keeps_memory)
            torch.backends.cudnn.allow_tf32 = name == "plain"  # as torch comes
            if turn and name == "ours" and not case.plain_keeps_memory:
                work()  # which takes the memory that later calls find there, as the steps of a training do
            if turn:
                seconds[name].append(mean_seconds(work, device))
            else:
                work()
                acceleration.wait(device)
                peaks[name] = peak_memory(device) - held
    _set_memory(keep=True)
    torch.backends.cudnn.allow_tf32 = False
    ours = statistics.median(seconds["ours"])
    row: dict[str, object] = {
        "case": case.name,
        "unit": case.unit,
        "ours_per_second": case.count / ours,
        "rounds": rounds,
        "peak_gib": peaks["ours"] / 2**30,
    }
    if case.plain is not None:
        plain = statistics.median(seconds["plain"])
        ratios = sorted(slow / fast for slow, fast in zip(seconds["plain"], seconds["ours"], strict=True))
        row |= {"plain_per_second": case.count / plain, "ratio": statistics.median(ratios)}
        row |= {"ratio_low": ratios[0], "ratio_high": ratios[-1], "plain_peak_gib": peaks["plain"] / 2**30}
    if case.flops:
        row |= {"ours_gflops": case.flops / ours / 1e9, "peak_gflops": peak_gflops(device, case.precision)}
    return row


def seconds_of(work: Work, device: torch.device) -> float:
    """Return how long some work takes, until the device is done with it."""
    acceleration.wait(device)
    start = time.perf_counter()
    work()
    acceleration.wait(device)
    return time.perf_counter() - start


def mean_seconds(work: Work, device: torch.device) -> float:
    """Return how long some work takes where it is done again and again, as steps are, for half a second or once."""
    once = seconds_of(work, device)
    if once >= SECONDS:
        return once
    count = math.ceil(SECONDS / once)

    def again() -> None:
        for _ in range(count):
            work()

    return seconds_of(again, device) / count  # the device may be behind meanwhile, as in a training


def peak_gflops(device: torch.device, precision: torch.dtype) -> float:
    """Return what a large matrix product reaches here, in GFLOP/s."""
    side = 8192 if device.type == "cuda" else 2048
    matrix = torch.randn(side, side, device=device).to(precision)
    times = [seconds_of(lambda: matrix @ matrix, device) for _ in range(6)]
    return 2 * side**3 / min(times[1:]) / 1e9


def conditions(device: torch.device, module: str) -> dict[str, object]:
    """Return what the figures of a module that was started hold for: date, command, device, versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": " ".join([f"python -m {module}", *sys.argv[1:]]),
        "device": str(device),
        "name": acceleration.name_of(device),
        "cores": machine.num_cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "attngan": f"{attngan.__version__} {artifacts.code_revision()}",
    }


def _set_memory(*, keep: bool) -> None:
    """Let the C library keep freed memory, as attngan does, or hand large pieces back, as it does by itself.

    Its own thresholds rise with the pieces that are freed, until somebody sets them; here they are where they end.
    """
    if keep:
        acceleration.keep_freed_memory()
        return
    with contextlib.suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _SETTLED_THRESHOLD)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * _SETTLED_THRESHOLD)


def _give_memory_back() -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory(device: torch.device) -> None:
    """Forget how much memory was used at the most; on a CPU as far as the system can (Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Return the bytes used at the most, of the CUDA device or of this process, since they were last forgotten."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
