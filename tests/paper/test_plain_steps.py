"""Our steps give the losses and weights of the paper's, which do one thing after the other; to float64's rounding."""

import contextlib
import copy

import pytest
import torch
from frozen_network import projects
from two_processes import in_float64

from attngan.data.dataset import Dataset
from attngan.training import damsm_step, gan_step
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun
from benchmarks import switch_cases
from benchmarks.plain import PlainDamsm, PlainGan

CPU = torch.device("cpu")
EXACT = {"rtol": 1e-8, "atol": 1e-11}
NUM_STEPS = 200


def in_double(batch):
    batch.images[:] = [images.double() for images in batch.images]
    return batch


def assert_same_weights(ours, plain, **tolerance):
    for name, network in ours.networks().items():
        torch.testing.assert_close(network.state_dict(), plain.networks()[name].state_dict(), **tolerance)


def gan_steps(config, dataset, damsm, count):
    """Take steps in both ways, and give ours, the plain run, and the losses of each."""
    train = Dataset.open(dataset, "train")
    ours, plain = (GanRun(config, train, damsm, CPU) for _ in range(2))
    plain_gan = PlainGan(plain)
    for step in range(count):
        ours.step = plain.step = step
        found = gan_step.training_step(ours, in_double(gan_step.batch_for(ours, train, step, 0)))
        expected = plain_gan.step(in_double(gan_step.batch_for(plain, train, step, 0)))
        yield ours, plain, {name: found[name].item() for name in expected}, expected


def encoder_steps(config, dataset, count):
    """The same for the encoders."""
    train = Dataset.open(dataset, "train")
    ours, plain = (DamsmRun(config, train, CPU, None) for _ in range(2))
    ours.set_learning_rates()
    plain_damsm = PlainDamsm(plain)
    for step in range(count):
        ours.step = plain.step = step
        ours.loss_sums.zero_()
        damsm_step.training_step(ours, in_double(damsm_step.batch_for(ours, train, step, 0)))
        expected = plain_damsm.step(in_double(damsm_step.batch_for(plain, train, step, 0)))
        yield ours, plain, ours.loss_sums.tolist(), list(expected.values())


@pytest.mark.parametrize("spectral_norm", [False, True], ids=["batch norm", "spectral norm"])
def test_steps_of_the_adversarial_training_are_the_plain_ones(dataset, damsm, smoke, spectral_norm):
    discriminator = smoke.discriminator.model_copy(update={"spectral_norm": spectral_norm})
    config = smoke.model_copy(update={"discriminator": discriminator})
    with in_float64():
        for ours, plain, found, expected in gan_steps(config, dataset, damsm, 3):
            assert found == pytest.approx(expected, rel=1e-9)
            assert_same_weights(ours, plain, **EXACT)


def test_steps_with_a_projected_discriminator_are_the_plain_ones(dataset, damsm, smoke, efficientnet_file):
    config = projects(smoke, efficientnet_file, weight=0.5, every_steps=2)
    with in_float64():
        for ours, plain, found, expected in gan_steps(config, dataset, damsm, 3):
            assert found == pytest.approx(expected, rel=1e-9)
            assert (found["projected"] > 0) == (ours.step in (0, 2))
            assert_same_weights(ours, plain, **EXACT)


def test_steps_of_the_encoders_are_the_plain_ones(dataset, smoke):
    with in_float64():
        for ours, plain, found, expected in encoder_steps(smoke, dataset, 3):
            assert found == pytest.approx(expected, rel=1e-9)
            assert_same_weights(ours, plain, **EXACT)


@pytest.mark.parametrize("name", switch_cases.LESS)
def test_in_float32_a_step_is_the_same_without_an_optimization(name, dataset, damsm, smoke):
    """Losses to 1e-4; what Adam moved, to 1 % of it: a gradient near 0 goes either way by rounding."""
    discriminator = smoke.discriminator.model_copy(update={"spectral_norm": name == "all pictures at once"})
    config = smoke.model_copy(update={"discriminator": discriminator, "precision": "float32"})
    train = Dataset.open(dataset, "train")
    ours, less = (GanRun(config, train, damsm, CPU) for _ in range(2))
    before = {part: copy.deepcopy(network.state_dict()) for part, network in ours.networks().items()}
    context = switch_cases.LESS[name](less) or contextlib.nullcontext
    found = gan_step.training_step(ours, gan_step.batch_for(ours, train, 0, 0))
    with context():
        expected = gan_step.training_step(less, gan_step.batch_for(less, train, 0, 0))
    for loss, value in expected.items():
        assert found[loss].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-5), loss
    for part, network in ours.networks().items():
        theirs, start = less.networks()[part].state_dict(), before[part]
        moved = [(tensor - start[key]).float() for key, tensor in network.state_dict().items()]
        apart = [(tensor - theirs[key]).float() for key, tensor in network.state_dict().items()]
        assert norm(moved) > 0 and norm(apart) <= 0.01 * norm(moved), part


def norm(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


@pytest.mark.slow
def test_over_200_steps_on_drawn_birds_the_encoders_losses_stay_the_plain_ones(dataset, smoke):
    with in_float64():
        for _, _, found, expected in encoder_steps(smoke, dataset, NUM_STEPS):
            assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_over_200_steps_on_drawn_birds_the_losses_stay_the_plain_ones(dataset, damsm, smoke):
    """In float64: in float32 two orders of adding are two trainings after some dozens of steps, equally right."""
    with in_float64():
        for _, _, found, expected in gan_steps(smoke, dataset, damsm, NUM_STEPS):
            assert found == pytest.approx(expected, rel=1e-6)
