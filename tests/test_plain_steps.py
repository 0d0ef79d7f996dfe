"""Our steps give the losses and weights of the paper's, which do one thing after the other; to float64's rounding."""

import pytest
import torch
from two_processes import in_float64

from attngan import gan_step, pretrain_damsm, train_generator
from attngan.damsm_run import DamsmRun
from attngan.data.dataset import Dataset
from attngan.gan_run import GanRun
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


@pytest.mark.parametrize("spectral_norm", [False, True], ids=["batch norm", "spectral norm"])
def test_steps_of_the_adversarial_training_are_the_plain_ones(dataset, damsm, smoke, spectral_norm):
    discriminator = smoke.discriminator.model_copy(update={"spectral_norm": spectral_norm})
    config = smoke.model_copy(update={"discriminator": discriminator})
    train = Dataset.open(dataset, "train")
    with in_float64():
        ours, plain = (GanRun(config, train, damsm, CPU) for _ in range(2))
        plain_gan = PlainGan(plain)
        for step in range(3):
            ours.step = plain.step = step
            found = gan_step.training_step(ours, in_double(train_generator.batch_for(ours, train, step, 0)))
            expected = plain_gan.step(in_double(train_generator.batch_for(plain, train, step, 0)))
            assert {name: found[name].item() for name in expected} == pytest.approx(expected, rel=1e-9)
            assert_same_weights(ours, plain, **EXACT)


def test_steps_of_the_encoders_are_the_plain_ones(dataset, smoke):
    train = Dataset.open(dataset, "train")
    with in_float64():
        ours, plain = (DamsmRun(smoke, train, CPU, None) for _ in range(2))
        ours.set_learning_rates()
        plain_damsm = PlainDamsm(plain)
        for step in range(3):
            ours.step = plain.step = step
            ours.loss_sums.zero_()
            pretrain_damsm.training_step(ours, in_double(pretrain_damsm.batch_for(ours, train, step, 0)))
            expected = plain_damsm.step(in_double(pretrain_damsm.batch_for(plain, train, step, 0)))
            assert ours.loss_sums.tolist() == pytest.approx(list(expected.values()), rel=1e-9)
            assert_same_weights(ours, plain, **EXACT)


def test_over_200_steps_on_drawn_birds_the_losses_stay_the_plain_ones(dataset, damsm, smoke):
    """In float64: in float32 two orders of adding are two trainings after some dozens of steps, equally right."""
    train = Dataset.open(dataset, "train")
    with in_float64():
        ours, plain = (GanRun(smoke, train, damsm, CPU) for _ in range(2))
        plain_gan = PlainGan(plain)
        for step in range(NUM_STEPS):
            ours.step = plain.step = step
            found = gan_step.training_step(ours, in_double(train_generator.batch_for(ours, train, step, 0)))
            expected = plain_gan.step(in_double(train_generator.batch_for(plain, train, step, 0)))
            assert {name: found[name].item() for name in expected} == pytest.approx(expected, rel=1e-6)
