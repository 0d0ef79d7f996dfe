"""The training steps as the paper and its released code take them, in float32 and one thing after the other.

What ours are measured against (`make bench`) and must agree with (`tests/paper/test_plain_steps.py`): each caption by
itself in the word loss, captions read and pictures seen anew in each step, a pass of a discriminator for each kind of
picture, gradients of discriminators that nobody uses, enlarging before convolving, an average parameter by parameter.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from attngan import seeding
from attngan.data.dataset import Batch
from attngan.losses import as_written
from attngan.losses.adversarial import generator_loss, kl_loss, loss_as_generated, loss_as_real
from attngan.losses.damsm import DAMSM_LOSSES, matching_loss, sentence_loss
from attngan.models import layers, text_encoder
from attngan.models.discriminator import Discriminator
from attngan.models.image_encoder import add_noise
from attngan.models.text_encoder import TextEncoder, read_packed
from attngan.runtime import distributed
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun
from attngan.training.run import TrainingRun


class PlainDamsm:
    """Pretraining of a run in float32: the trunk looks at every picture of every step, in training mode."""

    def __init__(self, run: DamsmRun):
        self.run = run
        lay_out_as_usual_(run)
        (self.optimizer,) = plain_adams(run)

    def step(self, batch: Batch) -> dict[str, float]:
        """Take one step and return its losses."""
        run, settings = self.run, self.run.config.damsm
        torch.manual_seed(seeding.seed_for(run.config.seed, "damsm step", run.step))
        run.text_encoder.train()
        run.image_encoder.train()
        images = run.image_encoder(add_noise(batch.images[-1], run.config.image_encoder.noise, distributed.randn_like))
        captions = read_captions(run.text_encoder, batch)
        losses = damsm_losses(images, captions, batch, **settings.gammas)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(run.text_encoder.parameters(), settings.max_text_gradient_norm)
        self.optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}


class PlainGan:
    """Adversarial training of a run in float32."""

    def __init__(self, run: GanRun):
        self.run = run
        lay_out_as_usual_(run)
        self.generator_optimizer, *self.discriminator_optimizers = plain_adams(run)
        run.discriminators.requires_grad_(True)

    def step(self, batch: Batch) -> dict[str, float]:
        """Take one step and return its losses."""
        run = self.run
        torch.manual_seed(seeding.seed_for(run.seed, "gan step", run.step))
        with torch.no_grad():
            captions = read_captions(run.text_encoder, batch)
        sizes = run.generator.noise_dim, run.generator.condition_dim
        noise, epsilon = (torch.randn(len(batch.lengths), size, device=run.device) for size in sizes)
        with enlarging_before_convolving():
            generated = run.generator(noise, captions[1], captions[0], batch.is_padding, epsilon=epsilon)

        total = 0.0
        for index, discriminator in enumerate(run.discriminators):
            with cached():  # spectral norm is not the paper's
                loss = discriminator_loss(discriminator, batch.images[index], generated.images[index], captions[1])
            self.discriminator_optimizers[index].zero_grad()
            loss.backward()
            self.discriminator_optimizers[index].step()
            total += loss.item()
        projected = (
            {} if run.projected is None else {"projected": self._update_projected(batch, generated, captions[1])}
        )

        losses = self._generator_losses(batch, generated, captions)
        self.generator_optimizer.zero_grad()
        losses["generator"].backward()
        self.generator_optimizer.step()
        self._update_average()
        return {"discriminator": total, **projected, **{name: loss.item() for name, loss in losses.items()}}

    def _update_projected(self, batch: Batch, generated, sentence: Tensor) -> float:
        """Take a step of the discriminator on a frozen network, which the paper does not have; return its loss."""
        if not self.run.projects_now:
            return 0.0
        projected, adam = self.run.projected.requires_grad_(True), self.discriminator_optimizers[-1]
        real, drawn = batch.images[-1], generated.images[-1].detach()
        with cached():
            pairs = projected(real, sentence)[1], projected(drawn, sentence)[1], projected(real[:-1], sentence[1:])[1]
        loss = loss_as_real(pairs[0]) + (loss_as_generated(pairs[1]) + loss_as_generated(pairs[2])) / 2
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item() * self.run.config.discriminator.projected.every_steps

    def _generator_losses(self, batch: Batch, generated, captions: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        run, settings = self.run, self.run.config.training
        with cached():
            adversarial = sum(
                generator_loss(discriminator, images, captions[1])
                for discriminator, images in zip(run.discriminators, generated.images, strict=True)
            )
            if run.projects_now:
                part = run.config.discriminator.projected
                loss = loss_as_real(run.projected(generated.images[-1], captions[1])[1])
                adversarial = adversarial + part.weight * part.every_steps * loss
        seen = run.image_encoder(
            add_noise(generated.images[-1], run.config.image_encoder.noise, distributed.randn_like)
        )
        matching = damsm_losses(seen, captions, batch, **run.config.damsm.gammas)
        kl = kl_loss(generated.mean, generated.log_variance)
        total = adversarial + settings.damsm_weight * sum(matching.values()) + settings.kl_weight * kl
        return {"generator": total, "adversarial": adversarial, "kl": kl, **matching}

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = self.run.config.training.ema_decay
        theirs = self.run.generator.state_dict()
        for name, own in self.run.generator_ema.state_dict().items():
            if own.is_floating_point():
                own.mul_(decay).add_(theirs[name], alpha=1 - decay)
            else:
                own.copy_(theirs[name])


def read_captions(encoder: TextEncoder, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return features of words and sentences from packed captions, on every device."""
    states, last = read_packed(encoder.lstm, encoder.dropout(encoder.embedding(batch.word_ids)), batch.lengths)
    return states.transpose(1, 2), last


