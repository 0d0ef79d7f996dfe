"""What preprocess costs as the data grows: straight lines, flat memory."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.scene import make_photographs

# A process of its own runs and times the command: a child's peak memory is never below that of who started it.
_TIMED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"seconds": time.perf_counter() - start, "peak_gib": peak / 2**20}))
"""


def grow(folder: Path, base: int, resolution: int) -> list[dict[str, float]]:
    """Preprocess 1, 4 and 16 times as many photographs, each in its own process; return time and peak memory."""
    rows = []
    for factor in (1, 4, 16):
        source = make_photographs(folder / f"photographs-{factor}", factor * base)
        flags = ["--source", str(source), "--out", str(folder / f"dataset-{factor}")]
        command = [sys.executable, "-m", "attngan", "preprocess", *flags, "--set", f"data.resolution={resolution}"]
        timed = [sys.executable, "-c", _TIMED, *command, "--set", "generator.num_stages=1"]
        told = subprocess.run(timed, check=True, capture_output=True, text=True).stdout
        rows.append({"images": factor * base, **json.loads(told)})
    return rows
