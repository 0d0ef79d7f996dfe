"""Where the parts of a drawn bird can lie in a training crop: the geometry that colour fidelity is read off with."""

import itertools

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from attngan.data.toy.drawn_geometry import Bird, bird_parts, place

PARTS = ("body", "wing", "tail", "rest")  # rest: everything that is none of the other three, crown and beak too
SIDE = 64  # pixels; pictures are brought to it before they are read

# The crop makes the bird's box two thirds of the stored side, and training cuts 64 / 76 of that at random.
LENGTHS = (0.69, 0.73, 0.77)
SHIFTS = (-0.12, -0.09, -0.06, -0.03, 0.0, 0.03, 0.06, 0.09, 0.12)
TILTS = (-5.0, 0.0, 5.0)


def part_templates() -> Tensor:
    """Return every placement's masks (K, P, 64, 64) bool, parts in the order of `PARTS`; each pixel has one part."""
    placements = itertools.product(("left", "right"), LENGTHS, TILTS, SHIFTS, SHIFTS)
    masks = [
        _part_masks(Bird("red", "blue", facing=facing, length=length, tilt=tilt, centre=(0.5 + x, 0.55 + y)))
        for facing, length, tilt, x, y in placements
    ]
    return torch.from_numpy(np.stack(masks))


def _part_masks(bird: Bird) -> np.ndarray:
    """Return (P, 64, 64) bool: what of each part can be seen, drawn back to front as the bird itself is."""
    sheet = Image.new("L", (SIDE, SIDE), PARTS.index("rest"))
    pen = ImageDraw.Draw(sheet)
    labels = {"tail": "tail", "beak": "rest", "body": "body", "head": "body", "crown": "rest", "wing": "wing"}
    for part, outline in bird_parts(bird.beak_length).items():
        pen.polygon(place(outline, bird, SIDE), fill=PARTS.index(labels[part]))
    seen = np.asarray(sheet)
    return np.stack([seen == index for index in range(len(PARTS))])
