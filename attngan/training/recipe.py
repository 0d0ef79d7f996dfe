"""Choosing a recipe and a schedule that fit a set of pictures, a machine, and the time there is."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from attngan.config import settings
from attngan.config.settings import Config
from attngan.data.records import LEAST_TEST, TEST_EVERY
from attngan.errors import InputError
from attngan.runtime.console import duration
from attngan.training import plan

LEAST_PICTURES = 8  # half of them to train, half to test
LOOKS = 14  # snapshots, and validations, of a training
# Steps of encoders and generator: so many at the least, ten epochs of a larger set, and so many at the most.
LEAST_STEPS = {"tiny": (960, 4_500), "small": (1_500, 8_000), "medium": (3_000, 15_000), "paper": (5_000, 50_000)}
MOST_STEPS = {"tiny": (4_000, 18_000), "small": (6_000, 30_000), "medium": (12_000, 60_000), "paper": (50_000, 270_000)}
EPOCHS = 10
FEWEST_STEPS = 50  # of the generator, below which nothing is learnt
MOST_TIMES = 5  # as many steps where there is time for more: they hardly help
CPU_MINUTES = 240.0  # that 128 pixels are worth on a CPU
RESERVE = 0.9  # of the time there is: what is measured is not all
MEASURED_SECONDS = 2.0  # of each part of a training

Steps = tuple[int, int]  # of the encoders, of the generator


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What is known of a set before its pictures are read.

    Attributes:
        number: of pictures.
        side: pixels on the shorter side, in the middle of them.
    """

    number: int
    side: int

    @property
    def num_train(self) -> int:
        """About how many are for training, where the source names no split."""
        return self.number - max(self.number // TEST_EVERY, min(LEAST_TEST, self.number // 2))


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds of each piece of work.

    Attributes:
        encoders: a step.
        validation: of the encoders.
        generator: a step.
        snapshot: of the generator.
        view: asking a pretrained image encoder about a picture, once.
    """

    encoders: float
    validation: float
    generator: float
    snapshot: float
    view: float = 0.0

    def of_steps(self, config: Config, steps: Steps, pictures: Pictures) -> dict[str, float]:
        """Return about what each of the six steps takes in seconds, by its name."""
        drawn = self.snapshot / config.watch.num_images  # a picture, drawn and looked at
        looked_at = config.evaluate.num_images + 5 * config.evaluate.num_pairs + pictures.number
        views = self.view * config.damsm.trunk_views * pictures.number
        shown = config.samples.variants * (config.samples.num_test_captions + len(config.samples.captions))
        return {
            "preprocess": 2 + pictures.number / 200,
            "pretrain_damsm": 5 + views + steps[0] * self.encoders + LOOKS * self.validation,
            "train_generator": 5 + steps[1] * self.generator + LOOKS * self.snapshot,
            "evaluate": 10 + looked_at * drawn,
            "export_samples": 5 + 10 * shown * drawn,
            "publish": 1,
        }


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A schedule that fits.

    Attributes:
        config: all settings.
        seconds: about what each of the six steps takes, by its name.
        reasons: what was chosen and why, a line each.
    """

    config: Config
    seconds: dict[str, float]
    reasons: list[str]


def choose(
    pictures: Pictures,
    device: torch.device,
    costs_of: Callable[[Config], Costs],
    *,
    minutes: float | None = None,
    overrides: Sequence[str] = (),
) -> Chosen:
    """Choose a recipe by pictures and device, and its steps by what some of them take here.

    Args:
        pictures: the set.
        device: that will train.
        costs_of: measures a config.
        minutes: for everything; None: as long as the recipe is worth.
        overrides: `section.name=value`, which rule.

    Raises:
        InputError: there are too few pictures, or a setting is none.
    """
    if pictures.number < LEAST_PICTURES:
        raise InputError(
            f"{pictures.number} pictures with captions are fewer than the {LEAST_PICTURES} that a training needs; add "
            "pictures: with a few dozen a model learns something."
        )
    name, why = _recipe(pictures, device, minutes)

    def config_for(steps: Steps) -> Config:
        return settings.load_files([Path(name)], overrides=[*_schedule(name, steps, pictures), *overrides])

    wanted = _wanted(name, config_for(LEAST_STEPS[name]), pictures)
    config = config_for(wanted)
    costs, steps = costs_of(config), wanted
    if minutes is not None:
        steps = _fitting(wanted, lambda some: costs.of_steps(config, some, pictures), minutes * 60 * RESERVE)
        config = config_for(steps)
        if steps[1] < FEWEST_STEPS and config.training.steps == steps[1]:
            fewest = FEWEST_STEPS * wanted[0] // wanted[1], FEWEST_STEPS
            needed, worth = (
                math.ceil(sum(costs.of_steps(config, some, pictures).values()) / RESERVE / 60)
                for some in (fewest, wanted)
            )
            raise InputError(
                f"--minutes {minutes:g}: reading, measuring and drawing take most of that, and nothing would be "
                f"learnt; give it {needed:,} minutes at least, {worth:,} for recognisable pictures."
            )
    steps = config.damsm.steps, config.training.steps  # `overrides` may have others
    seconds = costs.of_steps(config, steps, pictures)
    stages, batch_sizes = config.resolutions, (config.damsm.batch_size, config.training.batch_size)
    reasons = [
        f"pictures: {pictures.number:,}, about {pictures.num_train:,} to train; {pictures.side} pixels wide or high",
        f"recipe: {name}, {' to '.join(map(str, stages))} pixels: {why}",
        f"encoders: {steps[0]:,} steps of {batch_sizes[0]} pictures, {duration(seconds['pretrain_damsm'])}",
        f"generator: {steps[1]:,} steps of {batch_sizes[1]} pictures, {duration(seconds['train_generator'])}",
        f"all six steps: about {duration(sum(seconds.values()))}",
    ]
    if steps[1] < wanted[1] / 2:
        needed = sum(costs.of_steps(config, wanted, pictures).values()) / RESERVE
        reasons.append(f"this is little: to get recognisable pictures, give it {duration(needed)}")
    return Chosen(config, seconds, reasons)


def measure(dataset: Path, damsm: Path, config: Config, *, inception_weights: Path | None = None) -> Costs:
    """Measure the parts of both trainings for some seconds, with untrained networks.

    Args:
        dataset: folder of `preprocess`, at the config's size.
        damsm: gets the untrained encoders; it is there.
        config: the schedule.
        inception_weights: ImageNet weights of its image encoder.
    """
    parts = plan.encoders(dataset, config, inception_weights=inception_weights, out=damsm, seconds=MEASURED_SECONDS)
    parts += plan.generator(dataset, damsm, config, seconds=MEASURED_SECONDS)
    seconds = {part.name: part.seconds for part in parts}
    names = "steps of the encoders", "validations", "steps of the generator", "snapshots"
    return Costs(*(seconds[name] for name in names), view=seconds.get("views of pictures", 0.0))


def _recipe(pictures: Pictures, device: torch.device, minutes: float | None) -> tuple[str, str]:
    """Return the name of a recipe, and why it is the one."""
    if device.type == "cpu":
        if minutes is not None and minutes >= CPU_MINUTES and pictures.side >= 96:
            return "small", f"{duration(60 * minutes)} are enough for 128 pixels on a CPU"
        return "tiny", "on a CPU larger pictures take hours"
    if pictures.number >= 5_000 and pictures.side >= 200 and (minutes is None or minutes >= 60):
        return "paper", "there are enough large pictures for the paper's networks"
    if pictures.number >= 1_000 and pictures.side >= 96:
        return "medium", "networks of half the paper's width for some thousand pictures"
    if pictures.side >= 96:
        return "small", "few pictures teach large networks nothing more"
    return "tiny", "the pictures are small"


def _wanted(name: str, config: Config, pictures: Pictures) -> Steps:
    """Return the steps that a recipe is worth on a set."""
    batch_sizes = config.damsm.batch_size, config.training.batch_size
    epochs = (EPOCHS * pictures.num_train // size for size in batch_sizes)
    limits = zip(epochs, LEAST_STEPS[name], MOST_STEPS[name], strict=True)
    encoders, generator = (min(max(steps, least), most) for steps, least, most in limits)
    return encoders, generator


def _schedule(name: str, steps: Steps, pictures: Pictures) -> list[str]:
    """Return the settings of so many steps, with batches that the set can fill."""
    recipe = settings.load_files([Path(name)])
    batch_sizes = [min(size, pictures.num_train) for size in (recipe.damsm.batch_size, recipe.training.batch_size)]
    epochs = [
        max(1, each // LOOKS) / (pictures.num_train // size) for each, size in zip(steps, batch_sizes, strict=True)
    ]
    return [
        f"damsm.batch_size={batch_sizes[0]}",
        f"damsm.steps={steps[0]}",
        f"damsm.validate_every_epochs={epochs[0]:.4f}",
        f"training.batch_size={batch_sizes[1]}",
        f"training.steps={steps[1]}",
        f"watch.every_epochs={epochs[1]:.4f}",
    ]


def _fitting(wanted: Steps, seconds_of: Callable[[Steps], dict[str, float]], seconds: float) -> Steps:
    """Return as many steps as the time is enough for, in the proportion of those wanted."""
    none = sum(seconds_of((0, 0)).values())
    share = (seconds - none) / (sum(seconds_of(wanted).values()) - none)
    encoders, generator = (max(1, int(min(share, MOST_TIMES) * each)) for each in wanted)
    return encoders, generator
