"""The game's losses: known values, what they leave alone, and the divergence in closed form."""

import math

import pytest
import torch
from torch.nn.utils import parametrize

from attngan.losses.adversarial import (
    discriminator_loss,
    generator_loss,
    kl_loss,
    loss_as_generated,
    loss_as_real,
)
from attngan.models.discriminator import ConditionalDiscriminator, Discriminator
from attngan.models.efficientnet_lite import EfficientNetLite0
from attngan.models.projected_discriminator import ProjectedDiscriminator


def undecided(resolution: int = 16, *, unconditional: bool = True) -> Discriminator:
    """A discriminator whose every logit is 0."""
    discriminator = Discriminator(resolution=resolution, text_dim=6, channels=4, unconditional=unconditional)
    for head in filter(None, (discriminator.unconditional, discriminator.conditional)):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    return discriminator


def test_losses_on_logits_are_those_on_probabilities():
    logits = torch.tensor([-3.0, 0.0, 2.0])
    torch.testing.assert_close(loss_as_real(logits), -logits.sigmoid().log().mean())
    torch.testing.assert_close(loss_as_generated(logits), -(1 - logits.sigmoid()).log().mean())


def test_losses_stay_finite_where_a_probability_would_underflow():
    assert loss_as_real(torch.tensor([-200.0])).item() == 200.0


@pytest.mark.parametrize("unconditional", [True, False])
def test_an_undecided_discriminator_has_two_log_two_to_lower(unconditional):
    real, drawn, sentences = torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16), torch.randn(4, 6)
    loss, opinions = discriminator_loss(undecided(unconditional=unconditional), real, drawn, sentences)
    torch.testing.assert_close(loss, torch.tensor(2 * math.log(2)))
    assert opinions.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(("unconditional", "outputs"), [(True, 2), (False, 1)])
def test_against_an_undecided_discriminator_the_generator_has_log_two_an_output_to_lower(unconditional, outputs):
    loss = generator_loss(undecided(unconditional=unconditional), torch.randn(4, 3, 16, 16), torch.randn(4, 6))
    torch.testing.assert_close(loss, torch.tensor(outputs * math.log(2)))


def test_without_the_unconditional_output_real_pairs_count_as_much_as_drawn_and_wrong_ones():
    """Logits are 1 for real pairs, -1 for drawn ones, 3 for wrong ones."""
    discriminator = undecided(unconditional=False).eval()
    discriminator.features = lambda images: images[:, :1, :4, :4].expand(-1, 8, -1, -1)
    discriminator.judge_pair = lambda features, sentence: features.mean(dim=(1, 2, 3)) + sentence.mean(dim=1)
    white, sentences, wrong = torch.ones(4, 3, 16, 16), torch.zeros(4, 6), torch.full((3, 6), 2.0)
    loss, opinions = discriminator_loss(discriminator, white, -white, sentences, wrong)
    real, drawn, mismatched = torch.tensor([1.0, -1.0, 3.0]).sigmoid()
    torch.testing.assert_close(loss, -real.log() - ((1 - drawn).log() + (1 - mismatched).log()) / 2)
    torch.testing.assert_close(opinions, torch.stack([real, drawn, mismatched]))
    torch.testing.assert_close(generator_loss(discriminator, -white, sentences), -drawn.log())


def test_opinions_are_of_real_drawn_and_mismatched_pictures():
    """The conditional output is an even 1/2; the other says 1 of white pictures and 0 of black ones."""
    discriminator = undecided().eval()
    discriminator.judge = lambda features: 200.0 * features.mean(dim=(1, 2, 3)).sign()
    discriminator.features = lambda images: images[:, :1, :4, :4].expand(-1, 8, -1, -1)
    white, black = torch.ones(4, 3, 16, 16), -torch.ones(4, 3, 16, 16)
    assert discriminator_loss(discriminator, white, black, torch.randn(4, 6))[1].tolist() == [0.75, 0.25, 0.5]
    weighed = discriminator_loss(discriminator, white, black, torch.randn(4, 6), torch.randn(2, 6), 0.5)[1]
    assert weighed.tolist() == [0.75, 0.25, 0.25]


def test_one_pair_has_no_wrong_pair_and_does_not_break():
    discriminator = undecided().eval()
    images = torch.randn(1, 3, 16, 16), torch.randn(1, 3, 16, 16)
    loss, _ = discriminator_loss(discriminator, *images, torch.randn(1, 6))
    torch.testing.assert_close(loss, torch.tensor(math.log(2) * (1 + 2 / 3)))
    loss, opinions = discriminator_loss(Judge(), *(torch.full_like(image, 1.0) for image in images), torch.zeros(1, 6))
    assert loss.item() == pytest.approx(cost(-1.0) + cost(1.0) / 2) and opinions[2] == 0


def test_the_discriminators_loss_sends_no_gradient_into_the_pictures():
    generated = torch.randn(3, 3, 16, 16, requires_grad=True)
    discriminator_loss(undecided(), torch.randn(3, 3, 16, 16), generated * 1, torch.randn(3, 6))[0].backward()
    assert generated.grad is None


def test_the_generators_loss_reaches_the_pictures():
    generated = torch.randn(3, 3, 16, 16, requires_grad=True)
    generator_loss(Discriminator(resolution=16, text_dim=6, channels=4), generated, torch.randn(3, 6)).backward()
    assert generated.grad.abs().sum() > 0


class Judge(ConditionalDiscriminator):
    """Four logits a pair, as of a discriminator on a frozen network: multiples of the means of picture and text."""

    unconditional = None

    def features(self, images):
        return images.mean(dim=(1, 2, 3))

    def judge_pair(self, features, sentence_feature):
        logit = features + sentence_feature.mean(dim=1)
        return torch.stack([factor * logit for factor in range(4)], dim=1)


def cost(logit: float) -> float:
    """What a generated pair costs, or a real one of the opposite logit: a mean over the four."""
    return sum(math.log(1 + math.exp(factor * logit)) for factor in range(4)) / 4


def probability(logit: float) -> float:
    """Return the mean of the four."""
    return sum(1 / (1 + math.exp(-factor * logit)) for factor in range(4)) / 4


def test_the_losses_of_several_logits_a_pair_are_means_over_all_of_them():
    real, generated = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), -1.5)
    sentence, wrong = torch.zeros(2, 6), torch.full((1, 6), 2.0)
    loss, opinions = discriminator_loss(Judge(), real, generated, sentence, wrong)
    assert loss.item() == pytest.approx(cost(-0.5) + (cost(-1.5) + cost(2.5)) / 2)
    assert opinions.tolist() == pytest.approx([probability(0.5), probability(-1.5), probability(2.5)])
    assert generator_loss(Judge(), generated, sentence).item() == pytest.approx(cost(1.5))


def test_a_projected_discriminator_of_no_embedding_is_undecided():
    discriminator = ProjectedDiscriminator(EfficientNetLite0(), resolution=32, text_dim=6, channels=2)
    for embed in discriminator.embed:
        parametrize.remove_parametrizations(embed, "weight")
        torch.nn.init.zeros_(embed.weight)
        torch.nn.init.zeros_(embed.bias)
    real, generated, sentence = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), torch.randn(2, 6)
    torch.testing.assert_close(discriminator_loss(discriminator, real, generated, sentence)[0].item(), 2 * math.log(2))
    torch.testing.assert_close(generator_loss(discriminator, generated, sentence).item(), math.log(2))


def test_kl_is_the_divergence_of_two_gaussians():
    mean, log_variance = torch.randn(4, 5), torch.randn(4, 5)
    ours = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    known = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl_loss(mean, log_variance), known)
