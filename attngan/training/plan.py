"""What the trainings of a config will take, from some seconds of each on the present device: time, memory, cost."""

import contextlib
import dataclasses
import datetime
import functools
import gc
import math
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import ParamSpec

import torch
from torch import Tensor

from attngan.config.settings import Config
from attngan.data import feasible
from attngan.data.dataset import Dataset
from attngan.data.sampling import BatchesAhead
from attngan.inference import published, trained_encoders
from attngan.runtime import acceleration, launcher, machine, scratch
from attngan.runtime.console import say
from attngan.runtime.step_graph import NUM_WARM_UPS
from attngan.storage import artifacts
from attngan.training import damsm_features, damsm_step, damsm_validation, gan_step, trunk_features
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun
from attngan.training.run import TrainingRun
from attngan.training.run_log import RunLog
from attngan.training.snapshot_metrics import SnapshotMetrics
from attngan.training.snapshots import Snapshots
from attngan.training.states import StateStore

Arguments = ParamSpec("Arguments")
Losses = dict[str, Tensor] | None
SECONDS = 8.0  # that one kind of work is measured for; what takes longer is done twice, the second time counts
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


def _leaving_nothing(measure: Callable[Arguments, list[Part]]) -> Callable[Arguments, list[Part]]:
    """Free what was measured with, of the device and of the compiler, for the training that may follow here."""

    @functools.wraps(measure)
    def measured(*args: Arguments.args, **kwargs: Arguments.kwargs) -> list[Part]:
        try:
            return measure(*args, **kwargs)
        finally:
            torch._dynamo.reset()  # which compiles a network for a few shapes only, and would count these among them
            gc.collect()
            torch.cuda.empty_cache()

    return measured


def plan(dataset: Path, config: Config, *, inception_weights: Path | None = None) -> list[Part]:
    """Measure the parts of both trainings, with untrained networks, in one process.

    Args:
        dataset: folder of `preprocess`.
        config: the schedule.
        inception_weights: as `pretrain_damsm` takes them.

    Returns:
        What the trainings are made of; start and end of a step, evaluation and gallery are not among it.

    Raises:
        InputError: something does not fit in memory or on disk, and what would; or there are too few pictures.
    """
    feasible.check(config, dataset, Dataset.open(dataset, "train"), Dataset.open(dataset, "test"))
    published.check_projected(config.discriminator.projected)
    with scratch.folder("plan") as folder:
        parts = encoders(dataset, config, inception_weights=inception_weights, out=folder)
        return parts + generator(dataset, folder, config)


@_leaving_nothing
def encoders(
    dataset: Path,
    config: Config,
    *,
    inception_weights: Path | None = None,
    out: Path | None = None,
    seconds: float | None = None,
) -> list[Part]:
    """Measure the parts of `pretrain_damsm`, as `plan` does.

    Args:
        dataset: folder of `preprocess`.
        config: the schedule.
        inception_weights: as `pretrain_damsm` takes them.
        out: gets the untrained encoders as a `damsm` folder.
        seconds: that one kind of work is measured for; `SECONDS` when None.
    """
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    batch_size = config.damsm.batch_size
    device = acceleration.set_up_device(config)
    timed, parts = functools.partial(_seconds, device=device, at_least=seconds or SECONDS), []
    config, share = _as_one_of_all(config, device, batch_size)
    with acceleration.beginning(device):
        run = DamsmRun(config, train, device, inception_weights)
    if run.can_keep_features():
        some = range(min(trunk_features.BATCH_SIZE, len(train)))
        each = timed(lambda: damsm_features.extract(run, train, some)) / len(some)
        parts.append(Part("views of pictures", each, len(train) * config.damsm.trunk_views + len(test)))
        say(f"what the trunk sees takes {damsm_features.pretend(run, train, test) / 1e9:,.1f} GB on disk (TMPDIR)")
    warm_up = _warm_up(run)
    with _steps(run, train, damsm_step, share) as take_period, _fitting(run, train, damsm_step, share):
        each = timed(take_period, warm_up=warm_up) / run.period
        parts.append(Part("steps of the encoders", each, run.schedule.total))
    parts.append(Part("validations", timed(lambda: damsm_validation.validate(run, test)), run.schedule.num_looks))
    with _state() as store:
        saved = timed(lambda: run.is_finite() and store.save(run.step, run.state(), good=True))
        parts.append(Part("states saved", saved, run.schedule.num_states))
    if out is not None:
        files = trained_encoders.save(out, run.text_encoder, run.image_encoder, train.vocabulary, config)
        artifacts.finish(out, "damsm", files)
    return parts


@_leaving_nothing
def generator(dataset: Path, damsm: Path, config: Config, *, seconds: float | None = None) -> list[Part]:
    """Measure the parts of `train_generator`, as `plan` does.

    Args:
        dataset: folder of `preprocess`.
        damsm: folder of `pretrain_damsm`.
        config: the schedule.
        seconds: that one kind of work is measured for; `SECONDS` when None.
    """
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    batch_size = config.training.batch_size
    device = acceleration.set_up_device(config)
    timed, parts = functools.partial(_seconds, device=device, at_least=seconds or SECONDS), []
    if config.compile == "auto":  # that would take minutes
        config = config.model_copy(update={"compile": "off"})
        if device.type == "cuda":
            say("compile=auto is not measured here: where a training is long, its steps may take less")
    config, share = _as_one_of_all(config, device, batch_size)
    with acceleration.beginning(device):
        run = GanRun(config, train, damsm, device)
    warm_up = _warm_up(run)
    with _steps(run, train, gan_step, share) as take_period, _fitting(run, train, gan_step, share):
        each = timed(take_period, warm_up=warm_up) / run.period
        parts.append(Part("steps of the generator", each, run.schedule.total))
        losses = take_period()
    with _snapshot(run, train, test, damsm, losses) as snapshot:
        parts.append(Part("snapshots", timed(snapshot), run.schedule.num_looks))
    return parts


