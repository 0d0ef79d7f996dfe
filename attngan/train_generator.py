"""Step: the adversarial training of the generator against one discriminator a stage (section 4)."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.parametrize import cached

from attngan import artifacts, checkpoint, seeding, weights
from attngan.config import Config
from attngan.data.dataset import Batch, Dataset
from attngan.data.sampling import batch_of_step
from attngan.errors import InputError
from attngan.gan_run import GanRun
from attngan.losses.adversarial import discriminator_loss, generator_loss, kl_loss
from attngan.losses.damsm import damsm_losses
from attngan.models.ema import update_average_
from attngan.models.image_encoder import add_noise
from attngan.run_log import RunLog, check_finite, progress
from attngan.snapshots import Snapshots
from attngan.text_to_image import TextToImage


def train_generator(
    dataset: Path, damsm: Path, out: Path, config: Config, *, state: Path | None = None
) -> dict[str, float]:
    """Train the generator and write the `generator` folder.

    Interrupted and run again with the same settings, it goes on from its last state; on a CPU the result is bit for
    bit that of an uninterrupted run.

    Args:
        dataset: folder of `preprocess`.
        damsm: folder of `pretrain_damsm` on that dataset.
        out: gets the averaged generator, text encoder, vocabulary, config, figures, sample grids, progress report.
        config: reads `generator`, `discriminator`, `training`, `data`, `seed`, `device`.
        state: folder for the state of resuming; `<out>.state` when None.

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
    shaping = config.model_dump(exclude={"device", "num_threads", "evaluate", "samples", "publish"})
    for name in ("epochs", "checkpoint_every_seconds", "snapshot_every_seconds", "log_every_steps"):
        del shaping["training"][name]  # more epochs go on from what is there
    key = {
        "config": shaping,
        "dataset": train.manifest["fingerprint"],
        "damsm": run.damsm_fingerprint,
        "code": artifacts.source_digest("models", "losses", "data", "gan_run.py", "train_generator.py"),
    }
    folder = checkpoint.state_folder(state or out.with_name(out.name + ".state"), step_name="train_generator", key=key)
    artifacts.begin(out)
    run.resume(folder)
    log = RunLog(out, run.rows)
    snapshots = Snapshots(run, test, out, config.training.epochs * (len(train) // config.training.batch_size))
    _train(run, train, snapshots, log, folder)
    snapshots.draw(log.rows)

    files = TextToImage(config, train.vocabulary, run.text_encoder, run.average, run.device).save(out)
    files += [*snapshots.files(), *log.close()]
    facts = {"dataset": train.manifest["fingerprint"], "damsm": run.damsm_fingerprint, "steps": run.step}
    artifacts.finish(out, "generator", files, **facts)
    return {name: value for name, value in run.rows[-1].items() if name != "step"} if run.rows else {}


def _train(run: GanRun, train: Dataset, snapshots: Snapshots, log: RunLog, folder: Path) -> None:
    """Run all steps that are left; save the state now and then, at the end, and when told to stop."""
    settings, batch_size = run.config.training, run.config.training.batch_size
    steps_per_epoch, total = len(train) // batch_size, snapshots.total
    checkpoint.check_not_beyond(run.step, total, folder, setting="training.epochs")
    save_timer = checkpoint.Timer(settings.checkpoint_every_seconds)
    snapshot_timer = checkpoint.Timer(settings.snapshot_every_seconds)
    bar = progress("generator", total=total * batch_size, unit="images", start=run.step * batch_size)
    with bar as advance, checkpoint.stop_request() as stop:
        while run.step < total:
            batch = batch_of_step(
                train,
                run.step,
                batch_size=batch_size,
                resolutions=run.config.resolutions,
                max_words=run.config.data.max_words,
                seed=run.config.seed,
                purpose="generator",
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
            if snapshot_timer.due():
                snapshots.draw(log.rows)
            if stop or save_timer.due() or run.step == total:
                check_finite(run.step, dict(zip(losses, run.loss_sums.tolist(), strict=True)))
                checkpoint.save(folder, run.step, run.state())
            if stop:
                stop.stop()


def training_step(run: GanRun, batch: Batch) -> dict[str, Tensor]:
    """Update every discriminator, then the generator on the same pictures, then the average.

    Args:
        run: networks and optimisers; changed in place.
        batch: real pictures at every resolution, and their captions.

    Returns:
        The losses, on the device and without gradients: a sum for all discriminators, and the parts of the generator's.
    """
    settings = run.config.training
    torch.manual_seed(seeding.seed_for(run.config.seed, "gan step", run.step))
    batch = batch.to(run.device)
    with torch.no_grad():
        word_features, sentence_feature = run.text_encoder(batch.word_ids, batch.lengths)

    noise = torch.randn(len(sentence_feature), run.generator.noise_dim, device=run.device)
    fakes = run.generator(noise, sentence_feature, word_features, batch.is_padding)

    discriminator_total = _update_discriminators(run, batch, fakes.images, sentence_feature)

    with cached():
        adversarial = sum(
            generator_loss(discriminator, fake, sentence_feature)
            for discriminator, fake in zip(run.discriminators, fakes.images, strict=True)
        )
    features = run.image_encoder(add_noise(fakes.images[-1], run.config.image_encoder.noise))
    captions = word_features, sentence_feature
    matching = damsm_losses(features, captions, batch.is_padding, batch.class_ids, **run.config.damsm.gammas)
    kl = kl_loss(fakes.mean, fakes.log_variance)
    total = adversarial + settings.damsm_weight * sum(matching.values()) + settings.kl_weight * kl
    run.generator_optimiser.zero_grad(set_to_none=True)
    total.backward()
    run.generator_optimiser.step()

    update_average_(run.average, run.generator, decay=settings.ema_decay)
    losses = {
        "discriminator": discriminator_total,
        "generator": total,
        "adversarial": adversarial,
        "kl": kl,
        **matching,
    }
    return {name: loss.detach() for name, loss in losses.items()}


def _update_discriminators(run: GanRun, batch: Batch, fake_images: list[Tensor], sentence_feature: Tensor) -> Tensor:
    """Take a step of every discriminator on its own resolution, and return the sum of their losses."""
    total = torch.zeros((), device=run.device)
    for discriminator, optimiser, real, fake in zip(
        run.discriminators, run.discriminator_optimisers, batch.images, fake_images, strict=True
    ):
        discriminator.requires_grad_(True)
        with cached():  # spectral norms are computed once an update, not once a forward
            loss = discriminator_loss(discriminator, real, fake, sentence_feature)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        discriminator.requires_grad_(False)  # the generator's loss needs no gradient of theirs
        total += loss.detach()
    return total
