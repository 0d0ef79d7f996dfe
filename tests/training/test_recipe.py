"""A recipe and a schedule that fit: by pictures, device, and the time there is."""

import re

import pytest
import torch

from attngan.config import settings
from attngan.errors import InputError
from attngan.training import recipe, schedule
from attngan.training.recipe import Costs, Pictures

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
COSTS = Costs(encoders=0.04, validation=0.5, generator=0.07, snapshot=2.0)


def choose(number, side=96, device=CPU, **more):
    return recipe.choose(Pictures(number, side), device, lambda config: COSTS, **more)


@pytest.mark.parametrize(
    ("number", "side", "device", "minutes", "resolutions"),
    [
        (60, 500, CPU, None, [64]),
        (12_000, 500, CPU, 20, [64]),
        (600, 500, CPU, 600, [128]),
        (600, 80, CPU, 600, [64]),
        (60, 500, CUDA, None, [128]),
        (60, 64, CUDA, None, [64]),
        (3_000, 300, CUDA, None, [128]),
        (12_000, 350, CUDA, None, [64, 128, 256]),
        (12_000, 350, CUDA, 20, [128]),
    ],
)
def test_the_recipe_fits_pictures_device_and_time(number, side, device, minutes, resolutions):
    chosen = choose(number, side, device, minutes=minutes)
    assert chosen.config.resolutions == resolutions
    assert len(chosen.reasons) in (5, 6)


def test_few_pictures_get_the_steps_that_many_get_and_are_looked_at_as_often():
    for number in (60, 3_000):
        chosen = choose(number)
        pictures = Pictures(number, 96)
        for of in (schedule.of_encoders, schedule.of_generator):
            found = of(chosen.config, pictures.num_train)
            assert recipe.LOOKS <= found.num_looks <= recipe.LOOKS + 1, of
        assert chosen.config.training.steps >= 4_500 and chosen.config.damsm.steps >= 960


@pytest.mark.parametrize("minutes", [3, 8, 20])
def test_a_schedule_takes_the_time_there_is(minutes):
    chosen = choose(60, minutes=minutes)
    assert sum(chosen.seconds.values()) == pytest.approx(60 * minutes * recipe.RESERVE, rel=0.02)
    assert sum(chosen.seconds.values()) <= 60 * minutes


def test_a_schedule_that_is_too_short_says_how_long_it_should_be():
    chosen = choose(60, minutes=3)
    assert recipe.FEWEST_STEPS <= chosen.config.training.steps < 2_250
    assert chosen.reasons[-1].startswith("this is little: to get recognisable pictures, give it ")


def test_a_time_in_which_nothing_is_learnt_is_refused_with_one_that_is_enough():
    with pytest.raises(InputError, match=r"--minutes 0.5: .*; give it (\d+) minutes at least, \d+ for") as refused:
        choose(60, minutes=0.5)
    enough = int(re.search(r"give it (\d+)", str(refused.value))[1])
    assert choose(60, minutes=enough).config.training.steps >= recipe.FEWEST_STEPS
    assert choose(60, minutes=0.5, overrides=["training.steps=7"]).config.training.steps == 7


def test_hours_that_hardly_help_are_not_taken():
    assert choose(60, minutes=200).config.training.steps == recipe.MOST_TIMES * 4_500


@pytest.mark.parametrize("number", [8, 9, 20, 39])
def test_batches_are_no_larger_than_the_pictures_to_train(number):
    config = choose(number).config
    assert config.damsm.batch_size <= Pictures(number, 96).num_train
    assert config.training.batch_size <= Pictures(number, 96).num_train


def test_a_single_setting_rules_over_what_is_chosen():
    chosen = choose(60, overrides=["training.steps=70", "data.resolution=32"])
    assert (chosen.config.training.steps, chosen.config.data.resolution) == (70, 32)
    assert "generator: 70 steps of 8 pictures" in chosen.reasons[3]


def test_three_pictures_are_too_few():
    with pytest.raises(InputError, match="3 pictures with captions are fewer than the 8 that a training needs"):
        choose(3)


def test_what_is_chosen_is_written_out_and_read_back():
    config = choose(60).config
    assert settings.load(settings.dump(config)) == config
