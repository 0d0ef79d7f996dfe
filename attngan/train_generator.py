"""Step: the adversarial training of the generator against one discriminator a stage (section 4)."""

import functools
from pathlib import Path
from typing import Any

from attngan import acceleration, artifacts, checkpoint, distributed, feasible, stopping, weights
from attngan.checkpoint import StateStore
from attngan.config import Config
from attngan.data.dataset import Batch, Dataset
from attngan.data.sampling import BatchesAhead, batch_of_step
from attngan.gan_run import GanRun
from attngan.gan_step import training_step
from attngan.gan_watcher import GanWatcher
from attngan.launcher import over_processes
from attngan.run_log import RunLog, progress
from attngan.snapshot_figures import SnapshotFigures
from attngan.snapshots import Snapshots
from attngan.text_to_image import TextToImage

GOES_ON = {  # settings of what comes, and of what only judges it: a run with others of these goes on from what is there
    "data": ("min_word_count", "max_rejected_share"),  # of the dataset, which is told by its fingerprint
    "training": ("epochs",),
    "watch": ("num_images", "features", "metric", "result", "patience", "on_trouble", "max_roll_backs"),
}


@over_processes("training.batch_size")
def train_generator(
    dataset: Path, damsm: Path, out: Path, config: Config, *, state: str | None = None
) -> dict[str, float]:
    """Train the generator and write the `generator` folder.

    Interrupted and run again with the same settings, it goes on from its last state; on a CPU the result is bit for
    bit that of an uninterrupted run.

    Args:
        dataset: folder of `preprocess`.
        damsm: folder of `pretrain_damsm` on that dataset.
        out: gets the averaged generator, text encoder, vocabulary, config, figures, sample grids, progress page, film.
        config: reads `generator`, `discriminator`, `training`, `watch`, `data`, `seed`, `device`.
        state: folder for the state of resuming, local or gs://; `<out>.state` when None.

    Returns:
        The last logged losses and figures.
    """
    with distributed.first_result(out, "generator", inputs=[dataset, damsm]) as draft:
        return _trained(dataset, damsm, draft, config, state or f"{out}.state")


def _trained(dataset: Path, damsm: Path, out: Path, config: Config, state: str) -> dict[str, float]:
    """Train the generator, and write its folder where it is made; return the last logged losses and figures."""
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    feasible.check(config, dataset, train, test, evaluates=False)
    run = GanRun(config, train, damsm, weights.choose_device(config))
    figures = SnapshotFigures(run, train, test, damsm)
    facts = {"dataset": train.manifest["fingerprint"], "damsm": run.damsm_fingerprint}
    store = checkpoint.StateStore(state, step_name="train_generator", key={**facts, "config": _shaping(config)})
    run.resume(store)
    distributed.check_same(run.step, f"{store.uri}: the step to go on from")
    log = RunLog(out if distributed.is_first() else None, run.rows)
    steps_per_epoch = len(train) // config.training.batch_size
    total = config.training.epochs * steps_per_epoch
    checkpoint.check_not_beyond(run.step, total, store.uri, setting="training.epochs")
    snapshots = None
    if distributed.is_first():
        snapshots = Snapshots(run, test, out, total, store, log, num_candidates=figures.num_candidates)
    watcher = GanWatcher(run, log, store, figures, snapshots, steps_per_epoch=steps_per_epoch, total=total)
    _train(run, train, watcher, store)
    if snapshots is not None:
        files = snapshots.finish()
        if config.watch.result == "best" and run.best:
            run.average.load_state_dict(run.best_weights)
        files += TextToImage(config, train.vocabulary, run.text_encoder, run.average, run.device).save(out)
        files += log.close()
        artifacts.finish(out, "generator", files, **facts, steps=run.step, best=run.best)
    return {name: value for name, value in run.rows[-1].items() if name != "step"} if run.rows else {}


def _shaping(config: Config) -> dict[str, Any]:
    """Return the settings that shape the states of a run, beside its data and its encoders."""
    settings = config.shaping()
    settings["damsm"] = config.damsm.gammas  # the rest made the encoders
    for section in ("evaluate", "samples", "publish"):  # read by later steps
        del settings[section]
    for section, names in GOES_ON.items():
        for name in names:
            del settings[section][name]
    return settings


def _train(run: GanRun, train: Dataset, watcher: GanWatcher, store: StateStore) -> None:
    """Run all steps that are left; save the state now and then, at the end, and when told to stop."""
    batch_size = run.config.training.batch_size
    save_timer = checkpoint.Timer(run.config.training.checkpoint_every_seconds)
    bar = progress("generator", total=watcher.total * batch_size, unit="images", start=run.step * batch_size)
    batches = BatchesAhead(functools.partial(batch_for, run, train), run.device)
    fewer = functools.partial(try_step, run, train)
    with store, batches, bar as advance, stopping.stop_request() as stop:
        watcher.begin()
        while not watcher.is_over():
            before = run.step
            with acceleration.fitting("training.batch_size", batch_size, run.device, fewer):
                run.add(training_step(run, batches.take(run.step, run.seed)))
            run.step += 1
            note = watcher.look()  # which may take the run back
            must_stop, must_save = distributed.agreed(stop, distributed.is_first() and save_timer.due())
            if (must_stop or must_save) and watcher.is_sound(run.share_loss_sums()):
                watcher.save()
            advance((run.step - before) * batch_size, note)
            if must_stop:
                store.settle()
                stop.stop()


def batch_for(run: GanRun, train: Dataset, step: int, seed: int) -> Batch:
    """Return the training batch of a step."""
    return batch_of_step(
        train,
        step,
        batch_size=run.config.training.batch_size,
        resolutions=run.config.resolutions,
        max_words=run.config.data.max_words,
        seed=seed,
        purpose="generator",
        part=distributed.part(run.config.training.batch_size),
        device=run.device,
    )


def try_step(run: GanRun, train: Dataset, size: int) -> None:
    """Take a step on the first `size` pictures of its batch, to see whether they fit in the memory; never recorded."""
    run.make_room()
    run.recorder = None
    training_step(run, batch_for(run, train, run.step, run.seed).first(size))
