"""Step: train both encoders on matching pictures and captions (the DAMSM, section 3.2).

A retrieval test on the classes that training does not see comes every so many epochs; the best encoders are kept.
"""

import contextlib
from pathlib import Path
from typing import Any

from attngan.config.settings import Config
from attngan.data import feasible
from attngan.data.dataset import Dataset
from attngan.inference import published, trained_encoders
from attngan.runtime import acceleration, distributed
from attngan.runtime.console import say
from attngan.runtime.launcher import over_processes
from attngan.storage import artifacts, delivery
from attngan.training import damsm_step, loop, start, states, trackers
from attngan.training.damsm_features import kept_features
from attngan.training.damsm_progress import PAGE, DamsmProgress
from attngan.training.damsm_run import DamsmRun
from attngan.training.damsm_watcher import DamsmWatcher
from attngan.training.run_log import RunLog


@over_processes("damsm.batch_size")
def pretrain_damsm(
    dataset: Path,
    out: Path,
    config: Config,
    *,
    inception_weights: Path | None = None,
    start_from: Path | None = None,
    state: str | None = None,
) -> dict[str, float]:
    """Train the encoders and write the `damsm` folder.

    Args:
        dataset: folder of `preprocess`.
        out: gets encoders, vocabulary, config, figures, manifest.
        config: the settings.
        inception_weights: torchvision's ImageNet state dict of Inception-v3, or of MobileNetV2 where that is
            `image_encoder.kind`, `.pth` or `.safetensors`; without it the trunk starts at random and is trained too.
        start_from: folder of a `damsm`, a bundle or a run: the encoders begin with its weights; a trunk that it has
            takes the place of `inception_weights`.
        state: folder for the state of resuming, local or in cloud storage; `<out>.state` when None.

    Returns:
        The figures of the best test: recall at 1 and at 5 among 100 captions, and the epoch.
    """
    with delivery.first_result(out, "damsm", inputs=[dataset, inception_weights, start_from]) as draft:
        return _pretrained(dataset, draft, config, inception_weights, start_from, state or f"{out}.state")


def _pretrained(
    dataset: Path, out: Path, config: Config, inception_weights: Path | None, start_from: Path | None, state: str
) -> dict[str, float]:
    """Train the encoders, and write their folder where it is made; return the figures of the best test."""
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    feasible.check(config, dataset, train, test, evaluates=False)
    published.check_projected(config.discriminator.projected)  # before time is spent
    device = acceleration.set_up_device(config)
    trunk = start.trunk(start_from, inception_weights, config)
    if inception_weights not in (None, trunk):
        say(f"--inception-weights are not used: the trunk is that of {start_from}.")
    with acceleration.beginning(device):
        run = DamsmRun(config, train, device, trunk)
    key = {
        "config": _shaping(config),
        "dataset": train.manifest["fingerprint"],
        "inception": artifacts.sha256_of(trunk) if trunk else None,
    }
    if start_from is not None:
        run.start_from = key["start_from"] = start.encoders_from(start_from, run, train.vocabulary)
    store = states.StateStore(state, step_name="pretrain_damsm", key=key)
    store = run.resume(store)
    distributed.check_same(run.step, f"{store.uri}: the step to go on from")
    with trackers.opened("damsm", config, trackers.absolute(store.uri), is_first=distributed.is_first()) as tracked:
        log = RunLog(out if distributed.is_first() else None, run.rows, tracked)
        page = DamsmProgress(run, test, out, log) if distributed.is_first() else None
        watcher = DamsmWatcher(run, log, store, test, page)
        with kept_features(run, train, test, key) if run.step < run.schedule.total else contextlib.nullcontext():
            loop.train(run, train, damsm_step, watcher)
        if distributed.is_first():
            run.load_best()
            files = trained_encoders.save(out, run.text_encoder, run.image_encoder, train.vocabulary, run.config)
            artifacts.write_json(out / "retrieval.json", run.best)
            files += ["retrieval.json", PAGE, *log.close()]
            made_from, start_from = train.manifest["fingerprint"], run.start_from or None
            facts = {"dataset": made_from, "retrieval": run.best, "start_from": start_from}
            made = artifacts.finish(out, "damsm", files, **facts)
            tracked.facts(dataset=made_from, damsm=made["fingerprint"])
    return run.best


def _shaping(config: Config) -> dict[str, Any]:
    """Return the settings that shape the states of a run, beside its data."""
    shaping = config.shaping()
    read = ("seed", "precision", "text_encoder", "image_encoder", "damsm")
    settings = {name: shaping[name] for name in read if name in shaping}
    for name in ("epochs", "steps"):  # more of them go on from what is there
        settings.get("damsm", {}).pop(name, None)
    settings["data"] = config.data.model_dump(include={"resolution", "max_words"})  # the rest made the dataset
    settings["watch"] = config.watch.model_dump(include={"every_epochs", "learning_rate_factor"})
    return settings
