"""What steps cost as the data grows to 4 and 16 times as much: straight lines, flat memory."""

import json
import subprocess
import sys
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
# A process of its own runs and times the command: a child's peak memory is never below that of who started it.
_TIMED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"seconds": time.perf_counter() - start, "peak_gib": peak / 2**20}))
"""


def grow(folder: Path, base: int) -> Iterator[dict[str, object]]:
    """Give time and peak memory of each step for 1, 4 and 16 times `base` photographs, in processes of their own.

    Trainings have one epoch; evaluate draws as many pictures.
    """
    before: dict[str, dict[str, object]] = {}  # of each step, the row for fewer pictures
    for factor in FACTORS:
        count, place = factor * base, folder / f"times-{factor}"
        source = make_photographs(place / "photographs", count)
        for step, flags in _steps(source, place).items():
            settings = [f"evaluate.num_images={count}"]
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
    timed = [sys.executable, "-c", _TIMED, sys.executable, "-m", "attngan", command, *words]
    return json.loads(subprocess.run(timed, check=True, stdout=subprocess.PIPE, text=True).stdout)
