"""`python -m benchmarks.waiting`: how torch's threads wait for each other, on an idle machine and on a busy one.

The steps of the demo's trainings. Each way to wait is a process of its own, since libgomp reads it once; all of them
stand ready and take steps in turns of a second. Busy is a machine with another process on every core.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer

from attngan.config import settings as configs
from attngan.data.toy import drawn_birds
from attngan.runtime import exit_status, machine
from benchmarks import measure
from benchmarks.command_line import check_out, write_figures
from benchmarks.scene import Scene
from benchmarks.training_cases import our_damsm_step, our_gan_step

AS_IT_COMES = "as libgomp comes"
WAYS = {  # what a person could set; attngan leaves it alone then
    AS_IT_COMES: {"GOMP_SPINCOUNT": "300000"},  # its number where no policy is set
    "as attngan sets it": {},
}
STEPS = ("encoders", "generator")
READY = "ready"
NUM_BIRDS = 200


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of all ways.")] = 15,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of a turn.")] = 1.0,
    spins: Annotated[str, typer.Option(help="More ways: so many spins before a thread sleeps, with commas.")] = "",
    out: Annotated[Path, typer.Option(help="Gets the figures as JSON.")] = Path("build/waiting.json"),
) -> None:
    """Measure a step's time for each way to wait, idle and busy."""
    check_out(out)
    passive = {"OMP_WAIT_POLICY": "passive"}
    ways = WAYS | {f"{count} spins": {**passive, "GOMP_SPINCOUNT": count} for count in spins.split(",") if count}
    taken: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="attngan-bench-") as scratch, contextlib.ExitStack() as stack:
        workers = {
            way: stack.enter_context(_worker(Path(scratch) / str(number), environment))
            for number, (way, environment) in enumerate(ways.items())
        }
        for load in ("idle", "busy"):
            taken[load] = {step: {way: [] for way in ways} for step in STEPS}
            with _other_work(machine.num_cores() if load == "busy" else 0):
                for _ in range(rounds):
                    for step in STEPS:
                        for way, worker in workers.items():
                            taken[load][step][way].append(_turn(worker, step, seconds))
    for load, of_load in taken.items():
        for step, of_step in of_load.items():
            for way, each in of_step.items():
                first = of_step[AS_IT_COMES]
                ratio = statistics.median(one / own for one, own in zip(first, each, strict=True))
                in_all = statistics.mean(first) / statistics.mean(each)
                print(
                    f"{load:5} {step:10} {way:17} {statistics.median(each):7.1f} ms a step ({min(each):.1f} to "
                    f"{max(each):.1f}), {ratio:.2f} times as fast, {in_all:.2f} by the mean"
                )
    write_figures(out, {**measure.conditions(torch.device("cpu"), "benchmarks.waiting"), "milliseconds a step": taken})


def work(folder: Path) -> None:
    """Take steps of both trainings whenever standard input asks for some seconds of one; answer with ms a step."""
    config = configs.load_file(Path("toy"), overrides=["device=cpu"])
    scene = Scene(folder, config, torch.device("cpu"), lambda to: drawn_birds.draw(to, count=NUM_BIRDS, seed=0))
    runs = scene.damsm_run(), scene.gan_run()
    steps = dict(zip(STEPS, (our_damsm_step(runs[0], scene), our_gan_step(runs[1], scene)), strict=True))
    print(READY, flush=True)
    for line in sys.stdin:
        name, seconds = line.split()
        steps[name]()  # the caches are another process's
        count, begun = 0, time.perf_counter()
        while (passed := time.perf_counter() - begun) < float(seconds):
            steps[name]()
            count += 1
        print(1000 * passed / count, flush=True)


@contextlib.contextmanager
def _worker(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a process with these variables that stands ready to take steps while the block runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    code = "import sys; from pathlib import Path; from benchmarks import waiting; waiting.work(Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env={**kept, **environment}, text=True, **pipes) as process:
        try:
            while (line := process.stdout.readline().strip()) != READY:
                if not line and process.poll() is not None:
                    raise RuntimeError(f"the process that takes steps ended with status {process.returncode}")
            yield process
        finally:
            process.kill()


def _turn(worker: subprocess.Popen[str], step: str, seconds: float) -> float:
    print(step, seconds, file=worker.stdin, flush=True)
    return float(worker.stdout.readline())


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
