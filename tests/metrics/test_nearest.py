"""Nearest pictures: copies of training pictures are found, other pictures are not; and what is like no other."""

import torch

from attngan.metrics.distribution import Rows
from attngan.metrics.nearest import farthest, near_copies, nearest


def test_the_nearest_is_found_across_chunks():
    rng = torch.Generator().manual_seed(0)
    rows, others = torch.randn(1300, 5, generator=rng), torch.randn(2400, 5, generator=rng)
    distances, which = nearest(Rows(rows), Rows(others))
    whole = torch.cdist(rows, others)
    assert torch.allclose(distances, whole.min(dim=1).values, atol=1e-4)
    assert torch.equal(which, whole.argmin(dim=1))


def test_a_generator_that_copies_is_told_from_one_that_does_not():
    rng = torch.Generator().manual_seed(0)
    train, held_out, fresh = (torch.randn(500, 8, generator=rng) for _ in range(3))
    normal = nearest(Rows(held_out), Rows(train))[0]
    copies = train[:200] + 0.01 * torch.randn(200, 8, generator=rng)
    assert near_copies(nearest(Rows(copies), Rows(train))[0], normal).all()
    assert near_copies(nearest(Rows(fresh), Rows(train))[0], normal).float().mean() < 0.04


def test_the_farthest_are_those_that_no_other_is_near_to_with_the_place_of_the_nearest():
    train, test = torch.tensor([1.0, 9.0, 5.0, 0.0]), torch.tensor([8.0, 3.0, 7.0, 0.0])
    assert farthest([train, test], 2) == [(2, 0), (1, 1)]
    assert farthest([train, test], 9) == [(2, 0), (1, 1), (0, 0), (3, 0)]
