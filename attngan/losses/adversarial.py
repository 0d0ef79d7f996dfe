"""Losses of the adversarial game on logits (Eq. 4 to 6, as weighed in the released code), and the KL of F_ca."""

import torch
from torch import Tensor
from torch.nn import functional

from attngan.models.discriminator import ConditionalDiscriminator
from attngan.models.layers import at_least_float32


def loss_as_real(logits: Tensor) -> Tensor:
    """Return the mean cross entropy of calling these real: softplus(-logit)."""
    return functional.softplus(-at_least_float32(logits)).mean()


def loss_as_generated(logits: Tensor) -> Tensor:
    """Return the mean cross entropy of calling these generated: softplus(logit)."""
    return functional.softplus(at_least_float32(logits)).mean()


def discriminator_loss(
    discriminator: ConditionalDiscriminator,
    real_images: Tensor,
    generated_images: Tensor,
    sentence_feature: Tensor,
    wrong_sentence_feature: Tensor | None = None,
    wrong_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return what one discriminator has to lower (Eq. 5), and what it thinks.

    (real + conditional real) / 2 + (generated + conditional generated + conditional wrong) / 3, where a wrong pair is
    image i with sentence i + 1 (B - 1 of them). A discriminator without its unconditional output has
    conditional real + (conditional generated + conditional wrong) / 2. Where there are batch norms, real and generated
    pictures pass in separate batches, so each batch norm sees one kind at a time.

    Args:
        discriminator: of the pictures' resolution.
        real_images: (B, 3, H, W) in [-1, 1].
        generated_images: (B, 3, H, W); no gradient goes back into them.
        sentence_feature: (B, D).
        wrong_sentence_feature: (W, D), the sentences of the wrong pairs with the first W real images, where these B
            are a part of a batch; None: they are the batch, and the sentences are those of the images 1 to B - 1.
        wrong_weight: of the wrong pairs' mean, where parts of a batch have different numbers of them.

    Returns:
        The loss; and (3,), without gradients: the mean probability that it gives to real pictures, to generated ones
        (each by itself, if it judges that, and with its sentence), and to real ones with a wrong sentence.
    """
    wrong = sentence_feature[1:] if wrong_sentence_feature is None else wrong_sentence_feature
    real, generated = discriminator.each(discriminator.features, (real_images,), (generated_images.detach(),))
    has_unconditional = discriminator.unconditional is not None
    alone = [discriminator.each(discriminator.judge, (real,), (generated,))] if has_unconditional else []
    given = [(real, sentence_feature), (generated, sentence_feature), (real[: len(wrong)], wrong)]
    pairs = discriminator.each(discriminator.judge_pair, *(given if len(wrong) else given[:2]))
    wrong_loss = wrong_probability = at_least_float32(pairs[0].new_zeros(()))
    if len(wrong):
        wrong_loss = wrong_weight * loss_as_generated(pairs[2])
        wrong_probability = wrong_weight * _probability(pairs[2])
    of_real, of_generated = zip(*alone, pairs[:2], strict=True)
    loss = sum(map(loss_as_real, of_real)) / len(of_real)
    loss = loss + (sum(map(loss_as_generated, of_generated)) + wrong_loss) / (len(of_generated) + 1)
    return loss, torch.stack([_probability(*of_real), _probability(*of_generated), wrong_probability])


def _probability(*logits: Tensor) -> Tensor:
    """Return the mean probability that logits (B, ...) say, without gradients."""
    return at_least_float32(torch.stack(logits)).detach().sigmoid().mean()


def generator_loss(
    discriminator: ConditionalDiscriminator, generated_images: Tensor, sentence_feature: Tensor
) -> Tensor:
    """Return what the generator has to lower against one discriminator: unconditional plus conditional (Eq. 4).

    Of a discriminator without its unconditional output it is the conditional loss alone.
    """
    unconditional, conditional = discriminator(generated_images, sentence_feature)
    return (
        loss_as_real(conditional) if unconditional is None else loss_as_real(unconditional) + loss_as_real(conditional)
    )


def kl_loss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of N(mean, variance) from N(0, 1), a mean over batch and dimensions (both (B, A))."""
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()
