"""The discriminator on a frozen network: what it looks at, what it learns, and what it never changes."""

import copy

import frozen_network
import pytest
import torch
from frozen_network import coloured

from attngan.models.efficientnet_lite import EfficientNetLite0
from attngan.models.projected_discriminator import ProjectedDiscriminator


@pytest.fixture(scope="module")
def frozen() -> EfficientNetLite0:
    return frozen_network.random_network().fuse_()


def made(frozen: EfficientNetLite0, *, resolution: int = 32, channels: int = 6) -> ProjectedDiscriminator:
    torch.manual_seed(1)
    return ProjectedDiscriminator(frozen, resolution=resolution, channels=channels)


@pytest.mark.parametrize("resolution", [16, 32, 48, 64, 128, 256])
def test_there_is_a_logit_for_each_stride_at_any_resolution_and_all_depend_on_the_picture(resolution, frozen):
    """Below 32 pixels too, where the coarsest features are a single one."""
    discriminator = made(frozen, resolution=resolution)
    with torch.no_grad():
        logits = discriminator(coloured(2, resolution))
    assert logits.shape == (2, 4) and logits.isfinite().all()
    assert (logits[0] != logits[1]).all()


def test_a_picture_of_another_side_makes_no_logit(frozen):
    with pytest.raises(RuntimeError):
        made(frozen, resolution=64)(coloured(1, 16))


@pytest.mark.parametrize(("resolution", "convolutions"), [(16, [2] * 4), (32, [2] * 4), (256, [5, 4, 3, 2])])
def test_a_head_halves_its_features_until_they_are_small(resolution, convolutions, frozen):
    heads = made(frozen, resolution=resolution).heads
    assert [sum(isinstance(layer, torch.nn.Conv2d) for layer in head) for head in heads] == convolutions


def test_coarse_features_reach_every_finer_head_and_fine_ones_no_coarser(frozen, monkeypatch):
    discriminator = made(frozen)
    seen = [stage.detach().requires_grad_() for stage in frozen.stages(coloured(1, 32))]
    monkeypatch.setattr(discriminator, "look", lambda images: seen)
    logits = discriminator(coloured(1, 32))[0]
    for head, logit in enumerate(logits):
        gradients = torch.autograd.grad(logit, seen, retain_graph=True, allow_unused=True)
        reached = [gradient is not None and bool((gradient != 0).any()) for gradient in gradients]
        assert reached == [stride >= head for stride in range(4)]


def test_its_state_holds_what_is_random_and_what_it_learns_and_not_the_frozen_network(frozen):
    discriminator = made(frozen)
    assert {name.partition(".")[0] for name in discriminator.state_dict()} == {"mix_channels", "mix_scales", "heads"}
    other = made(frozen_network.random_network().fuse_())
    other.load_state_dict(discriminator.state_dict())
    for each in (discriminator, other):
        each.eval()  # else spectral norms go on
    assert torch.equal(other(coloured(2, 32)), discriminator(coloured(2, 32)))


def test_only_the_heads_learn(frozen):
    discriminator = made(frozen)
    before, network = copy.deepcopy(discriminator), copy.deepcopy(frozen.state_dict())
    adam = torch.optim.Adam(discriminator.parameters())
    for _ in range(2):
        adam.zero_grad()
        discriminator.train()(coloured(2, 32)).sum().backward()
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
        assert asked == {"mix_channels": False, "mix_scales": False, "heads": learns}


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_where_it_does_not_learn_gradients_reach_every_pixel(resolution, frozen):
    discriminator, images = made(frozen, resolution=resolution).requires_grad_(False), coloured(2, resolution)
    discriminator(images.requires_grad_()).sum().backward()
    assert images.grad.isfinite().all() and (images.grad != 0).float().mean() > 0.99
    assert all(each.grad is None for each in (*discriminator.parameters(), *frozen.parameters()))
