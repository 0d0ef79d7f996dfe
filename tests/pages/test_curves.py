"""Plots of a training's figures, as they stand in the page."""

import math
import xml.etree.ElementTree as ET

import pytest

from attngan.pages import curves, report

LOSSES = {"Losses": {"real": "of real ones", "drawn": "of drawn ones"}}


def rows(*values: float) -> list[dict[str, float]]:
    return [{"step": 10 * (number + 1), "real": value} for number, value in enumerate(values)]


def test_a_line_goes_through_its_figures_from_the_lower_left_to_the_upper_right():
    (plot,) = curves.plots(rows(1, 2, 3), LOSSES)
    points = [tuple(map(float, pair.split(","))) for pair in plot["lines"][0]["points"].split()]
    frame = plot["frame"]
    assert [x for x, _ in points] == [frame["left"], (frame["left"] + frame["right"]) / 2, frame["right"]]
    heights = [y for _, y in points]
    assert heights == sorted(heights, reverse=True) and all(0 < y < frame["bottom"] for y in heights)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.03, 0.93, [0.25, 0.5, 0.75]),
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (1, 4494, [2000, 4000]),
        (-0.001, 0.002, [-0.001, 0, 0.001, 0.002]),
        (1e9, 1e9 + 8, [1e9, 1e9 + 2, 1e9 + 4, 1e9 + 6, 1e9 + 8]),
    ],
)
def test_the_numbers_at_an_axis_are_round_few_and_within_it(low, high, expected):
    assert curves.Axis(low, high, 0, 100).ticks() == pytest.approx(expected)


def test_what_never_changes_or_is_no_number_is_not_plotted():
    assert curves.plots(rows(2, 2, 2), LOSSES) == []
    assert curves.plots(rows(2), LOSSES) == []
    assert curves.plots([], LOSSES) == []
    assert curves.plots([{"step": 1, "other": 1}, {"step": 2, "other": 3}], LOSSES) == []
    (plot,) = curves.plots(rows(1, math.nan, math.inf, 2), LOSSES)
    assert plot["lines"][0]["points"].count(",") == 2


def test_a_long_line_keeps_its_ends_and_its_spike():
    values = [1.0] * 9_999
    values[5_000] = 7.0
    (plot,) = curves.plots(rows(0.5, *values), LOSSES)
    points = [tuple(map(float, pair.split(","))) for pair in plot["lines"][0]["points"].split()]
    assert len(points) <= 2 * curves.BUCKETS + 2
    assert [points[0][0], points[-1][0]] == [plot["frame"]["left"], plot["frame"]["right"]]
    assert min(y for _, y in points) < 20


def test_the_page_has_a_plot_for_each_panel_with_a_key_where_there_are_several_lines():
    both = [{"step": step, "real": step, "drawn": -step, "kl": step**2} for step in range(1, 9)]
    plots = curves.plots(both, {**LOSSES, "<KL>": {"kl": "KL"}})
    page = report.render(
        "damsm_progress.html.j2", step=1, total=2, pace="", best={}, events=[], plots=plots, pool=1, rows=[]
    )
    drawn = [
        ET.fromstring(part.split("</svg>")[0] + "</svg>")
        for part in page.split("<figure>\n")[1:]
        for part in [part[part.index("<svg") :]]
    ]
    assert [len(each.findall("polyline")) for each in drawn] == [2, 1]
    assert "&lt;KL&gt;" in page and page.count('class="key"') == 2
