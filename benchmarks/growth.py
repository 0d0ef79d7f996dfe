"""What steps cost as the data grows to 4 and 16 times as much: straight lines, flat memory."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.scene import make_photographs

FACTORS = (1, 4, 16)
SMALL = [
    "data.resolution=64",
    "generator.num_stages=1",
    "generator.channels=8",
    "discriminator.channels=8",
    "image_encoder.kind=small",
    "image_encoder.channels=8",
    "damsm.batch_size=8",
    "damsm.epochs=1",
    "training.batch_size=8",
    "training.epochs=1",
    "watch.num_images=20",
    "evaluate.num_candidates=10",
    "evaluate.num_pairs=10",
]
POLL = 0.02  # seconds between looks at a step's memory


def grow(folder: Path, base: int, device: str) -> Iterator[dict[str, object]]:
    """Give time and peak memory of each step for 1, 4 and 16 times `base` photographs, in processes of their own.

    Trainings have one epoch; evaluate draws as many pictures. Memory is that of the host.
    """
    before: dict[str, dict[str, object]] = {}  # of each step, the row for fewer pictures
    for factor in FACTORS:
        count, place = factor * base, folder / f"times-{factor}"
        source = make_photographs(place / "photographs", count)
        for step, flags in _steps(source, place).items():
            settings = [f"device={device}", f"evaluate.num_images={count}"]
            row = {"what": step, "images": count, **_timed(step, flags, settings)}
            if step in before:
                more = row["seconds"] - before[step]["seconds"]
                row["seconds_more"] = more / (count - before[step]["images"])
            before[step] = row
            yield row


def _steps(source: Path, place: Path) -> dict[str, dict[str, Path]]:
    """Return the flags of each step, in the order in which they need each other."""
    dataset, damsm, generator = (place / name for name in ("dataset", "damsm", "generator"))
    inputs = {"dataset": dataset, "damsm": damsm, "generator": generator}
    return {
        "preprocess": {"source": source, "out": dataset},
        "pretrain-damsm": {"dataset": dataset, "out": damsm},
        "train-generator": {"dataset": dataset, "damsm": damsm, "out": generator},
        "evaluate": {**inputs, "out": place / "metrics"},
    }


def _timed(command: str, flags: dict[str, Path], settings: Sequence[str]) -> dict[str, float]:
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen([sys.executable, "-m", "attngan", command, *words], stdout=subprocess.DEVNULL) as step:
        while step.poll() is None:
            peak = max(peak, _own_memory(step.pid))
            time.sleep(POLL)
    if step.returncode:
        raise subprocess.CalledProcessError(step.returncode, command)
    return {"seconds": time.perf_counter() - start, "peak_gib": peak / 2**30}


def _own_memory(process: int) -> int:
    """Return the bytes that a process holds beside files that it maps, whose pages the system can take back (Linux)."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        sizes = dict(line.split(":", 1) for line in lines if line.startswith(("RssAnon", "RssShmem")))
        return sum(int(size.split()[0]) * 1024 for size in sizes.values())
    return 0
