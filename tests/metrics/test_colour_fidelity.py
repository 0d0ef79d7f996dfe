"""Colours read off pictures: right on birds we drew ourselves, at chance where nothing fits."""

import torch
from torch.nn import functional

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


def test_a_black_body_under_a_wing_that_is_too_large_is_black():
    templates = part_templates()
    number = len(templates) // 2
    body, wing = PARTS.index("body"), PARTS.index("wing")
    masks = templates[number].clone()
    larger = functional.max_pool2d(masks[wing][None].float(), 5, stride=1, padding=2)[0].bool() & masks[body]
    masks[wing] |= larger
    masks[body] &= ~larger
    colours = COLOURS[[NAMES.index({"body": "black", "wing": "yellow"}.get(part, "white")) for part in PARTS]]
    picture = torch.einsum("pij,pc->cij", masks.float(), colours)
    read = read_colours(picture[None], templates, COLOURS)[0]
    assert [NAMES[read[part]] for part in (body, wing)] == ["black", "yellow"]
    mean = picture[:, templates[number][body]].mean(dim=1)  # what a reader of means would go by, were the place right
    assert NAMES[(COLOURS - mean).norm(dim=1).argmin()] == "brown"
