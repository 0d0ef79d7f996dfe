"""Step: the adversarial training of the generator against one discriminator a stage (section 4)."""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.parametrize import cached

from attngan import acceleration, artifacts, checkpoint, distributed, seeding, stopping, weights
from attngan.checkpoint import StateStore
from attngan.config import Config
from attngan.data.dataset import Batch, Dataset
from attngan.data.sampling import BatchesAhead, batch_of_step
from attngan.errors import InputError
from attngan.gan_run import OPINIONS, GanRun
from attngan.gan_watcher import GanWatcher
from attngan.launcher import over_processes
from attngan.losses.adversarial import discriminator_loss, generator_loss, kl_loss
from attngan.losses.damsm import damsm_losses
from attngan.models.ema import update_average_
from attngan.models.generator import Generated
from attngan.models.image_encoder import add_noise
from attngan.models.layers import at_least_float32
from attngan.run_log import RunLog, progress
from attngan.snapshot_figures import SnapshotFigures
from attngan.snapshots import Snapshots
from attngan.text_to_image import TextToImage
from attngan.watchdog import opinion

CODE = (  # that shapes the result, as far as the state goes
    "caption_features.py",
    "models",
    "losses",
    "data",
    "metrics",
    "evaluation_pictures.py",
    "features.py",
    "gan_run.py",
    "gan_watcher.py",
    "snapshot_figures.py",
    "train_generator.py",
    "training_run.py",
    "watchdog.py",
    "watcher.py",
)
NOT_SHAPING = {  # what is done already: a run with others of these goes on from what is there
    "training": ("epochs", "checkpoint_every_seconds", "log_every_steps", "price_per_hour"),
    "watch": ("result", "patience", "on_trouble", "max_roll_backs"),
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
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    if len(train) < config.training.batch_size:
        raise InputError(
            f"{dataset}: {len(train)} training pictures are fewer than training.batch_size "
            f"{config.training.batch_size}; lower it."
        )
    run = GanRun(config, train, damsm, weights.choose_device(config))
    figures = SnapshotFigures(run, train, test, damsm)
    facts = {"dataset": train.manifest["fingerprint"], "damsm": run.damsm_fingerprint}
    store = checkpoint.StateStore(
        state or f"{out}.state", step_name="train_generator", key={**facts, **_shaping(config, figures)}
    )
    if distributed.is_first():
        artifacts.begin(out)
    run.resume(store)
    distributed.check_same(run.step, f"{store.uri}: the step to go on from")
    log = RunLog(out if distributed.is_first() else None, run.rows)
    steps_per_epoch = len(train) // config.training.batch_size
    total = config.training.epochs * steps_per_epoch
    checkpoint.check_not_beyond(run.step, total, store.uri, setting="training.epochs")
    snapshots = Snapshots(run, test, out, total, store, log) if distributed.is_first() else None
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


def _shaping(config: Config, figures: SnapshotFigures) -> dict[str, Any]:
    """Return what shapes the states of a run beside its data: settings, code, and by what the best is chosen."""
    settings = config.model_dump(exclude={"device", "num_threads", "num_processes", "evaluate", "samples", "publish"})
    for section, names in NOT_SHAPING.items():
        for name in names:
            del settings[section][name]
    judged = [figures.extractor.name, config.evaluate.num_candidates]
    return {"config": settings, "figures": judged, "code": artifacts.source_digest(*CODE)}


def _train(run: GanRun, train: Dataset, watcher: GanWatcher, store: StateStore) -> None:
    """Run all steps that are left; save the state now and then, at the end, and when told to stop."""
    batch_size = run.config.training.batch_size
    save_timer = checkpoint.Timer(run.config.training.checkpoint_every_seconds)
    bar = progress("generator", total=watcher.total * batch_size, unit="images", start=run.step * batch_size)
    batches = BatchesAhead(functools.partial(batch_for, run, train), run.device)
    with store, batches, bar as advance, stopping.stop_request() as stop:
        watcher.begin()
        while not watcher.is_over():
            batch = batches.take(run.step, run.seed)
            before = run.step
            fewer = functools.partial(_try, run, batch)
            with acceleration.fitting("training.batch_size", batch_size, run.device, fewer):
                run.add(training_step(run, batch))
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


def _try(run: GanRun, batch: Batch, size: int) -> None:
    training_step(run, batch.first(size))


def training_step(run: GanRun, batch: Batch) -> dict[str, Tensor]:
    """Update every discriminator, then the generator on the same pictures, then the average.

    Several processes have a part of the pictures each, and all captions of the batch: what couples its pictures is
    computed by all of them, and their gradients are averaged.

    Args:
        run: networks and optimisers; changed in place.
        batch: real pictures at every resolution, and the captions of the whole batch.

    Returns:
        The losses, on the device and without gradients: a sum for all discriminators, and the parts of the generator's;
        and under the names of `watchdog.opinion` what each discriminator thinks.
    """
    torch.manual_seed(seeding.seed_for(run.seed, "gan step", run.step))
    batch = batch.to(run.device)
    word_features, sentence_feature = run.captions.take(batch)
    own = distributed.part(len(sentence_feature))
    noise = torch.randn(len(sentence_feature), run.generator.noise_dim, device=run.device)[own]
    epsilon = torch.randn(len(sentence_feature), run.generator.condition_dim, device=run.device)[own]
    with run.autocast():
        fakes = run.generator(noise, sentence_feature[own], word_features[own], batch.is_padding[own], epsilon=epsilon)

    discriminator_total, opinions = _update_discriminators(run, batch, fakes.images, sentence_feature)

    losses = _generator_losses(run, batch, fakes, (word_features, sentence_feature))
    run.generator_optimiser.zero_grad(set_to_none=True)
    run.generator_gradients.backward(losses["generator"])
    run.generator_optimiser.step()

    update_average_(run.average, run.generator, decay=run.config.training.ema_decay**run.batch_ratio)
    return {"discriminator": discriminator_total, **{name: loss.detach() for name, loss in losses.items()}, **opinions}


def _update_discriminators(
    run: GanRun, batch: Batch, fake_images: list[Tensor], sentence_feature: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Take a step of every discriminator on its own resolution; return the sum of their losses, and their opinions."""
    total = torch.zeros((), device=run.device)
    found: dict[str, Tensor] = {}
    own = distributed.part(len(sentence_feature))
    following = sentence_feature[own.start + 1 : own.stop + 1]  # one fewer in the last part
    share = len(following) * distributed.world_size() / (len(sentence_feature) - 1)
    learners = zip(run.discriminators, run.discriminator_optimisers, run.discriminator_gradients, strict=True)
    for (discriminator, optimiser, gradients), real, fake in zip(learners, batch.images, fake_images, strict=True):
        discriminator.requires_grad_(True)
        with cached():  # spectral norms are computed once an update, not once a forward
            discriminator.normalise()
            with run.autocast():
                loss, opinions = discriminator_loss(discriminator, real, fake, sentence_feature[own], following, share)
        optimiser.zero_grad(set_to_none=True)
        gradients.backward(loss)
        optimiser.step()
        discriminator.requires_grad_(False)  # the generator's loss needs no gradient of theirs
        total += loss.detach()
        found |= {opinion(kind, real.shape[-1]): each for kind, each in zip(OPINIONS, opinions, strict=True)}
    return total, found


def _generator_losses(
    run: GanRun, batch: Batch, fakes: Generated, captions: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """Return what the generator has to lower as "generator" (Eq. 3), and the parts of it."""
    settings = run.config.training
    own = distributed.part(len(batch.lengths))
    with cached():
        for discriminator in run.discriminators:
            discriminator.normalise()
        with run.autocast():
            adversarial = sum(
                generator_loss(discriminator, fake, captions[1][own])
                for discriminator, fake in zip(run.discriminators, fakes.images, strict=True)
            )
    noisy = add_noise(fakes.images[-1], run.config.image_encoder.noise, distributed.randn_like)
    with run.autocast():
        seen = run.image_encoder(noisy)
    features = tuple(distributed.gather(at_least_float32(each)) for each in seen)
    with run.autocast():
        matching = damsm_losses(features, captions, batch.is_padding, batch.class_ids, **run.config.damsm.gammas)
    kl = kl_loss(fakes.mean, fakes.log_variance)
    total = adversarial + settings.damsm_weight * sum(matching.values()) + settings.kl_weight * kl
    return {"generator": total, "adversarial": adversarial, "kl": kl, **matching}
