"""What discriminators are shown: pictures moved at random, by the same numbers whenever the step is taken."""

import pytest
import torch

from attngan.data.dataset import Dataset
from attngan.losses import augmentation
from attngan.training import gan_step
from attngan.training.gan_run import GanRun

CPU = torch.device("cpu")


@pytest.fixture
def moving(smoke):
    return smoke.model_copy(update={"discriminator": smoke.discriminator.model_copy(update={"translation": 0.25})})


def weights_after_a_step(config, dataset, damsm):
    train = Dataset.open(dataset, "train")
    run = GanRun(config, train, damsm, CPU)
    gan_step.training_step(run, gan_step.batch_for(run, train, 0, 0))
    return torch.cat([each.flatten() for each in run.discriminators.parameters()]).detach()


def test_every_discriminator_sees_real_and_drawn_pictures_moved_by_up_to_the_share_of_their_side(
    moving, dataset, damsm, monkeypatch
):
    seen = []
    original = augmentation.translated
    monkeypatch.setattr(
        augmentation, "translated", lambda images, shifts: seen.append((images, shifts)) or original(images, shifts)
    )
    weights_after_a_step(moving, dataset, damsm)
    sides = [images.shape[-1] for images, _ in seen]
    assert sorted(sides) == [16, 16, 16, 32, 32, 32]  # real, drawn, and drawn again for the generator's loss
    for (images, shifts), side in zip(seen, sides, strict=True):
        assert shifts.shape == (len(images), 2) and shifts.abs().max() <= side // 4
    assert len({tuple(shifts.flatten().tolist()) for _, shifts in seen}) == len(seen)


def test_a_step_that_is_taken_again_moves_them_by_the_same_numbers(moving, dataset, damsm):
    first = weights_after_a_step(moving, dataset, damsm)
    assert torch.equal(first, weights_after_a_step(moving, dataset, damsm))


def test_without_translation_pictures_are_shown_as_they_are(smoke, moving, dataset, damsm, monkeypatch):
    moved = weights_after_a_step(moving, dataset, damsm)
    monkeypatch.setattr(augmentation, "translated", lambda *_: pytest.fail("moved"))
    assert not torch.equal(moved, weights_after_a_step(smoke, dataset, damsm))
