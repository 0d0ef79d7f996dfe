"""One step of the adversarial training (section 4): discriminators, generator on the same pictures, average."""

import functools

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from attngan import seeding
from attngan.data.dataset import Batch, Dataset
from attngan.data.sampling import batch_of_step
from attngan.losses import augmentation
from attngan.losses.adversarial import discriminator_loss, generator_loss, kl_loss
from attngan.losses.damsm import damsm_losses
from attngan.models.ema import update_average_
from attngan.models.generator import Generated, Generator
from attngan.models.image_encoder import add_noise
from attngan.models.layers import compute_spectral_norms
from attngan.models.text_encoder import TextFeatures
from attngan.runtime import distributed
from attngan.training.gan_run import OPINIONS, GanRun
from attngan.training.learner import Learner
from attngan.training.watchdog import opinion


def take_step(run: GanRun, batch: Batch) -> None:
    """Take the run's next step, and add its losses to those that will be logged."""
    run.add(training_step(run, batch))


def training_step(run: GanRun, batch: Batch) -> dict[str, Tensor]:
    """Update every discriminator, then the generator on the same pictures, then the average.

    Several processes have a part of the pictures each, and all captions of the batch: each scores its own pictures
    against all captions, all compute the losses of the batch from everyone's scores, and their gradients are averaged.

    Args:
        run: networks and optimizers; changed in place.
        batch: real pictures at every resolution, and the captions of the whole batch.

    Returns:
        The losses, on the device, without gradients, valid until the next step: a sum for all discriminators, the parts
        of the generator's; and under the names of `watchdog.opinion` what each discriminator thinks.
    """
    torch.manual_seed(seeding.seed_for(run.seed, "gan step", run.step))
    batch = batch.to(run.device)
    inputs = *run.captions.take(batch), batch.class_ids, *batch.images
    return run.perform(functools.partial(_update, run), *inputs, kind="projecting" if run.projects_now else "")


def _update(
    run: GanRun, words: Tensor, sentence: Tensor, is_padding: Tensor, class_ids: Tensor, *real_images: Tensor
) -> dict[str, Tensor]:
    """Take a step on what lies on the device; nothing here waits for it or looks at a value, so a graph can hold it.

    Args:
        run: changed in place.
        words: (B, D, T) word features of the whole batch.
        sentence: (B, D) sentence features of the whole batch.
        is_padding: (B, T), True where a caption has no word.
        class_ids: (B,).
        real_images: coarse to fine, this process's part of the batch.
    """
    text = TextFeatures(words, sentence, is_padding)
    generated = _generate(run, text)

    discriminator_total, opinions = torch.zeros((), device=run.device), {}
    for learner, real, images in zip(run.discriminator_learners, real_images, generated.images, strict=True):
        loss, found = _update_discriminator(run, learner, real, images, sentence)
        discriminator_total += loss
        opinions |= {opinion(kind, real.shape[-1]): each for kind, each in zip(OPINIONS, found, strict=True)}
    projected = {}
    if run.projected_learner is not None:
        projected["projected"] = _update_projected(
            run, run.projected_learner, real_images[-1], generated.images[-1], sentence
        )

    losses = _generator_losses(run, generated, text, class_ids)
    run.generator_learner.learn(losses["generator"])

    update_average_(run.generator_ema, run.generator, decay=run.ema_decay)
    losses = {"discriminator": discriminator_total, **projected, **losses}
    return {**{name: loss.detach() for name, loss in losses.items()}, **opinions}


def _generate(run: GanRun, text: TextFeatures) -> Generated:
    """Return this process's generated images, coarse to fine, from noise that is drawn for the whole batch (Eq. 1)."""
    size, own = len(text.sentence), distributed.part(len(text.sentence))
    noise = torch.randn(size, run.generator.noise_dim, device=run.device)[own]
    epsilon = torch.randn(size, run.generator.condition_dim, device=run.device)[own]
    mine = text.part(own)
    with run.autocast():
        return run.compute(_drawn, run.generator, mine, noise, epsilon)