def discriminator_loss(discriminator: Discriminator, real: Tensor, generated: Tensor, sentences: Tensor) -> Tensor:
    """Return the loss of Eq. 5, from a pass for each kind of picture and of pair."""
    real_features, generated_features = discriminator.features(real), discriminator.features(generated.detach())
    matching = loss_as_real(discriminator.judge_pair(real_features, sentences))
    unfit = loss_as_generated(discriminator.judge_pair(generated_features, sentences))
    wrong = loss_as_generated(discriminator.judge_pair(real_features[:-1], sentences[1:]))
    alone = loss_as_real(discriminator.judge(real_features)), loss_as_generated(discriminator.judge(generated_features))
    return (alone[0] + matching) / 2 + (alone[1] + unfit + wrong) / 3


def damsm_losses(
    images: tuple[Tensor, Tensor],
    captions: tuple[Tensor, Tensor],
    batch: Batch,
    *,
    gamma1: float,
    gamma2: float,
    gamma3: float,
) -> dict[str, Tensor]:
    """Return the four parts of the DAMSM loss by name, as `attngan.losses.damsm.damsm_losses` does."""
    scores = as_written.word_scores(images[0], captions[0], batch.lengths.tolist(), gamma1=gamma1, gamma2=gamma2)
    words = matching_loss(gamma3 * scores, batch.class_ids)
    sentence = sentence_loss(images[1], captions[1], batch.class_ids, gamma3=gamma3)
    return dict(zip(DAMSM_LOSSES, (*words, *sentence), strict=True))


def lay_out_as_usual_(run: TrainingRun) -> None:
    """Give the weights of a run's networks torch's usual layout."""
    for network in (*run.networks().values(), run.image_encoder):
        network.to(memory_format=torch.contiguous_format)


def plain_adams(run: TrainingRun) -> list[torch.optim.Adam]:
    """Return Adam as it comes for each of a run's optimizers, at the rate of its first step."""
    run.set_learning_rates()
    groups = [optimizer.param_groups[0] for optimizer in run.optimizers().values()]
    same = ("lr", "betas", "capturable")
    return [torch.optim.Adam(group["params"], **{name: group[name] for name in same}) for group in groups]


@contextlib.contextmanager
def reading_packed_captions() -> Iterator[None]:
    """Let text encoders read packed sequences inside the block, on a CPU too."""
    ours = text_encoder.read_turned
    text_encoder.read_turned = text_encoder.read_packed
    try:
        yield
    finally:
        text_encoder.read_turned = ours


@contextlib.contextmanager
def enlarging_before_convolving() -> Iterator[None]:
    """Let generators inside the block enlarge features before they convolve them."""
    ours = layers.MIN_SIDE_TO_MERGE
    layers.MIN_SIDE_TO_MERGE = 2**31  # no side is as long
    try:
        yield
    finally:
        layers.MIN_SIDE_TO_MERGE = ours
