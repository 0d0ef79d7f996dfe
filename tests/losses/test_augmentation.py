"""Pictures moved at random before a discriminator sees them: where each pixel goes, and its gradient with it."""

import numpy
import torch

from attngan.losses.augmentation import translated


def test_a_picture_is_moved_down_and_to_the_right_and_mirrored_where_it_was_not():
    picture = torch.arange(1.0, 13).reshape(1, 1, 3, 4)
    moved = translated(picture, torch.tensor([[1, 2]]))
    assert moved[0, 0].tolist() == [[2, 1, 1, 2], [2, 1, 1, 2], [6, 5, 5, 6]]


def test_it_is_what_padding_by_the_mirrored_edge_and_cutting_gives():
    pictures, shifts = torch.rand(3, 2, 8, 6), torch.tensor([[3, -2], [-4, 3], [0, 1]])
    for picture, (down, right), moved in zip(pictures, shifts.tolist(), translated(pictures, shifts), strict=True):
        padded = numpy.pad(picture.numpy(), ((0, 0), (4, 4), (3, 3)), mode="symmetric")
        assert (moved.numpy() == padded[:, 4 - down : 12 - down, 3 - right : 9 - right]).all()


def test_each_picture_moves_its_own_way_in_all_channels():
    pictures = torch.arange(1.0, 9).reshape(2, 2, 1, 2)
    moved = translated(pictures, torch.tensor([[0, -1], [0, 1]]))
    assert moved.tolist() == [[[[2, 2]], [[4, 4]]], [[[5, 5]], [[7, 7]]]]


def test_where_nothing_moves_the_picture_is_the_same_to_the_bit():
    pictures = torch.randn(3, 3, 8, 8)
    assert torch.equal(translated(pictures, torch.zeros(3, 2, dtype=torch.int64)), pictures)


def test_moved_by_its_side_it_is_its_mirror_image():
    pictures = torch.rand(1, 3, 8, 8)
    assert torch.equal(translated(pictures, torch.tensor([[8, 0]])), pictures.flip(2))


def test_the_gradient_goes_back_to_where_each_pixel_came_from():
    pictures = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    shifts = torch.tensor([[1, -2], [-3, 0]])
    assert torch.autograd.gradcheck(lambda images: translated(images, shifts), [pictures])
