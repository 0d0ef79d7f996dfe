"""Controls that land where they must not are said in words, each by the figure that shows it."""

import pytest

from attngan.evaluation import controls
from attngan.metrics import names
from attngan.metrics.figures import Figure


def figure(value, spread=0.01):
    return Figure(value, value - spread, value + spread, 1000, 400, "x-00000000", candidates=100)


def sound():
    """Figures of a good generator, as they should be."""
    values = {
        "r_precision": {"generated": 0.6, "real": 0.7, "noise": 0.01, "blurred": 0.4, "shuffled": 0.05},
        "r_precision_second_judge": {"generated": 0.5, "real": 0.6, "noise": 0.01, "blurred": 0.3, "shuffled": 0.05},
        "body_colour": {"generated": 0.9, "real": 0.99, "shuffled": 0.1},
        "kid_x": {"generated": 0.1, "real": 0.0, "noise": 4.0, "blurred": 0.3},
        "fid_x": {"generated": 9.0, "real": 2.0, "noise": 90.0, "blurred": 20.0},
        "precision_x": {"generated": 0.7, "real": 0.95, "noise": 0.0, "blurred": 0.3},
        "recall_x": {"generated": 0.7, "real": 0.95, "noise": 0.0, "blurred": 0.3},
        "inception_score_x": {"generated": 4.0, "real": 5.0, "noise": 1.2, "blurred": 2.0},
        "near_copies_x": {"generated": 0.01, "real": 0.01, "blurred": 0.02, "copies": 1.0},
        "diversity_x": {"generated": 0.5, "held": 0.0},
        "swap_x": {"generated": 0.4, "held": 0.0, "other caption": 0.9},
        "clip_score_x": {"generated": 25.0, "real": 30.0, "shuffled": 18.0},
    }
    return {metric: {whose: figure(value) for whose, value in each.items()} for metric, each in values.items()}


def changed(metric, whose, value):
    figures = sound()
    figures[metric][whose] = figure(value)
    return figures


def test_nothing_is_said_where_all_is_well():
    assert controls.failed(sound()) == {} and controls.findings(sound()) == []


@pytest.mark.parametrize(
    ("metric", "whose", "value"),
    [
        ("kid_x", "real", 0.5),
        ("kid_x", "noise", -0.1),
        ("fid_x", "blurred", 1.0),
        ("precision_x", "noise", 0.96),
        ("recall_x", "noise", 0.96),
        ("inception_score_x", "noise", 6.0),
        ("r_precision", "noise", 0.2),
        ("r_precision", "real", 0.04),
        ("r_precision_second_judge", "noise", 0.2),
        ("r_precision_second_judge", "real", 0.04),
        ("body_colour", "real", 0.5),
        ("body_colour", "shuffled", 0.995),
        ("near_copies_x", "copies", 0.5),
        ("near_copies_x", "real", 0.4),
        ("diversity_x", "held", 0.3),
        ("swap_x", "held", 0.3),
        ("clip_score_x", "shuffled", 31.0),
    ],
)
def test_each_control_that_does_not_land_is_said_with_its_metric(metric, whose, value):
    failed = controls.failed(changed(metric, whose, value))
    sentences = failed.pop(metric)
    assert not failed and all(sentence.startswith(f"{names.words_of(metric).title}: ") for sentence in sentences)
    assert f"{value:.4g}" in sentences[0]


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("r_precision", 0.9, "trained against this judge"),
        ("near_copies_x", 0.5, "repeat its training pictures"),
        ("diversity_x", 0.01, "whatever the noise"),
        ("swap_x", 0.01, "the words are not read"),
        ("kid_x", 0.9, "further from real pictures than blurred"),
    ],
)
def test_what_is_wrong_with_a_generator_is_said(metric, value, words):
    (sentence,) = controls.findings(changed(metric, "generated", value))
    figures = f"{names.words_of(metric).title}, {names.text_of(metric, value)}: "
    assert sentence.startswith(figures) and words in sentence


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (
            {},
            "second judge, which it did not see, does not agree (50.0\u00a0% against 60.0\u00a0%): believe that one",
        ),
        ({"generated": 0.61}, "sees no difference beyond chance (61.0\u00a0% against 60.0\u00a0%): believe that one"),
        ({"generated": 0.7}, "The second judge, which it did not see, agrees (70.0\u00a0% against 60.0\u00a0%)"),
        ({"real": 0.04}, "cannot be believed either: its control failed"),
        (None, "more than the truth does: believe the metrics that it did not see"),
    ],
    ids=["below real pictures", "level with them", "above", "its control failed", "no second judge"],
)
def test_where_its_own_judge_puts_a_generator_above_real_pictures_the_second_one_is_heard(second, words):
    figures = changed("r_precision", "generated", 0.9)
    if second is None:
        del figures["r_precision_second_judge"]
    else:
        figures["r_precision_second_judge"] |= {whose: figure(value) for whose, value in second.items()}
    (sentence,) = controls.findings(figures)
    assert sentence.startswith("fits its caption (R-precision), 90.0\u00a0%: more than real pictures reach. ")
    assert words in sentence and ("pleases it more" in sentence) == (" agrees " not in sentence)


def test_a_second_judge_above_real_pictures_is_no_finding_by_itself():
    assert controls.findings(changed("r_precision_second_judge", "generated", 0.9)) == []


def test_a_metric_whose_control_failed_says_nothing_of_the_generator():
    figures = changed("kid_x", "generated", 0.9)
    assert controls.findings(figures)
    figures["kid_x"]["real"] = figure(5.0)
    assert controls.findings(figures) == []


def test_eyes_that_the_generator_was_trained_against_are_said_to_flatter_it():
    assert controls.flattered("efficientnet-lite0-57934424") == (
        "The generator was trained against what EfficientNet-Lite0 (of ImageNet) sees, so figures by it flatter the "
        "pictures: believe the metrics that it did not see."
    )
