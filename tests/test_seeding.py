"""Random states as functions of seed and purpose."""

import torch

from attngan.seeding import rng_for, seed_for


def test_the_same_purpose_draws_the_same_numbers_and_another_purpose_others():
    first, again, other = (torch.rand(4, generator=rng_for(7, "noise", step)).tolist() for step in (12, 12, 13))
    assert first == again != other


def test_seeds_are_told_apart_by_every_part_of_their_purpose():
    seeds = {seed_for(0, "a", 1), seed_for(1, "a", 1), seed_for(0, "b", 1), seed_for(0, "a", 2), seed_for(0, "a", "1")}
    assert len(seeds) == 5 and all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_in_every_version():
    assert seed_for(0, "noise", 1) == 1413489107338554685