def tell(parts: list[Part], config: Config, *, price_per_hour: float | None = None) -> None:
    """Print the parts as a table: time of each and of all, cost, and the memory that was needed at the most.

    Args:
        parts: of the trainings.
        config: the schedule.
        price_per_hour: of the machine; that of the config when None.
    """
    price_per_hour = config.training.price_per_hour if price_per_hour is None else price_per_hour
    device = acceleration.set_up_device(config)
    precision = acceleration.choose_precision(config.precision, device)
    say(f"{device}, {torch.get_num_threads()} threads, {str(precision).removeprefix('torch.')}")
    say(f"{'':24}{'each':>12}{'number':>11}{'time':>19}{'cost' if price_per_hour else '':>12}")
    for part in (*parts, Part("all", sum(part.total for part in parts), 1)):
        each, number = ("", "") if part.name == "all" else (f"{part.seconds:.3f} s", f"{part.number:,}")
        cost = f"{part.total / 3600 * price_per_hour:,.2f}" if price_per_hour else ""
        say(f"{part.name:24}{each:>12}{number:>11}{_duration(part.total):>19}{cost:>12}".rstrip())
    used, available = _memory(device)
    say(f"memory: {used / 2**30:.1f} GiB at the most, of {available / 2**30:.1f} GiB")


def _memory(device: torch.device) -> tuple[int, int]:
    """Return bytes used at the most, and bytes that there are."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return used, machine.memory_bytes()


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


@contextlib.contextmanager
def _steps(run: TrainingRun, train: Dataset, step: ModuleType, share: int) -> Iterator[Callable[[], Losses]]:
    """Give what takes a run's next steps, a period of them, so that each kind of step has its part in the mean.

    Each is taken on a share of its pictures, with the next batch made meanwhile; returned are the losses of the last.
    """
    with BatchesAhead(functools.partial(step.batch_for, run, train), run.device) as batches:

        def take_period() -> Losses:
            for _ in range(run.period):
                losses = step.training_step(run, batches.take(run.step, run.seed).first(share))
                run.step += 1
            return losses

        yield take_period


@contextlib.contextmanager
def _snapshot(run: GanRun, train: Dataset, test: Dataset, damsm: Path, losses: Losses) -> Iterator[Callable[[], None]]:
    """Give what takes a snapshot of a run, in a scratch folder."""
    figures = SnapshotMetrics(run, train, test, damsm)
    with scratch.folder("plan") as folder, _state() as store:
        log = RunLog(folder, [])
        log.write(step=0, **{name: value.item() for name, value in losses.items()}, **figures.measure())
        snapshots = Snapshots(run, test, folder, store, log, num_candidates=figures.num_candidates)

        def snapshot() -> None:
            figures.measure()
            snapshots.draw()
            store.save(run.step, run.state(), good=True)

        yield snapshot
        log.close()


@contextlib.contextmanager
def _state() -> Iterator[StateStore]:
    """Give a store of states in a scratch folder."""
    with scratch.folder("plan") as folder, StateStore(str(folder), step_name="plan", key="") as store:
        yield store


def _warm_up(run: TrainingRun) -> int:
    """Return how many periods are not representative: until a step of each kind is recorded, if any is."""
    return WARM_UP if run.recorder is None else NUM_WARM_UPS + 1


def _as_one_of_all(config: Config, device: torch.device, batch_size: int) -> tuple[Config, int]:
    """Return how the present device trains, one of several GPUs perhaps: settings, and its pictures of each batch."""
    count = launcher.num_processes(config, batch_size) if device.type == "cuda" else 1
    if count > 1:  # this is one process alone, which would record its steps
        config = config.model_copy(update={"cuda_graph": "off"})
        say(
            f"one of {count} GPUs with its share of each batch, not recorded; not counted: the captions of the others, "
            "which each encodes too, and what they exchange"
        )
    return config, batch_size // count


def _fitting(run: TrainingRun, train: Dataset, step: ModuleType, share: int) -> AbstractContextManager[None]:
    batch_size = run.settings.batch_size

    def try_step(size: int) -> None:
        step.try_step(run, train, max(2, size * share // batch_size))

    return acceleration.fitting(f"{run.section}.batch_size", batch_size, run.device, try_step)


def _seconds(work: Callable[[], object], *, device: torch.device, at_least: float, warm_up: int = WARM_UP) -> float:
    """Return the mean time of some work, warmed up, one after the other as a training does it."""

    def timed(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            work()
        acceleration.wait(device)  # once: it may be behind meanwhile, as in a training
        return (time.perf_counter() - start) / count

    began, count = time.perf_counter(), 0
    while count < warm_up or time.perf_counter() - began < at_least / 2:
        once, count = timed(1), count + 1
    return once if once >= at_least else timed(math.ceil(at_least / once))
