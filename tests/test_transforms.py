import numpy as np
import torch
from torch.nn import functional

from attngan.data.transforms import cut_squares, flip, pyramid


def picture(height: int, width: int) -> np.ndarray:
    """Red is the row, green the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def test_the_place_moves_the_square_from_one_corner_to_the_other():
    pictures = [picture(10, 14)] * 3
    places = torch.tensor([[0.0, 0.0], [0.999, 0.999], [0.5, 0.0]], dtype=torch.float64)
    pixels = cut_squares(pictures, places, side=8)
    assert pixels.shape == (3, 8, 8, 3)
    assert pixels[0, 0, 0].tolist() == [0, 0, 0]
    assert pixels[1, 0, 0].tolist() == [2, 6, 0]
    assert pixels[1, -1, -1].tolist() == [9, 13, 0]
    assert pixels[2, 0, 0].tolist() == [1, 0, 0]


def test_every_offset_is_equally_likely():
    places = torch.rand(6000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pixels = cut_squares([picture(10, 8)] * 6000, places, side=8)
    counts = torch.bincount(pixels[:, 0, 0, 0].long())
    assert len(counts) == 3
    assert (counts - 2000).abs().max() < 150  # four standard deviations


def test_only_the_chosen_pictures_are_mirrored():
    pixels = torch.from_numpy(np.stack([picture(4, 4)] * 2))
    flipped = flip(pixels, torch.tensor([True, False]))
    assert flipped[0, 0, :, 1].tolist() == [3, 2, 1, 0]
    assert torch.equal(flipped[1], pixels[1])


def test_black_is_minus_one_and_white_is_one():
    pixels = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 4, 4, 3)
    (images,) = pyramid(pixels, [4])
    assert images.shape == (2, 3, 4, 4)
    assert images[0].eq(-1).all()
    assert images[1].eq(1).all()


def test_each_level_is_the_finest_one_resized_with_antialiasing():
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    coarse, middle, fine = pyramid(pixels, [8, 16, 32])
    torch.testing.assert_close(fine, pixels.permute(0, 3, 1, 2) / 127.5 - 1)
    for images, side in ((coarse, 8), (middle, 16)):
        expected = functional.interpolate(fine, size=side, mode="bilinear", antialias=True, align_corners=False)
        torch.testing.assert_close(images, expected)


def test_fine_stripes_become_even_grey_in_the_coarse_picture():
    stripes = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    (coarse,) = pyramid(stripes, [8])
    assert coarse[..., 1:-1].abs().max() < 0.02
