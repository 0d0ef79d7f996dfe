import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from attngan.data import transforms
from attngan.data.transforms import cut_squares, gather_squares, pyramid


def picture(height: int, width: int) -> np.ndarray:
    """Red is the row, green the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def packed(pictures: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """All bytes one after another, and (B, 3): offset, height and width of each picture."""
    offsets = np.cumsum([0, *(each.size for each in pictures)])[:-1]
    index = [(offset, *each.shape[:2]) for offset, each in zip(offsets.tolist(), pictures, strict=True)]
    return torch.from_numpy(np.concatenate([each.ravel() for each in pictures])), torch.tensor(index)


def none_of(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.bool)


def test_the_place_moves_the_square_from_one_corner_to_the_other():
    places = torch.tensor([[0.0, 0.0], [0.999, 0.999], [0.5, 0.0]], dtype=torch.float64)
    pixels = cut_squares(*packed([picture(10, 14)] * 3), places, 8, none_of(3))
    assert pixels.shape == (3, 3, 8, 8)
    assert pixels[0, :, 0, 0].tolist() == [0, 0, 0]
    assert pixels[1, :, 0, 0].tolist() == [2, 6, 0]
    assert pixels[1, :, -1, -1].tolist() == [9, 13, 0]
    assert pixels[2, :, 0, 0].tolist() == [1, 0, 0]


def test_every_offset_is_equally_likely():
    places = torch.rand(6000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pixels = cut_squares(*packed([picture(10, 8)] * 6000), places, 8, none_of(6000))
    counts = torch.bincount(pixels[:, 0, 0, 0].long())
    assert len(counts) == 3
    assert (counts - 2000).abs().max() < 150  # four standard deviations


def test_a_batch_of_which_no_picture_is_wanted_is_not_resized(monkeypatch):
    """CUDA cannot start a kernel for no picture."""
    monkeypatch.setattr(transforms.functional, "interpolate", None)
    found = pyramid(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), [4, 8])
    assert [each.shape for each in found] == [(0, 3, 4, 4), (0, 3, 8, 8)]


def test_only_the_chosen_pictures_are_mirrored():
    pictures, places = packed([picture(4, 5)] * 2), torch.tensor([[0.0, 0.3]] * 2)
    pixels = cut_squares(*pictures, places, 4, torch.tensor([True, False]))
    assert pixels[0, 1, 0].tolist() == [3, 2, 1, 0]
    assert torch.equal(pixels[1], cut_squares(*pictures, places, 4, none_of(2))[1])
    assert torch.equal(pixels[0].flip(-1), pixels[1])


@pytest.mark.parametrize("side", [1, 7, 8])
def test_gathered_squares_are_the_cut_ones_byte_for_byte(side):
    dice = np.random.default_rng(side)
    shapes = [(8, 8), (8, 13), (21, 8), (10, 9), (31, 40)]
    pixels, index = packed([dice.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes])
    chosen = index[torch.from_numpy(dice.integers(0, len(shapes), 500))]
    places = torch.from_numpy(dice.choice([0.0, 1 - 2**-53, *dice.random(20)], (500, 2)))
    is_flipped = torch.from_numpy(dice.random(500) < 0.5)
    gathered = gather_squares(pixels, chosen, places, side, is_flipped)
    assert torch.equal(gathered, cut_squares(pixels, chosen, places, side, is_flipped))
    assert gathered.is_contiguous(memory_format=torch.channels_last)


def test_pictures_beyond_two_gibibytes_are_found_where_they_lie():
    offset, shape = 2**31 + 1, (5, 6, 3)
    pixels = torch.from_numpy(np.empty(offset + 90, dtype=np.uint8))  # the system backs only those that are written
    pixels[offset:] = torch.arange(90)
    index, places = torch.tensor([[offset, *shape[:2]]]), torch.tensor([[0.5, 0.5]])
    expected = torch.arange(90).reshape(shape)[1:5, 1:5].permute(2, 0, 1)
    for squares in (cut_squares, gather_squares):
        assert torch.equal(squares(pixels, index, places, 4, none_of(1))[0].long(), expected)


def test_gathering_reads_nothing_back_from_the_device():
    index, places = torch.tensor([[0, 9, 9]] * 2), torch.tensor([[0.5, 0.5]] * 2)
    pixels = torch.empty(243, dtype=torch.uint8, device="meta")  # whose numbers cannot be read at all
    assert gather_squares(pixels, index, places, 8, none_of(2)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_byte_becomes_its_number_between_minus_one_and_one(layout):
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    (images,) = pyramid(pixels.contiguous(memory_format=layout), [16])
    assert torch.equal(images, pixels.float().div(127.5).sub(1))
    assert (images.min(), images.max()) == (-1, 1)
    assert images.is_contiguous(memory_format=layout)


def test_each_level_is_the_finest_one_resized_with_antialiasing_to_whole_numbers():
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    levels = pyramid(pixels, [8, 16, 32])
    torch.testing.assert_close(levels[2], pixels / 127.5 - 1)
    for images, side in zip(levels, (8, 16), strict=False):
        exact = functional.interpolate(pixels.float(), size=side, mode="bilinear", antialias=True, align_corners=False)
        found = (images + 1) * 127.5
        assert (found - exact).abs().max() < 1.01  # torch resizes bytes in two passes, each rounded
        torch.testing.assert_close(found, found.round(), rtol=0, atol=1e-3)


def test_each_level_is_the_one_that_pillow_makes():
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    picture = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    (images,) = pyramid(pixels, [16])
    theirs = torch.from_numpy(np.array(picture.resize((16, 16), Image.Resampling.BILINEAR))).permute(2, 0, 1)
    assert ((images[0] + 1) * 127.5 - theirs).abs().max() < 1.01


def test_fine_stripes_become_even_grey_in_the_coarse_picture():
    stripes = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    stripes[..., ::2] = 255
    (coarse,) = pyramid(stripes, [8])
    assert coarse[..., 1:-1].abs().max() < 0.02
