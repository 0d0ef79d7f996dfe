"""Step: the adversarial training of the generator against one discriminator a resolution (section 4)."""

from pathlib import Path
from typing import Any

from attngan.config.settings import Config
from attngan.data import feasible
from attngan.data.dataset import Dataset
from attngan.inference.text_to_image import TextToImage
from attngan.runtime import acceleration, distributed
from attngan.runtime.launcher import over_processes
from attngan.storage import artifacts, delivery, uris
from attngan.training import gan_step, loop, start, states, trackers
from attngan.training.gan_run import GanRun
from attngan.training.gan_watcher import GanWatcher
from attngan.training.run_log import RunLog
from attngan.training.snapshot_metrics import SnapshotMetrics
from attngan.training.snapshots import Snapshots

COMPILED = "compiled"  # folder beside the states: what torch's compiler made of the step
GOES_ON = {  # settings of what comes, and of what only judges it: a run with others of these goes on from what is there
    "data": ("min_word_count", "max_rejected_share"),  # of the dataset, which is told by its fingerprint
    "training": ("epochs", "steps"),
    "watch": ("num_images", "features", "metric", "result", "patience", "on_trouble", "max_roll_backs"),
}
# Parts, off by default, that compute otherwise than they once did under this STATE_VERSION: such states are left alone.
ANEW = {
    "projected: judges pairs": lambda config: config.discriminator.projected.weight > 0,
    "translation: mirrors": lambda config: config.discriminator.translation > 0,
}


@over_processes("training.batch_size")
def train_generator(
    dataset: Path,
    damsm: Path,
    out: Path,
    config: Config,
    *,
    start_from: Path | None = None,
    state: str | None = None,
) -> dict[str, float]:
    """Train the generator and write the `generator` folder.

    Interrupted and run again with the same settings, it goes on from its last state; on a CPU the result is bit for
    bit that of an uninterrupted run.

    Args:
        dataset: folder of `preprocess`.
        damsm: folder of `pretrain_damsm` on that dataset.
        out: gets the averaged generator, text encoder, vocabulary, config, figures, sample grids, progress page, film.
        config: all of it is read but `samples`, `card` and `publish`. Of `damsm` the gammas count, of `evaluate` what
            snapshots are judged with: `num_candidates`, and the weights that `watch.features` names.
        start_from: folder of a `generator`, a bundle or a run: the generator begins with its weights.
        state: folder for the state of resuming, local or in cloud storage; `<out>.state` when None.

    Returns:
        The last logged losses and figures.
    """
    with delivery.first_result(out, "generator", inputs=[dataset, damsm, start_from]) as draft:
        return _trained(dataset, damsm, draft, config, start_from, state or f"{out}.state")


def _trained(
    dataset: Path, damsm: Path, out: Path, config: Config, start_from: Path | None, state: str
) -> dict[str, float]:
    """Train the generator, and write its folder where it is made; return the last logged losses and figures."""
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    feasible.check(config, dataset, train, test, evaluates=False)
    device = acceleration.set_up_device(config)
    with acceleration.beginning(device):
        run = GanRun(config, train, damsm, device)
        figures = SnapshotMetrics(run, train, test, damsm)
    facts = {"dataset": train.manifest["fingerprint"], "damsm": run.damsm_fingerprint}
    if run.frozen_sha256:
        facts["frozen"] = run.frozen_sha256
    if start_from is not None:
        run.start_from = facts["start_from"] = start.generator_from(start_from, run)
    store = states.StateStore(state, step_name="train_generator", key={**facts, "config": _shaping(config)})
    store = run.resume(store)
    distributed.check_same(run.step, f"{store.uri}: the step to go on from")
    if not uris.is_remote(state):  # what is compiled will be run, and a bucket may be others' to write
        run.compute.keep_in(Path(state) / COMPILED)
    with trackers.opened("generator", config, trackers.absolute(store.uri), is_first=distributed.is_first()) as tracked:
        log = RunLog(out if distributed.is_first() else None, run.rows, tracked)
        snapshots = None
        if distributed.is_first():
            snapshots = Snapshots(run, test, out, store, log, num_candidates=figures.num_candidates)
        watcher = GanWatcher(run, log, store, figures, snapshots)
        loop.train(run, train, gan_step, watcher)
        if snapshots is not None:
            files = snapshots.finish()
            if config.watch.result == "best" and run.best:
                run.generator_ema.load_state_dict(run.best_weights)
            files += TextToImage(config, train.vocabulary, run.text_encoder, run.generator_ema, run.device).save(out)
            files += log.close()
            ended = {"steps": run.step, "best": run.best, "seconds": run.spent}
            device = acceleration.name_of(run.device)
            made = artifacts.finish(out, "generator", files, **facts, **ended, device=device)
            tracked.facts(**facts, generator=made["fingerprint"])
    return {name: value for name, value in run.rows[-1].items() if name != "step"} if run.rows else {}


def _shaping(config: Config) -> dict[str, Any]:
    """Return the settings that shape the states of a run, beside its data and its encoders."""
    settings = config.shaping()
    settings["damsm"] = config.damsm.gammas  # the rest made the encoders
    for section in ("evaluate", "samples", "publish"):  # of later steps; what snapshots take of them only judges
        settings.pop(section, None)
    for section, names in GOES_ON.items():
        for name in names:
            settings.get(section, {}).pop(name, None)
    if anew := [part for part, is_on in ANEW.items() if is_on(config)]:
        settings["anew"] = anew
    return {name: value for name, value in settings.items() if value != {}}
