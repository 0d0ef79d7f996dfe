"""One step of the adversarial training (section 4): discriminators, generator on the same pictures, average."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.parametrize import cached

from attngan import seeding
from attngan.data.dataset import Batch, Dataset
from attngan.data.sampling import batch_of_step
from attngan.losses.adversarial import discriminator_loss, generator_loss, kl_loss
from attngan.losses.damsm import damsm_losses
from attngan.models.ema import update_average_
from attngan.models.generator import Generated
from attngan.models.image_encoder import add_noise
from attngan.runtime import distributed
from attngan.runtime.step_graph import Step, StepGraph
from attngan.training.gan_run import OPINIONS, GanRun
from attngan.training.watchdog import opinion


def take_step(run: GanRun, batch: Batch) -> None:
    """Take the run's next step, and add its losses to those that will be logged."""
    run.add(training_step(run, batch))


def training_step(run: GanRun, batch: Batch) -> dict[str, Tensor]:
    """Update every discriminator, then the generator on the same pictures, then the average.

    Several processes have a part of the pictures each, and all captions of the batch: each scores its own pictures
    against all captions, all compute the losses of the batch from everyone's scores, and their gradients are averaged.

    Args:
        run: networks and optimisers; changed in place.
        batch: real pictures at every resolution, and the captions of the whole batch.

    Returns:
        The losses, on the device, without gradients, valid until the next step: a sum for all discriminators, the parts
        of the generator's; and under the names of `watchdog.opinion` what each discriminator thinks.
    """
    torch.manual_seed(seeding.seed_for(run.seed, "gan step", run.step))
    batch = batch.to(run.device)
    update: Step = functools.partial(_update, run)
    if run.recorder is not None:
        run.graph = update = run.graph or StepGraph(update, run.recorder, run.free_gradients)
    return update(*run.captions.take(batch), batch.class_ids, *batch.images)


def _update(
    run: GanRun, words: Tensor, sentences: Tensor, is_padding: Tensor, class_ids: Tensor, *real_images: Tensor
) -> dict[str, Tensor]:
    """Take a step on what lies on the device; nothing here waits for it or looks at a value, so a graph can hold it.

    Args:
        run: changed in place.
        words: (B, D, T) word features of the whole batch.
        sentences: (B, D) sentence features of the whole batch.
        is_padding: (B, T), True where a caption has no word.
        class_ids: (B,).
        real_images: coarse to fine, this process's part of the batch.
    """
    own = distributed.part(len(sentences))
    noise = torch.randn(len(sentences), run.generator.noise_dim, device=run.device)[own]
    epsilon = torch.randn(len(sentences), run.generator.condition_dim, device=run.device)[own]
    with run.autocast():
        fakes = run.generator(noise, sentences[own], words[own], is_padding[own], epsilon=epsilon)

    discriminator_total, opinions = _update_discriminators(run, real_images, fakes.images, sentences)

    losses = _generator_losses(run, fakes, (words, sentences), is_padding, class_ids)
    run.generator_optimiser.zero_grad(set_to_none=True)
    run.generator_gradients.backward(losses["generator"])
    run.generator_optimiser.step()

    update_average_(run.average, run.generator, decay=run.config.training.ema_decay**run.batch_ratio)
    return {"discriminator": discriminator_total, **{name: loss.detach() for name, loss in losses.items()}, **opinions}


def _update_discriminators(
    run: GanRun, real_images: Sequence[Tensor], fake_images: Sequence[Tensor], sentence_feature: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Take a step of every discriminator on its own resolution; return the sum of their losses, and their opinions."""
    total = torch.zeros((), device=run.device)
    found: dict[str, Tensor] = {}
    own = distributed.part(len(sentence_feature))
    following = sentence_feature[own.start + 1 : own.stop + 1]  # one fewer in the last part
    share = len(following) * distributed.world_size() / (len(sentence_feature) - 1)
    learners = zip(run.discriminators, run.discriminator_optimisers, run.discriminator_gradients, strict=True)
    for (discriminator, optimiser, gradients), real, fake in zip(learners, real_images, fake_images, strict=True):
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
    run: GanRun, fakes: Generated, captions: tuple[Tensor, Tensor], is_padding: Tensor, class_ids: Tensor
) -> dict[str, Tensor]:
    """Return what the generator has to lower as "generator" (Eq. 3), and the parts of it."""
    settings = run.config.training
    own = distributed.part(len(class_ids))
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
        matching = damsm_losses(
            seen, captions, is_padding, class_ids, **run.config.damsm.gammas, gather=distributed.gather
        )
    kl = kl_loss(fakes.mean, fakes.log_variance)
    total = adversarial + settings.damsm_weight * sum(matching.values()) + settings.kl_weight * kl
    return {"generator": total, "adversarial": adversarial, "kl": kl, **matching}


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
