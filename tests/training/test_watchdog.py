"""What counts as a training that goes wrong."""

import pytest

from attngan.training import watchdog


def row(real, drawn):
    return {"real_16": 0.6, "generated_16": 0.4, "real_32": real, "generated_32": drawn}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_is_named(value):
    assert watchdog.not_finite({"kl": 0.1, "words": value}) == f"the loss words is {value}"
    assert watchdog.not_finite({"kl": 0.1, "words": 1e30}) is None


def test_a_discriminator_that_is_always_right_is_named():
    said = watchdog.saturated([row(0.999, 0.001), row(0.995, 0.004)], [16, 32])
    assert "32 pixels is always right (real pictures 99.5% real or more, generated ones 0.4%" in said


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(0.999, 0.001), row(0.95, 0.001)],  # once unsure of real pictures
        [row(0.999, 0.02), row(0.999, 0.001)],  # once unsure of drawn ones
        [row(0.01, 0.99)],  # always wrong
    ],
)
def test_a_discriminator_that_has_doubts_is_not_saturated(rows):
    assert watchdog.saturated(rows, [16, 32]) is None


@pytest.mark.parametrize(
    ("varieties", "is_collapse"),
    [
        ([0.05], False),  # all pictures are alike before anything is learnt
        ([0.05, 0.15, 0.08], False),
        ([0.05, 0.6, 0.08], True),
        ([0.05, 0.6, 0.3], False),
        ([0.6, 0.05, 0.4], False),  # it has recovered
    ],
)
def test_pictures_collapse_only_where_they_once_were_varied(varieties, is_collapse):
    said = watchdog.collapsed(varieties)
    assert bool(said) == is_collapse
    assert said is None or "8.0% as far apart as real ones, and were 60.0%" in said
