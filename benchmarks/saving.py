"""`python -m benchmarks.saving`: what it costs a training to save its state every two minutes, in the background.

Two prices. How long the loop is held, which is the copy; beside it what a save takes where the loop waits for it. And
processor time: steps with one save beside them and as many without, in turns in one process; what the first take more
is written and sent in the background, on a core that the training may not need.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from attngan.config import settings as configs
from attngan.runtime import acceleration, exit_status, machine
from attngan.storage import places, uris
from attngan.training import states
from attngan.training.gan_run import GanRun
from attngan.training.states import StateStore
from benchmarks import measure
from benchmarks.command_line import check_out, write_figures
from benchmarks.scene import Scene, make_photographs, recipe
from benchmarks.training_cases import our_gan_step

SIZES = ("toy", "paper")


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns with a save and without one.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of a turn, at the least.")] = 20.0,
    batch: Annotated[int, typer.Option(min=2, help="Pictures a step at the paper's size.")] = 2,
    device: Annotated[str, typer.Option(help="Where the training runs.")] = "auto",
    to: Annotated[str, typer.Option(help="Folder for the states, local or gs://; a temporary one where empty.")] = "",
    out: Annotated[Path, typer.Option(help="Gets the figures as JSON.")] = Path("build/saving.json"),
) -> None:
    """Measure what saving costs the generator's training, of the demo's networks and of the paper's."""
    check_out(out)
    with exit_status.reported(out), tempfile.TemporaryDirectory(prefix="attngan-bench-") as scratch:
        config = recipe(256, 2, batch, device)
        config = config.model_copy(update={"image_encoder": configs.ImageEncoder(kind="small")})  # no state of its own
        chosen = acceleration.set_up_device(config)
        scene = Scene(Path(scratch), config, chosen, lambda folder: make_photographs(folder, 20))
        rows = [
            _row(size, scene.toy if size == "toy" else scene, to or f"{scratch}/states", rounds, seconds)
            for size in SIZES
        ]
        write_figures(out, {**measure.conditions(chosen, "benchmarks.saving"), "rows": rows})
    for row in rows:
        print(
            f"{row['size']}: a state of {row['bytes'] / 1e6:,.0f} MB holds the loop for {row['held_seconds']:.2f} s "
            f"(one waited for: {row['waited_seconds']:.2f} s); every {row['every_seconds']:g} s that is "
            f"{row['held_share']:.2%}, and {row['processor_share']:.2%} of the processor time of {machine.num_cores()} "
            f"cores ({row['lowest_processor_share']:.2%} to {row['highest_processor_share']:.2%})"
        )


def _row(size: str, scene: Scene, root: str, rounds: int, seconds: float) -> dict[str, object]:
    run = scene.gan_run()
    step = our_gan_step(run, scene)
    every = configs.IN_A_POD["training"]["checkpoint_every_seconds"]
    step()
    count = max(1, round(seconds / measure.seconds_of(step, run.device)))
    costs, held, waited = [], [], []
    with StateStore(root, step_name="saving", key=size) as store:
        store.load()
        _save(store, run)
        for _ in range(rounds):
            begun = time.process_time()
            _steps(step, count, run)
            without = time.process_time() - begun
            begun = time.process_time()
            held.append(_save(store, run))
            _steps(step, count, run)
            store.wait()
            costs.append((time.process_time() - begun - without) / every / machine.num_cores())
            begun = time.monotonic()
            _save(store, run)
            store.wait()
            waited.append(time.monotonic() - begun)
        store.wait()
        content = places.read(uris.join(store.uri, states.POINTER))[0]
    return {
        "size": size,
        "bytes": json.loads(content)["states"][0]["bytes"],
        "every_seconds": every,
        "steps_a_turn": count,
        "held_seconds": statistics.median(held),
        "held_share": statistics.median(held) / every,
        "waited_seconds": statistics.median(waited),
        "processor_share": statistics.median(costs),
        "lowest_processor_share": min(costs),
        "highest_processor_share": max(costs),
    }


def _steps(step: Callable[[], object], count: int, run: GanRun) -> None:
    for _ in range(count):
        step()
    acceleration.wait(run.device)


def _save(store: StateStore, run: GanRun) -> float:
    """Save a state, and return how many seconds the loop is held."""
    begun = time.monotonic()
    store.save(run.step, run.state())
    return time.monotonic() - begun


if __name__ == "__main__":
    typer.run(main)
