"""Colours read off pictures: right on birds we drew ourselves, at chance where nothing fits."""

import torch

from attngan.data.dataset import Dataset
from attngan.data.toy.drawn_birds import PALETTE
from attngan.data.toy.drawn_templates import PARTS, part_templates
from attngan.metrics.colour_fidelity import read_colours

NAMES = list(PALETTE)
COLOURS = torch.tensor(list(PALETTE.values())) / 127.5 - 1


def test_every_pixel_of_a_template_belongs_to_one_part():
    templates = part_templates()
    assert (templates.sum(dim=1) == 1).all()
    assert (templates.flatten(2).sum(dim=2) > 20).all()


def test_body_and_wing_colours_are_read_off_random_crops_of_drawn_birds(dataset):
    train = Dataset.open(dataset, "train")
    batch = train.training_batch(
        range(len(train)), resolutions=[32], max_words=18, rng=torch.Generator().manual_seed(0)
    )
    read = read_colours(batch.images[0], part_templates(), COLOURS)
    for part in ("body", "wing"):
        truth = torch.tensor([NAMES.index(record["attributes"][part]) for record in train.records])
        share = (read[:, PARTS.index(part)] == truth).double().mean()
        assert share >= 0.9, part
