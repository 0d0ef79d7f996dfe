import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from attngan.data.transforms import cut_squares, pyramid


def picture(height: int, width: int) -> np.ndarray:
    """Red is the row, green the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def test_the_place_moves_the_square_from_one_corner_to_the_other():
    pictures = [picture(10, 14)] * 3
    places = torch.tensor([[0.0, 0.0], [0.999, 0.999], [0.5, 0.0]], dtype=torch.float64)
    pixels = cut_squares(pictures, places, side=8)
    assert pixels.shape == (3, 3, 8, 8)
    assert pixels[0, :, 0, 0].tolist() == [0, 0, 0]
    assert pixels[1, :, 0, 0].tolist() == [2, 6, 0]
    assert pixels[1, :, -1, -1].tolist() == [9, 13, 0]
    assert pixels[2, :, 0, 0].tolist() == [1, 0, 0]


def test_every_offset_is_equally_likely():
    places = torch.rand(6000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pixels = cut_squares([picture(10, 8)] * 6000, places, side=8)
    counts = torch.bincount(pixels[:, 0, 0, 0].long())
    assert len(counts) == 3
    assert (counts - 2000).abs().max() < 150  # four standard deviations


def test_only_the_chosen_pictures_are_mirrored():
    pictures, places = [picture(4, 5)] * 2, torch.tensor([[0.0, 0.3]] * 2)
    pixels = cut_squares(pictures, places, side=4, is_flipped=torch.tensor([True, False]))
    assert pixels[0, 1, 0].tolist() == [3, 2, 1, 0]
    assert torch.equal(pixels[1], cut_squares(pictures, places, side=4)[1])
    assert torch.equal(pixels[0].flip(-1), pixels[1])


def test_black_is_minus_one_and_white_is_one():
    pixels = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 4, 4)
    (images,) = pyramid(pixels, [4])
    assert images.shape == (2, 3, 4, 4)
    assert images[0].eq(-1).all()
    assert images[1].eq(1).all()


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
