"""What the benchmark works on: made pictures of a photograph's size, and untrained networks of the paper's size."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.data.dataset import Dataset
from attngan.data.toy import drawn_birds
from attngan.errors import InputError
from attngan.inference import trained_encoders
from attngan.steps.preprocess import preprocess
from attngan.storage import artifacts
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun

WORDS = "a bird with wings of many colours that sits on a branch near the water and sings".split()
STAGES = {64: 1, 128: 2, 256: 3}  # of the generator, by resolution
GRAIN = 7.0  # of 255: deviation of the noise that made pictures have, as photographs do


def make_photographs(folder: Path, count: int, *, side: tuple[int, int] = (500, 375)) -> Path:
    """Write JPEGs as heavy as CUB's (84 KB) with ten captions each, as a folder that preprocess reads."""
    folder.mkdir(parents=True)
    dice = np.random.default_rng(0)
    lines = []
    for number in range(count):
        small = Image.fromarray(dice.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize(side, Image.Resampling.BICUBIC), dtype=np.float32)
        grainy = (smooth + dice.normal(0, GRAIN, smooth.shape[:2])[..., None]).clip(0, 255).astype(np.uint8)
        Image.fromarray(grainy).save(folder / f"{number}.jpg", quality=92)
        captions = [" ".join(dice.permutation(WORDS)[: dice.integers(8, 17)]) for _ in range(10)]
        split = "test" if number % 5 == 4 else "train"
        line = {"file": f"{number}.jpg", "captions": captions, "class": str(number), "split": split}
        lines.append(json.dumps(line))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


class Scene:
    """Folders and runs, made when they are asked for.

    Args:
        folder: gets everything.
        config: the recipe.
        device: where runs live.
        make: writes the pictures, as a folder that preprocess reads.
    """

    def __init__(self, folder: Path, config: Config, device: torch.device, make: Callable[[Path], object]):
        self.folder, self.config, self.device = folder, config, device
        self.source = folder / "pictures"
        make(self.source)
        preprocess(self.source, folder / "dataset", config)
        self.train = Dataset.open(folder / "dataset", "train")
        self.test = Dataset.open(folder / "dataset", "test")
        self.inception = self._write_inception() if config.image_encoder.kind == "inception_v3" else None
        self._write_damsm()

    def damsm_run(self, **changes: object) -> DamsmRun:
        """Return a pretraining at its first step, with other top-level settings."""
        return DamsmRun(self.config.model_copy(update=changes), self.train, self.device, self.inception)

    def gan_run(self, **changes: object) -> GanRun:
        """Return an adversarial training at its first step, with other top-level settings."""
        return GanRun(self.config.model_copy(update=changes), self.train, self.folder / "damsm", self.device)

    @functools.cached_property
    def toy(self) -> "Scene":
        """A scene of drawn birds, on which the networks of `make demo` train."""
        small = configs.load_file(Path("toy"), overrides=[f"device={self.config.device}"])
        return Scene(self.folder / "toy", small, self.device, lambda out: drawn_birds.draw(out, count=200, seed=0))

    def _write_inception(self) -> Path:
        torch.manual_seed(0)
        network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
        torch.save(network.state_dict(), self.folder / "inception.pth")
        return self.folder / "inception.pth"

    def _write_damsm(self) -> None:
        out = self.folder / "damsm"
        run = self.damsm_run()
        out.mkdir(parents=True, exist_ok=True)
        files = trained_encoders.save(out, run.text_encoder, run.image_encoder, self.train.vocabulary, self.config)
        artifacts.finish(out, "damsm", files)


def draw_birds_once(folder: Path, count: int) -> None:
    """Draw birds into a folder that is kept, unless all of them are there."""
    if not (folder / "palette.json").exists():  # it is written last
        shutil.rmtree(folder, ignore_errors=True)
        drawn_birds.draw(folder, count=count, seed=0)


def recipe(resolution: int, damsm_batch: int, gan_batch: int, device: str) -> Config:
    """Return the paper's recipe at one size."""
    if resolution not in STAGES:
        raise InputError(f"--resolution: expected one of {', '.join(map(str, STAGES))}, found {resolution}.")
    return configs.load(
        overrides=[
            f"data.resolution={resolution}",
            f"generator.num_stages={STAGES[resolution]}",
            f"damsm.batch_size={damsm_batch}",
            f"training.batch_size={gan_batch}",
            f"device={device}",
            "evaluate.num_images=50",
            "evaluate.num_candidates=10",
            "evaluate.num_pairs=10",
        ]
    )