def _drawn(generator: Generator, text: TextFeatures, noise: Tensor, epsilon: Tensor) -> Generated:
    return generator(noise, text.sentence, text.words, text.is_padding, epsilon=epsilon)


def _update_discriminator(
    run: GanRun, learner: Learner, real_images: Tensor, generated_images: Tensor, sentence: Tensor
) -> tuple[Tensor, Tensor]:
    """Take a step of one discriminator on its own resolution (Eq. 5); return its loss, and its opinions (3,)."""
    discriminator, own = learner.network, distributed.part(len(sentence))
    wrong = sentence[own.start + 1 : own.stop + 1]  # of the next pictures: one fewer in the last part of a batch
    weight = len(wrong) * distributed.world_size() / (len(sentence) - 1)
    real_images, generated_images = _moved(run, real_images), _moved(run, generated_images)
    discriminator.requires_grad_(True)
    with cached():  # spectral norms are computed once an update, not once a forward
        compute_spectral_norms(discriminator)
        with run.autocast():
            loss, opinions = run.compute(
                discriminator_loss, discriminator, real_images, generated_images, sentence[own], wrong, weight
            )
    learner.learn(loss)
    discriminator.requires_grad_(False)  # the generator's loss needs no gradient of theirs
    return loss.detach(), opinions


def _update_projected(
    run: GanRun, learner: Learner, real_images: Tensor, generated_images: Tensor, sentence: Tensor
) -> Tensor:
    """Take a step of the discriminator on a frozen network, if this is one of its; return its loss, a mean over all."""
    if not run.projects_now:
        return torch.zeros((), device=run.device)
    loss, _ = _update_discriminator(run, learner, real_images, generated_images, sentence)
    return loss * run.period


def _moved(run: GanRun, images: Tensor) -> Tensor:
    """Return pictures as a discriminator is shown them: moved at random where the settings say so."""
    most = round(run.config.discriminator.translation * images.shape[-1])
    if not most:
        return images
    size = len(images) * distributed.world_size()
    shifts = torch.randint(-most, most + 1, (size, 2), device=images.device)
    return augmentation.translated(images, shifts[distributed.part(size)])


def _generator_losses(run: GanRun, generated: Generated, text: TextFeatures, class_ids: Tensor) -> dict[str, Tensor]:
    """Return what the generator has to lower as "generator" (Eq. 3), and the parts of it."""
    settings = run.config.training
    sentence = text.part(distributed.part(len(class_ids))).sentence
    with cached():
        compute_spectral_norms(run.discriminators)
        if run.projects_now:
            compute_spectral_norms(run.projected)
        with run.autocast():
            adversarial = sum(
                run.compute(generator_loss, discriminator, _moved(run, images), sentence)
                for discriminator, images in zip(run.discriminators, generated.images, strict=True)
            )
            if run.projects_now:
                weight = run.config.discriminator.projected.weight * run.period
                loss = run.compute(generator_loss, run.projected, _moved(run, generated.images[-1]), sentence)
                adversarial = adversarial + weight * loss
    noisy = add_noise(generated.images[-1], run.config.image_encoder.noise, distributed.randn_like)
    with run.autocast():
        matching = run.compute(_matching_losses, run.image_encoder, noisy, text, class_ids, run.config.damsm.gammas)
    kl = run.compute(kl_loss, generated.mean, generated.log_variance)
    total = adversarial + settings.damsm_weight * sum(matching.values()) + settings.kl_weight * kl
    return {"generator": total, "adversarial": adversarial, "kl": kl, **matching}


def _matching_losses(
    image_encoder: nn.Module, images: Tensor, text: TextFeatures, class_ids: Tensor, gammas: dict[str, float]
) -> dict[str, Tensor]:
    captions, gather = (text.words, text.sentence), distributed.gather
    return damsm_losses(image_encoder(images), captions, text.is_padding, class_ids, **gammas, gather=gather)


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
    run.try_out()
    training_step(run, batch_for(run, train, run.step, run.seed).first(size))
