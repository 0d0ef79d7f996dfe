"""Pictures moved at random before a discriminator sees them: where each pixel goes, and its gradient with it."""

import torch

from attngan.losses.augmentation import translated


def test_a_picture_is_moved_down_and_to_the_right_and_leaves_grey_behind():
    picture = torch.arange(1.0, 13).reshape(1, 1, 3, 4)
    moved = translated(picture, torch.tensor([[1, 2]]))
    assert moved[0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 5, 6]]


def test_each_picture_moves_its_own_way_in_all_channels():
    pictures = torch.arange(1.0, 9).reshape(2, 2, 1, 2)
    moved = translated(pictures, torch.tensor([[0, -1], [0, 1]]))
    assert moved.tolist() == [[[[2, 0]], [[4, 0]]], [[[0, 5]], [[0, 7]]]]


def test_where_nothing_moves_the_picture_is_the_same_to_the_bit():
    pictures = torch.randn(3, 3, 8, 8)
    assert torch.equal(translated(pictures, torch.zeros(3, 2, dtype=torch.int64)), pictures)


def test_moved_beyond_its_side_nothing_is_left():
    assert not translated(torch.ones(1, 3, 8, 8), torch.tensor([[8, 0]])).any()


def test_the_gradient_goes_back_to_where_each_pixel_came_from():
    pictures = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    shifts = torch.tensor([[1, -2], [-3, 0]])
    assert torch.autograd.gradcheck(lambda images: translated(images, shifts), [pictures])
