"""Step: the adversarial training of the generator against one discriminator a stage (section 4)."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.parametrize import cached

from attngan import artifacts, checkpoint, distributed, seeding, weights
from attngan.checkpoint import StateStore
from attngan.config import Config
from attngan.data.dataset import Batch, Dataset
from attngan.data.sampling import batch_of_step
from attngan.errors import InputError
from attngan.gan_run import GanRun
from attngan.launcher import over_processes
from attngan.losses.adversarial import discriminator_loss, generator_loss, kl_loss
from attngan.losses.damsm import damsm_losses
from attngan.models.ema import update_average_
from attngan.models.generator import Generated
from attngan.models.image_encoder import add_noise
from attngan.run_log import RunLog, check_finite, progress
from attngan.snapshots import Snapshots
from attngan.text_to_image import TextToImage


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
        config: reads `generator`, `discriminator`, `training`, `data`, `seed`, `device`.
        state: folder for the state of resuming, local or gs://; `<out>.state` when None.

    Returns:
        The last logged losses.
    """
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    if len(train) < config.training.batch_size:
        raise InputError(
            f"{dataset}: {len(train)} training pictures are fewer than training.batch_size "
            f"{config.training.batch_size}; lower it."
        )
    run = GanRun(config, train, damsm, weights.choose_device(config))
    shaping = config.model_dump(exclude={"device", "num_threads", "num_processes", "evaluate", "samples", "publish"})
    for name in ("epochs", "checkpoint_every_seconds", "snapshot_every_seconds", "log_every_steps", "price_per_hour"):
        del shaping["training"][name]  # more epochs go on from what is there
    key = {
        "config": shaping,
        "dataset": train.manifest["fingerprint"],
        "damsm": run.damsm_fingerprint,
        "code": artifacts.source_digest("models", "losses", "data", "gan_run.py", "train_generator.py"),
    }
    store = checkpoint.StateStore(state or f"{out}.state", step_name="train_generator", key=key)
    if distributed.is_first():
        artifacts.begin(out)
    run.resume(store)
    distributed.check_same(run.step, f"{store.uri}: the step to go on from")
    log = RunLog(out if distributed.is_first() else None, run.rows)
    total = config.training.epochs * (len(train) // config.training.batch_size)
    snapshots = Snapshots(run, test, out, total) if distributed.is_first() else None
    _train(run, train, total, snapshots, log, store)
    if snapshots is not None:
        files = TextToImage(config, train.vocabulary, run.text_encoder, run.average, run.device).save(out)
        files += [*snapshots.finish(log.rows), *log.close()]
        facts = {"dataset": train.manifest["fingerprint"], "damsm": run.damsm_fingerprint, "steps": run.step}
        artifacts.finish(out, "generator", files, **facts)
    return {name: value for name, value in run.rows[-1].items() if name != "step"} if run.rows else {}


def _train(
    run: GanRun, train: Dataset, total: int, snapshots: Snapshots | None, log: RunLog, store: StateStore
) -> None:
    """Run all steps that are left; save the state now and then, at the end, and when told to stop."""
    settings, batch_size = run.config.training, run.config.training.batch_size
    steps_per_epoch = len(train) // batch_size
    checkpoint.check_not_beyond(run.step, total, store.uri, setting="training.epochs")
    save_timer = checkpoint.Timer(settings.checkpoint_every_seconds)
    snapshot_timer = checkpoint.Timer(settings.snapshot_every_seconds)
    bar = progress("generator", total=total * batch_size, unit="images", start=run.step * batch_size)
    with store, bar as advance, checkpoint.stop_request() as stop:
        while run.step < total:
            batch = batch_of_step(
                train,
                run.step,
                batch_size=batch_size,
                resolutions=run.config.resolutions,
                max_words=run.config.data.max_words,
                seed=run.config.seed,
                purpose="generator",
                part=distributed.part(batch_size),
            )
            losses = training_step(run, batch)
            run.step += 1
            advance(batch_size)

            run.loss_sums += torch.stack(list(losses.values()))
            run.num_summed += 1
            if run.step % settings.log_every_steps == 0 or run.step == total:
                figures = run.mean_losses(list(losses))
                check_finite(run.step, figures)
                log.write(step=run.step, epoch=run.step / steps_per_epoch, **figures)
                run.rows = log.rows
                advance(0, f"D {figures['discriminator']:.2f}, G {figures['generator']:.2f}")
            if snapshots is not None and snapshot_timer.due():
                snapshots.draw(log.rows)
            must_stop, must_save = distributed.agreed(stop, distributed.is_first() and save_timer.due())
            if must_stop or must_save or run.step == total:
                check_finite(run.step, dict(zip(losses, run.share_loss_sums(), strict=True)))
                if distributed.is_first():
                    store.save(run.step, run.state())
            if must_stop:
                store.settle()
                stop.stop()


def training_step(run: GanRun, batch: Batch) -> dict[str, Tensor]:
    """Update every discriminator, then the generator on the same pictures, then the average.

    Several processes have a part of the pictures each, and all captions of the batch: what couples its pictures is
    computed by all of them, and their gradients are averaged.

    Args:
        run: networks and optimisers; changed in place.
        batch: real pictures at every resolution, and the captions of the whole batch.

    Returns:
        The losses, on the device and without gradients: a sum for all discriminators, and the parts of the generator's.
    """
    torch.manual_seed(seeding.seed_for(run.config.seed, "gan step", run.step))
    batch = batch.to(run.device)
    with torch.no_grad():
        word_features, sentence_feature = run.text_encoder(batch.word_ids, batch.lengths)

    own = distributed.part(len(sentence_feature))
    noise = torch.randn(len(sentence_feature), run.generator.noise_dim, device=run.device)[own]
    epsilon = torch.randn(len(sentence_feature), run.generator.condition_dim, device=run.device)[own]
    fakes = run.generator(noise, sentence_feature[own], word_features[own], batch.is_padding[own], epsilon=epsilon)

    discriminator_total = _update_discriminators(run, batch, fakes.images, sentence_feature)

    losses = _generator_losses(run, batch, fakes, (word_features, sentence_feature))
    run.generator_optimiser.zero_grad(set_to_none=True)
    losses["generator"].backward()
    distributed.average_gradients_(run.generator.parameters())
    run.generator_optimiser.step()

    update_average_(run.average, run.generator, decay=run.config.training.ema_decay)
    return {"discriminator": discriminator_total, **{name: loss.detach() for name, loss in losses.items()}}


def _update_discriminators(run: GanRun, batch: Batch, fake_images: list[Tensor], sentence_feature: Tensor) -> Tensor:
    """Take a step of every discriminator on its own resolution, and return the sum of their losses."""
    total = torch.zeros((), device=run.device)
    own = distributed.part(len(sentence_feature))
    following = sentence_feature[own.start + 1 : own.stop + 1]  # one fewer in the last part
    share = len(following) * distributed.world_size() / (len(sentence_feature) - 1)
    for discriminator, optimiser, real, fake in zip(
        run.discriminators, run.discriminator_optimisers, batch.images, fake_images, strict=True
    ):
        discriminator.requires_grad_(True)
        with cached():  # spectral norms are computed once an update, not once a forward
            loss = discriminator_loss(discriminator, real, fake, sentence_feature[own], following, share)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        distributed.average_gradients_(discriminator.parameters())
        optimiser.step()
        discriminator.requires_grad_(False)  # the generator's loss needs no gradient of theirs
        total += loss.detach()
    return total


def _generator_losses(
    run: GanRun, batch: Batch, fakes: Generated, captions: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """Return what the generator has to lower as "generator" (Eq. 3), and the parts of it."""
    settings = run.config.training
    own = distributed.part(len(batch.lengths))
    with cached():
        adversarial = sum(
            generator_loss(discriminator, fake, captions[1][own])
            for discriminator, fake in zip(run.discriminators, fakes.images, strict=True)
        )
    noisy = add_noise(fakes.images[-1], run.config.image_encoder.noise, distributed.randn_like)
    features = tuple(map(distributed.gather, run.image_encoder(noisy)))
    matching = damsm_losses(features, captions, batch.is_padding, batch.class_ids, **run.config.damsm.gammas)
    kl = kl_loss(fakes.mean, fakes.log_variance)
    total = adversarial + settings.damsm_weight * sum(matching.values()) + settings.kl_weight * kl
    return {"generator": total, "adversarial": adversarial, "kl": kl, **matching}
