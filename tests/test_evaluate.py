"""The evaluate step: figures with their controls, and a report that opens alone."""

import json

import pytest

from attngan import artifacts
from attngan import evaluate as step
from attngan.errors import InputError
from attngan.evaluate import evaluate


def test_every_figure_is_a_share_and_stands_beside_its_controls(metrics):
    figures = artifacts.check(metrics, "metrics", contents=True)["figures"]
    assert set(figures) == set(step.MEANINGS)
    assert all(0 <= value <= 1 for value in figures.values())
    assert json.loads((metrics / "metrics.json").read_text())["figures"] == figures


def test_the_controls_land_where_they_must(metrics):
    figures = artifacts.check(metrics, "metrics")["figures"]
    assert figures["body_colour_real"] >= 0.9 and figures["wing_colour_real"] >= 0.9
    assert figures["body_colour_shuffled"] <= 0.5 and figures["wing_colour_shuffled"] <= 0.5


def test_the_same_seed_measures_the_same(dataset, damsm, generator, metrics, smoke, tmp_path):
    assert (
        evaluate(dataset, damsm, generator, tmp_path / "metrics", smoke)
        == artifacts.check(metrics, "metrics")["figures"]
    )


def test_the_report_is_one_page_that_names_its_conditions(metrics, dataset):
    page = (metrics / "report.html").read_text()
    assert artifacts.check(dataset, "dataset")["fingerprint"] in page
    assert "data:image/png;base64," in page and "https://" not in page


def test_too_few_wrong_captions_are_said(dataset, damsm, generator, smoke, tmp_path):
    greedy = smoke.model_copy(update={"evaluate": smoke.evaluate.model_copy(update={"num_candidates": 500})})
    with pytest.raises(InputError, match=r"lower evaluate\.num_candidates"):
        evaluate(dataset, damsm, generator, tmp_path / "metrics", greedy)
