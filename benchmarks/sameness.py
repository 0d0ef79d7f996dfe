"""`python -m benchmarks.sameness`: what faster ways do to the figures of a whole training on drawn birds.

One DAMSM, then a generator for every way and seed; their figures at the last snapshot side by side. The toy recipe, so
an hour or less on two cores.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.runtime import acceleration, exit_status
from attngan.steps.preprocess import preprocess
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.steps.train_generator import train_generator
from attngan.storage import artifacts
from benchmarks import measure
from benchmarks.command_line import check_out, claim, some_of, write_figures
from benchmarks.scene import draw_birds_once

WAYS: dict[str, list[str]] = {
    "float32": ["precision=float32"],
    "bfloat16": ["precision=bfloat16"],
    "twice the batch": ["precision=float32", "training.batch_size=16", "training.rates_for_batch_size=8"],
}
FIGURES = ("r_precision", "adversarial", "discriminator", "kl")


def main(
    only: Annotated[str, typer.Option(help=f"Some of {', '.join(WAYS)}, with commas between.")] = "",
    seeds: Annotated[int, typer.Option(help="Trainings of each way.")] = 3,
    epochs: Annotated[int, typer.Option(help="Of each training.")] = 10,
    birds: Annotated[int, typer.Option(help="Drawn ones.")] = 3000,
    folder: Annotated[Path | None, typer.Option(help="Keeps what was trained, to go on there.")] = None,
    out: Annotated[Path, typer.Option(help="Gets the figures as JSON.")] = Path("build/sameness.json"),
) -> None:
    """Train on drawn birds in several ways, with several seeds each, and print the figures of all of them."""
    check_out(out)
    chosen = some_of(only, WAYS)
    conditions = measure.conditions(acceleration.set_up_device(_recipe()), "benchmarks.sameness")
    with tempfile.TemporaryDirectory(prefix="attngan-sameness-") as scratch:
        place = folder or Path(scratch)
        claim(place, {"birds": birds})
        dataset, damsm = _prepare(place, birds)
        rows = []
        for seed in range(seeds):
            for way in chosen:
                settings = [*WAYS[way], f"seed={seed}", f"training.epochs={epochs}", f"watch.every_epochs={epochs}"]
                config = _recipe(*settings, "watch.result=last")
                found = train_generator(dataset, damsm, place / f"{way}-{seed}", config)
                rows.append({"way": way, "seed": seed, **found})
                print(_line(f"{way}, seed {seed}", [rows[-1]]), flush=True)
    for way in dict.fromkeys(row["way"] for row in rows):
        print(_line(way, [row for row in rows if row["way"] == way]))
    write_figures(out, {**conditions, "epochs": epochs, "birds": birds, "rows": rows})
    print(f"figures in {out}")


def _prepare(place: Path, birds: int) -> tuple[Path, Path]:
    source, dataset, damsm = place / "birds", place / "dataset", place / "damsm"
    draw_birds_once(source, birds)
    if not (dataset / artifacts.MANIFEST).exists():
        preprocess(source, dataset, _recipe())
    if not (damsm / artifacts.MANIFEST).exists():
        pretrain_damsm(dataset, damsm, _recipe())
    return dataset, damsm


def _recipe(*overrides: str) -> Config:
    return configs.load_file(Path("toy"), overrides=overrides)


def _line(name: str, rows: list[dict[str, float]]) -> str:
    parts = []
    for figure in (each for each in rows[0] if each in FIGURES or each.startswith("kid_")):
        values = [row[figure] for row in rows]
        spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
        parts.append(f"{figure} {statistics.mean(values):.4f}{spread}")
    return f"{name:24} " + "  ".join(parts)


if __name__ == "__main__":
    with exit_status.reported():
        typer.run(main)
