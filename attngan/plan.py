"""What the trainings of a config will take, from some seconds of each on the present device: time, memory, cost."""

import dataclasses
import datetime
import functools
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from attngan import (
    acceleration,
    artifacts,
    damsm_features,
    gan_step,
    machine,
    pretrain_damsm,
    train_generator,
    trunk_features,
    weights,
)
from attngan.checkpoint import StateStore
from attngan.config import Config
from attngan.damsm_run import DamsmRun
from attngan.data.dataset import Dataset
from attngan.data.sampling import check_fills_batch
from attngan.gan_run import GanRun
from attngan.run_log import RunLog, say
from attngan.snapshot_figures import SnapshotFigures
from attngan.snapshots import Snapshots
from attngan.step_graph import NUM_WARM_UPS

SECONDS = 8.0  # that one kind of work is measured for, at least twice
WARM_UP = 2  # times before


@dataclasses.dataclass(frozen=True)
class Part:
    """One kind of work.

    Attributes:
        name: of what is done.
        seconds: that one of it takes.
        number: how many there are in the whole schedule.
    """

    name: str
    seconds: float
    number: int

    @property
    def total(self) -> float:
        """Seconds of all of them."""
        return self.seconds * self.number


def plan(dataset: Path, config: Config, *, inception_weights: Path | None = None) -> list[Part]:
    """Measure the parts of both trainings with untrained networks, in one process.

    Args:
        dataset: folder of `preprocess`.
        config: the schedule.
        inception_weights: as `pretrain_damsm` takes them.

    Returns:
        What the trainings are made of; start and end of a step, evaluation and gallery are not among it.

    Raises:
        InputError: a batch does not fit in the memory, and which one would; or there are fewer pictures than in one.
    """
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    check_fills_batch(train, dataset, "damsm.batch_size", config.damsm.batch_size)
    check_fills_batch(train, dataset, "training.batch_size", config.training.batch_size)
    device = weights.choose_device(config)
    with tempfile.TemporaryDirectory(prefix="attngan-plan-") as scratch:
        parts = list(_damsm(train, test, config, device, inception_weights, Path(scratch)))
        parts += _generator(train, test, config, device, Path(scratch))
    return parts


def tell(parts: list[Part], config: Config, *, price_per_hour: float) -> None:
    """Print the parts as a table: time of each and of all, cost, and the memory that was needed at the most."""
    device = weights.choose_device(config)
    precision = acceleration.choose_precision(config.precision, device)
    say(f"{device}, {torch.get_num_threads()} threads, {str(precision).removeprefix('torch.')}")
    say(f"{'':24}{'each':>12}{'number':>11}{'time':>19}{'cost' if price_per_hour else '':>12}")
    for part in (*parts, Part("all", sum(part.total for part in parts), 1)):
        each, number = ("", "") if part.name == "all" else (f"{part.seconds:.3f} s", f"{part.number:,}")
        cost = f"{part.total / 3600 * price_per_hour:,.2f}" if price_per_hour else ""
        say(f"{part.name:24}{each:>12}{number:>11}{_duration(part.total):>19}{cost:>12}".rstrip())
    used, available = _memory(device)
    say(f"memory: {used / 2**30:.1f} GiB at the most, of {available / 2**30:.1f} GiB")


def _damsm(
    train: Dataset, test: Dataset, config: Config, device: torch.device, inception: Path | None, scratch: Path
) -> Iterator[Part]:
    run = DamsmRun(config, train, device, inception)
    if run.can_keep_features():
        some = range(min(trunk_features.BATCH_SIZE, len(train)))
        seconds = _seconds(lambda: damsm_features.look(run, train, some), device) / len(some)
        yield Part("views of pictures", seconds, len(train) * config.damsm.trunk_views + len(test))
        damsm_features.pretend(run, train, test)
    step = functools.partial(_damsm_step, run, train)
    with acceleration.fitting("damsm.batch_size", config.damsm.batch_size, device, step):
        seconds = _seconds(step, device)
    yield Part("steps of the encoders", seconds, config.damsm.epochs * run.steps_per_epoch)
    yield Part("validations", _seconds(lambda: pretrain_damsm.validate(run, test), device), config.damsm.epochs)
    files = weights.save_damsm(scratch, run.text_encoder, run.image_encoder, train.vocabulary, config)
    artifacts.finish(scratch, "damsm", files)


def _generator(train: Dataset, test: Dataset, config: Config, device: torch.device, scratch: Path) -> Iterator[Part]:
    run = GanRun(config, train, scratch, device)
    batch_size = config.training.batch_size
    steps_per_epoch = len(train) // batch_size
    total = config.training.epochs * steps_per_epoch
    step = functools.partial(_gan_step, run, train)
    with acceleration.fitting("training.batch_size", batch_size, device, step):
        seconds = _seconds(step, device, warm_up=WARM_UP if run.recorder is None else NUM_WARM_UPS + 1)
    yield Part("steps of the generator", seconds, total)
    figures = SnapshotFigures(run, train, test, scratch)
    log = RunLog(scratch, [])
    losses = gan_step.training_step(run, train_generator.batch_for(run, train, 0, 0))
    log.write(step=0, **{name: value.item() for name, value in losses.items()}, **figures.measure())
    with StateStore(str(scratch / "state"), step_name="plan", key="") as store:
        snapshots = Snapshots(run, test, scratch, total, store, log)

        def snapshot() -> None:
            figures.measure()
            snapshots.draw()
            store.save(run.step, run.state(), good=True)

        interval = max(1, round(config.watch.every_epochs * steps_per_epoch))
        yield Part("snapshots", _seconds(snapshot, device), -(-total // interval))
    log.close()


def _damsm_step(run: DamsmRun, train: Dataset, size: int | None = None) -> None:
    batch = pretrain_damsm.batch_for(run, train, run.step, run.seed)
    pretrain_damsm.training_step(run, batch if size is None else batch.first(size))
    run.step += 1


def _gan_step(run: GanRun, train: Dataset, size: int | None = None) -> None:
    batch = train_generator.batch_for(run, train, run.step, run.seed)
    gan_step.training_step(run, batch if size is None else batch.first(size))
    run.step += 1


def _seconds(work: Callable[[], object], device: torch.device, *, warm_up: int = WARM_UP) -> float:
    """Return the mean time of some work, warmed up."""
    for _ in range(warm_up):
        work()
    acceleration.wait(device)
    start, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - start < SECONDS:
        work()
        count += 1
        acceleration.wait(device)
    return (time.perf_counter() - start) / count


def _memory(device: torch.device) -> tuple[int, int]:
    """Return bytes used at the most, and bytes that there are."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return used, machine.memory_bytes()


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
