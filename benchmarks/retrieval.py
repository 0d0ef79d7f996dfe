"""`python -m benchmarks.retrieval`: do captions find their pictures as well when the frozen trunk looks only once?

Both ways of pretraining side by side, on drawn birds or on a folder of yours: the trunk asked once about
`damsm.trunk_views` views in evaluation mode, and in every step in training mode, as released. ImageNet's weights are an
input; without them a trunk is trained here first, on the same pictures, and then frozen.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import safetensors.torch
import typer

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.data.dataset import Dataset
from attngan.runtime import acceleration, exit_status
from attngan.steps.preprocess import preprocess
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.storage import artifacts, tensor_files
from benchmarks import measure
from benchmarks.command_line import check_out, claim, write_figures
from benchmarks.scene import draw_birds_once

WAYS = {"asked once": 4, "asked in every step": 0}  # damsm.trunk_views
FIGURES = ("recall_at_1", "recall_at_5")
TRUNK = "trunk."
FEW_STEPS = ["text_encoder.embedding_range=1.7", "damsm.max_text_gradient_norm=1.0"]  # start faster than the paper's


def main(
    source: Annotated[Path | None, typer.Option(help="As preprocess takes it; drawn birds without it.")] = None,
    inception_weights: Annotated[Path | None, typer.Option(help="ImageNet's; a trunk is trained without it.")] = None,
    birds: Annotated[int, typer.Option(help="Drawn ones.")] = 1000,
    resolution: Annotated[int, typer.Option(help="Pixels.")] = 64,
    trunk_epochs: Annotated[int, typer.Option(help="In which the trunk is trained, where no weights are given.")] = 12,
    trunk_batch_size: Annotated[int, typer.Option(help="Of that training.")] = 16,
    epochs: Annotated[int, typer.Option(help="Of each way.")] = 15,
    seeds: Annotated[int, typer.Option(help="Trainings of each way.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Of these trainings.")] = 32,
    folder: Annotated[Path | None, typer.Option(help="Keeps what was trained, to go on there.")] = None,
    out: Annotated[Path, typer.Option(help="Gets the figures as JSON.")] = Path("build/retrieval.json"),
) -> None:
    """Pretrain in both ways and print how many captions were found among 100, at the best epoch."""
    check_out(out)
    conditions = measure.conditions(acceleration.set_up_device(configs.load()), "benchmarks.retrieval")
    with tempfile.TemporaryDirectory(prefix="attngan-retrieval-") as scratch:
        place = folder or Path(scratch)
        pictures = f"{birds} drawn birds" if source is None else str(source)
        claim(place, {"pictures": pictures, "resolution": resolution, "trunk": str(inception_weights)})
        if source is None:
            draw_birds_once(place / "birds", birds)
        settings = [f"data.resolution={resolution}", "generator.num_stages=1", *FEW_STEPS]
        if not (place / "dataset" / artifacts.MANIFEST).exists():
            preprocess(source or place / "birds", place / "dataset", configs.load(overrides=settings))
        alone = [f"damsm.epochs={trunk_epochs}", f"damsm.batch_size={trunk_batch_size}"]
        counts = {split: len(Dataset.open(place / "dataset", split)) for split in ("train", "test")}
        trunk = inception_weights or _train_trunk(place, configs.load(overrides=[*settings, *alone]))
        rows = []
        for seed in range(seeds):
            for way, views in WAYS.items():
                own = [f"damsm.trunk_views={views}", f"damsm.epochs={epochs}", f"damsm.batch_size={batch_size}"]
                config = configs.load(overrides=[*settings, *own, f"seed={seed}"])
                encoders = place / f"{way}-{seed}"
                found = pretrain_damsm(place / "dataset", encoders, config, inception_weights=trunk)
                rows.append({"way": way, "seed": seed, **found})
    for way in WAYS:
        of_way = [row for row in rows if row["way"] == way]
        shown = (f"{figure} {statistics.mean(row[figure] for row in of_way):.1%}" for figure in FIGURES)
        epochs_of_best = ", ".join(f"{row['epoch']:.0f}" for row in of_way)
        print(f"{way:20} {'  '.join(shown)}  (epoch {epochs_of_best})")
    report = {**conditions, "source": source.name if source else pictures, "pictures": counts, "rows": rows}
    write_figures(out, report)
    print(f"figures in {out}")


def _train_trunk(place: Path, config: Config) -> Path:
    """Pretrain without weights, so that the trunk is trained too, and return it as a file of weights."""
    path = place / "trunk.safetensors"
    if not path.exists():
        pretrain_damsm(place / "dataset", place / "first", config)
        tensors = tensor_files.read(place / "first" / "image_encoder.safetensors")
        trunk = {name.removeprefix(TRUNK): each for name, each in tensors.items() if name.startswith(TRUNK)}
        safetensors.torch.save_file(trunk, path)
    return path


if __name__ == "__main__":
    with exit_status.reported():
        typer.run(main)
