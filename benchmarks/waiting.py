"""`python -m benchmarks.waiting`: how torch's threads wait for each other, on an idle machine and on a busy one.

The steps of the demo's trainings, each way in a process of its own, all ways in turns. Busy is a machine with another
process on every core.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer

from attngan import config as configs
from attngan import exit_status, machine
from attngan.data import drawn_birds
from attngan.preprocess import preprocess
from benchmarks import measure
from benchmarks.command_line import check_out, write_figures

WAYS = {  # what a person could set; attngan leaves it alone then
    "as libgomp comes": {"GOMP_SPINCOUNT": "300000"},  # its number where no policy is set
    "as attngan sets it": {},
}
STEPS = ("steps of the encoders", "steps of the generator")
MEASURE = """
import contextlib, io, json, sys
from pathlib import Path
from attngan import config, plan
plan.SECONDS = float(sys.argv[2])
with contextlib.redirect_stdout(io.StringIO()):
    parts = plan.plan(Path(sys.argv[1]), config.load_file(Path("toy"), overrides=["device=cpu"]))
print(json.dumps({part.name: part.seconds for part in parts}))
"""


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of all ways.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, help="That one kind of step is measured for.")] = 8.0,
    out: Annotated[Path, typer.Option(help="Gets the figures as JSON.")] = Path("build/waiting.json"),
) -> None:
    """Measure a step's time for each way to wait, idle and busy."""
    check_out(out)
    device = torch.device("cpu")
    taken: dict[str, dict[str, dict[str, list[float]]]] = {
        load: {way: {step: [] for step in STEPS} for way in WAYS} for load in ("idle", "busy")
    }
    with tempfile.TemporaryDirectory(prefix="attngan-bench-") as scratch:
        drawn_birds.draw(Path(scratch) / "birds", count=400, seed=0)
        preprocess(Path(scratch) / "birds", Path(scratch) / "dataset", configs.load_file(Path("toy")))
        for load, of_load in taken.items():
            with _other_work(machine.num_cores() if load == "busy" else 0):
                for _ in range(rounds):
                    for way, of_way in of_load.items():
                        found = _measured(Path(scratch) / "dataset", WAYS[way], seconds)
                        for step in STEPS:
                            of_way[step].append(1000 * found[step])
    for load, of_load in taken.items():
        for step in STEPS:
            first = statistics.median(of_load["as libgomp comes"][step])
            for way, of_way in of_load.items():
                each = of_way[step]
                spread = f"{min(each):.1f} to {max(each):.1f}"
                middle = statistics.median(each)
                print(f"{load:5} {step:24} {way:24} {middle:8.1f} ms ({spread}), {first / middle:5.2f} times as fast")
    write_figures(out, {**measure.conditions(device, "benchmarks.waiting"), "milliseconds": taken})


def _measured(dataset: Path, environment: dict[str, str], seconds: float) -> dict[str, float]:
    """Return the seconds of each part of the demo's trainings, from a process with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", MEASURE, str(dataset), str(seconds)]
    done = subprocess.run(command, env={**kept, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def _other_work(count: int) -> Iterator[None]:
    """Keep `count` cores busy while the block runs."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in others:
            each.kill()
            each.wait()


if __name__ == "__main__":
    with exit_status.reported():
        typer.run(main)
