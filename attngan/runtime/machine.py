"""What this process may use of its machine: a container's limits count, not what the node around it has (Linux)."""

import contextlib
import os
import platform
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """Return how many CPU cores this process may keep busy: those it may run on, or its container's quota of time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = _numbers("cpu.max") or _numbers("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us") or (0, 1)
    return min(cores, max(1, round(quota / period))) if quota > 0 else cores


def memory_bytes() -> int:
    """Return how much memory this process may take: the machine's, or its container's limit."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = _numbers("memory.max") or _numbers("memory/memory.limit_in_bytes") or [installed]
    return min(installed, *limits)


def processor() -> str:
    """Return the CPU's own name, or its kind where the system does not tell the name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _numbers(*names: str) -> list[int] | None:
    """Return what files of the container's limits hold, None where there are none or no limit ("max") is set."""
    with contextlib.suppress(OSError, ValueError):
        return [int(word) for name in names for word in (CGROUP / name).read_text().split()]
    return None
