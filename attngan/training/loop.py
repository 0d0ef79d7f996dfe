"""The loop of both trainings: take a step, look at the run, save its state now and then, until it is over."""

import functools
from typing import Any, Protocol

from attngan.data.dataset import Batch, Dataset
from attngan.data.sampling import BatchesAhead
from attngan.runtime import acceleration, distributed, stopping
from attngan.runtime.console import progress
from attngan.training.pace import Timer
from attngan.training.run import TrainingRun
from attngan.training.watcher import Watcher


class TrainingStep(Protocol):
    """What a training does in a step: the modules `damsm_step` and `gan_step`, with runs of their own kind."""

    def batch_for(self, run: Any, dataset: Dataset, step: int, seed: int) -> Batch:
        """Return the batch of a step."""

    def take_step(self, run: Any, batch: Batch) -> None:
        """Learn from a batch."""

    def try_step(self, run: Any, dataset: Dataset, size: int) -> None:
        """Learn from so many pictures, to find out how many fit in the memory; the run is over then."""


def train(run: TrainingRun, dataset: Dataset, step: TrainingStep, watcher: Watcher) -> None:
    """Take all steps that are left; save the state now and then, and when told to stop, which ends the process.

    Args:
        run: changed in place.
        dataset: the training pictures.
        step: what is done with a batch of them.
        watcher: looks at the run after each step, and may take it back; its store is open meanwhile.

    Raises:
        InputError: a batch does not fit, or the run goes wrong and the settings say stop.
    """
    settings = run.settings
    timer = Timer(settings.checkpoint_every_seconds)
    total, done = run.schedule.total * settings.batch_size, run.step * settings.batch_size
    try_step = functools.partial(step.try_step, run, dataset)
    bar = progress(run.name, total=total, unit="images", start=done)
    with (
        watcher.store,
        BatchesAhead(functools.partial(step.batch_for, run, dataset), run.device) as batches,
        bar as advance,
        stopping.stop_request() as stop,
    ):
        watcher.begin()
        while not watcher.is_over():
            before = run.step
            with acceleration.fitting(f"{run.section}.batch_size", settings.batch_size, run.device, try_step):
                step.take_step(run, batches.take(run.step, run.seed))
            run.step += 1
            note = watcher.after_step()  # which may take the run back
            must_stop, must_save = distributed.in_any_process(stop, distributed.is_first() and timer.take_turn())
            if must_stop or must_save:
                watcher.save_or_answer()
            advance((run.step - before) * settings.batch_size, note)
            if must_stop:
                watcher.store.settle()
                stop.stop()
        watcher.end()
