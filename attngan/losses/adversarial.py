"""Losses of the adversarial game on logits (Eq. 4 to 6, as weighed in the released code), and the KL of F_ca."""

import torch
from torch import Tensor
from torch.nn import functional

from attngan.models.discriminator import Discriminator


def real_loss(logits: Tensor) -> Tensor:
    """Return the mean cross entropy of calling these real: softplus(-logit)."""
    return functional.softplus(-logits).mean()


def fake_loss(logits: Tensor) -> Tensor:
    """Return the mean cross entropy of calling these fake: softplus(logit)."""
    return functional.softplus(logits).mean()


def discriminator_loss(
    discriminator: Discriminator,
    real_images: Tensor,
    fake_images: Tensor,
    sentence_feature: Tensor,
    wrong_sentence_feature: Tensor | None = None,
    wrong_weight: float = 1.0,
) -> Tensor:
    """Return what one discriminator has to lower (Eq. 5).

    (real + conditional real) / 2 + (fake + conditional fake + conditional wrong) / 3, where a wrong pair is image i
    with sentence i + 1 (B - 1 of them). Real and drawn pictures pass in separate batches, so each batch norm sees one
    kind at a time.

    Args:
        discriminator: of the pictures' resolution.
        real_images: (B, 3, H, W) in [-1, 1].
        fake_images: (B, 3, H, W); no gradient goes back into them.
        sentence_feature: (B, D).
        wrong_sentence_feature: (W, D), the sentences of the wrong pairs with the first W real images, where these B
            are a part of a batch; None: they are the batch, and the sentences are those of the images 1 to B - 1.
        wrong_weight: of the wrong pairs' mean, where parts of a batch have different numbers of them.
    """
    wrong = sentence_feature[1:] if wrong_sentence_feature is None else wrong_sentence_feature
    real = discriminator.features(real_images)
    fake = discriminator.features(fake_images.detach())
    real_pair = real_loss(discriminator.judge_pair(real, sentence_feature))
    fake_pair = fake_loss(discriminator.judge_pair(fake, sentence_feature))
    loss = (real_loss(discriminator.judge(real)) + real_pair) / 2
    if len(wrong):
        wrong_pair = wrong_weight * fake_loss(discriminator.judge_pair(real[: len(wrong)], wrong))
    else:
        wrong_pair = torch.zeros_like(fake_pair)
    return loss + (fake_loss(discriminator.judge(fake)) + fake_pair + wrong_pair) / 3


def generator_loss(discriminator: Discriminator, fake_images: Tensor, sentence_feature: Tensor) -> Tensor:
    """Return what the generator has to lower against one discriminator: unconditional plus conditional (Eq. 4)."""
    unconditional, conditional = discriminator(fake_images, sentence_feature)
    return real_loss(unconditional) + real_loss(conditional)


def kl_loss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of N(mean, variance) from N(0, 1), a mean over batch and dimensions (both (B, A))."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()
