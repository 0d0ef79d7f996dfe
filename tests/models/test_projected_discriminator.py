"""The discriminator on a frozen network: what it looks at, what it learns, and what it never changes."""

import copy

import frozen_network
import pytest
import torch
from frozen_network import coloured

from attngan.models.efficientnet_lite import EfficientNetLite0
from attngan.models.projected_discriminator import ProjectedDiscriminator

TEXT_DIM = 5


@pytest.fixture(scope="module")
def frozen() -> EfficientNetLite0:
    return frozen_network.random_network().fuse_()


def made(frozen: EfficientNetLite0, *, resolution: int = 32, channels: int = 6) -> ProjectedDiscriminator:
    torch.manual_seed(1)
    return ProjectedDiscriminator(frozen, resolution=resolution, text_dim=TEXT_DIM, channels=channels)


def logits_of(discriminator: ProjectedDiscriminator, images: torch.Tensor, seed: int = 2) -> torch.Tensor:
    """Return what it says of pictures, each with a sentence of its own."""
    sentence = torch.randn(len(images), TEXT_DIM, generator=torch.Generator().manual_seed(seed))
    return discriminator(images, sentence)[1]


@pytest.mark.parametrize("resolution", [16, 32, 48, 64, 128, 256])
def test_there_is_a_logit_for_each_stride_at_any_resolution_and_all_depend_on_the_picture(resolution, frozen):
    """Below 32 pixels too, where the coarsest features are a single one."""
    discriminator = made(frozen, resolution=resolution)
    with torch.no_grad():
        images = coloured(2, resolution)
        logits = logits_of(discriminator, torch.cat([images[:1], images]))
        again = discriminator(images, torch.ones(2, TEXT_DIM))
    assert logits.shape == (3, 4) and logits.isfinite().all()
    assert (logits[0] != logits[1]).all()  # of other sentences
    assert again[0] is None and (again[1][0] != again[1][1]).all()  # of other pictures


def test_a_picture_of_another_side_makes_no_logit(frozen):
    with pytest.raises(RuntimeError):
        logits_of(made(frozen, resolution=64), coloured(1, 16))


@pytest.mark.parametrize(("resolution", "convolutions"), [(16, [2] * 4), (32, [2] * 4), (256, [5, 4, 3, 2])])
def test_a_head_halves_its_features_until_they_are_small(resolution, convolutions, frozen):
    heads = made(frozen, resolution=resolution).heads
    assert [sum(isinstance(layer, torch.nn.Conv2d) for layer in head) for head in heads] == convolutions


def test_coarse_features_reach_every_finer_head_and_fine_ones_no_coarser(frozen, monkeypatch):
    discriminator = made(frozen)
    seen = [stage.detach().requires_grad_() for stage in frozen.stages(coloured(1, 32))]
    monkeypatch.setattr(discriminator, "frozen_stages", lambda images: seen)
    logits = logits_of(discriminator, coloured(1, 32))[0]
    for head, logit in enumerate(logits):
        gradients = torch.autograd.grad(logit, seen, retain_graph=True, allow_unused=True)
        reached = [gradient is not None and bool((gradient != 0).any()) for gradient in gradients]
        assert reached == [stride >= head for stride in range(4)]


def test_its_state_holds_what_is_random_and_what_it_learns_and_not_the_frozen_network(frozen):
    discriminator = made(frozen)
    assert {name.partition(".")[0] for name in discriminator.state_dict()} == {
        "mix_channels",
        "mix_scales",
        "heads",
        "embed",
    }
    other = made(frozen_network.random_network().fuse_())
    other.load_state_dict(discriminator.state_dict())
    for each in (discriminator, other):
        each.eval()  # else spectral norms go on
    assert torch.equal(logits_of(other, coloured(2, 32)), logits_of(discriminator, coloured(2, 32)))


def test_only_the_heads_and_embeddings_learn(frozen):
    discriminator = made(frozen)
    before, network = copy.deepcopy(discriminator), copy.deepcopy(frozen.state_dict())
    adam = torch.optim.Adam(discriminator.parameters())
    for _ in range(2):
        adam.zero_grad()
        logits_of(discriminator.train(), coloured(2, 32)).sum().backward()
        adam.step()
    for (name, parameter), old in zip(discriminator.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(parameter, old) == name.startswith("mix_"), name
    assert all(torch.equal(tensor, network[name]) for name, tensor in frozen.state_dict().items())
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert not any(module.training for module in frozen.modules())


def test_asked_to_learn_or_not_it_never_lets_what_is_random_learn(frozen):
    discriminator = made(frozen)
    for learns in (False, True):
        assert discriminator.requires_grad_(learns) is discriminator
        asked = {name.partition(".")[0]: each.requires_grad for name, each in discriminator.named_parameters()}
        assert asked == {"mix_channels": False, "mix_scales": False, "heads": learns, "embed": learns}


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_where_it_does_not_learn_gradients_reach_every_pixel(resolution, frozen):
    discriminator, images = made(frozen, resolution=resolution).requires_grad_(False), coloured(2, resolution)
    logits_of(discriminator, images.requires_grad_()).sum().backward()
    assert images.grad.isfinite().all() and (images.grad != 0).float().mean() > 0.99
    assert all(each.grad is None for each in (*discriminator.parameters(), *frozen.parameters()))


def test_of_a_sentence_only_the_direction_counts_and_a_logit_is_affine_in_it(frozen):
    discriminator = made(frozen).eval()
    features, one, other = discriminator.features(coloured(1, 32)), torch.ones(1, TEXT_DIM), torch.eye(TEXT_DIM)[:1]
    logits = discriminator.judge_pair(features, one)
    torch.testing.assert_close(discriminator.judge_pair(features, 7 * one), logits)
    assert not torch.allclose(discriminator.judge_pair(features, other), logits)
    biases = torch.stack([embed.bias for embed in discriminator.embed])
    opposite = discriminator.judge_pair(features, -one)
    torch.testing.assert_close((logits + opposite) / 2, (features[0] * biases).sum(dim=1)[None])
