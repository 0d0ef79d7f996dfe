"""Whether a model has learnt, and which figures are read first."""

import pytest

from attngan.config import settings
from attngan.evaluation import controls, verdict
from attngan.metrics.figures import Figure


def figure(value, spread=0.02):
    return Figure(value, value - spread, value + spread, 1000)


def figures(*, drawn=0.6, real=0.7, shuffled=0.06, contrast=0.3, **more):
    r_precision = {"generated": drawn, "real": real, "noise": 0.01, "blurred": 0.4, "shuffled": shuffled}
    values = {"r_precision": r_precision, "contrast_pixels": {"generated": contrast, "real": 0.32}, **more}
    return {metric: {whose: figure(value) for whose, value in each.items()} for metric, each in values.items()}


def test_a_model_whose_pictures_find_their_captions_has_learnt():
    assert verdict.not_learnt(figures(), settings.load()) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"drawn": 0.064, "shuffled": 0.063},
            "against 6.3\u00a0%); train the generator for more steps (training.steps, now 368)",
        ),
        ({"drawn": 0.09, "shuffled": 0.06}, "no better than those of other pictures"),  # intervals touch
        (
            {"drawn": 0.06, "real": 0.07},
            "nor do real pictures, so the encoders have not learnt: train them for longer (damsm.epochs, now 200)",
        ),
        ({"contrast": 0.05}, "its pictures are grey: they have 16% of the contrast of real ones"),
    ],
)
def test_a_model_that_has_not_learnt_is_told_why_and_what_to_change(given, words):
    (reason,) = verdict.not_learnt(figures(**given), settings.load(overrides=["training.steps=368"]))
    assert words in reason


def test_five_figures_are_read_first_through_the_best_eyes_there_are():
    names = ("kid", "precision", "recall", "near_copies")
    more = {f"{name}_{eyes}": {"generated": 0.5} for name in names for eyes in ("damsm-1", "inception-fid-2")}
    assert verdict.headline(figures(**more)) == ["r_precision", *(f"{name}_inception-fid-2" for name in names)]
    coloured = {"body_colour": {"generated": 0.9}, "wing_colour": {"generated": 0.9}, **more}
    assert verdict.headline(figures(**coloured))[:3] == ["r_precision", "body_colour", "wing_colour"]


def test_eyes_that_the_generator_was_trained_against_are_read_last():
    """The encoders stay last: the generator was trained on their word itself."""
    eyes = ("damsm-1", "efficientnet-lite0-2", "mobilenet-v2-3")
    seen = figures(**{f"kid_{each}": {"generated": 0.5} for each in eyes})
    for flattered, read in (([], eyes[2]), ([eyes[2]], eyes[1]), ([eyes[1], eyes[2]], eyes[2])):
        assert verdict.headline(seen, flattered) == ["r_precision", f"kid_{read}"]


def test_what_a_second_judge_says_stands_beside_the_first():
    found = figures(r_precision_second_judge={"generated": 0.5, "real": 0.6, "shuffled": 0.05})
    assert verdict.headline(found) == ["r_precision", "r_precision_second_judge"]
    second = verdict.lines(verdict.summary(found))[1]
    assert second.endswith("50.0\u00a0%  (real pictures 60.0\u00a0%, other captions 5.0\u00a0%)")


def test_each_is_a_line_with_two_controls_beside_it():
    lines = verdict.lines(verdict.summary(figures(kid_damsm={"generated": 0.1, "real": 0.01, "noise": 5.0})))
    assert lines[0].split("  ")[1] == "fits its caption (R-precision)"
    assert lines[0].endswith("60.0\u00a0%  (real pictures 70.0\u00a0%, other captions 6.0\u00a0%)")
    assert lines[1].endswith("0.1  (real pictures 0.01, noise 5)")
    assert len({line.index("(real") for line in lines}) == 1


def test_a_figure_whose_control_failed_says_so_in_its_own_line():
    found = figures(real=0.05, kid_damsm={"generated": 0.1, "real": 0.01, "noise": 5.0, "blurred": 0.2})
    found["r_precision"]["noise"] = Figure(0.01, 0.0, 0.02, 1000, candidates=100)
    first, second = verdict.lines(verdict.summary(found, controls.failed(found)))
    assert "60.0\u00a0%  (not to be believed, its control failed: real pictures 5.0\u00a0%, " in first
    assert second.endswith("0.1  (real pictures 0.01, noise 5)")
