"""Figures over the steps of a training -> line plots, as SVG in the page: they take its width and its colours."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 300, 170  # of a plot, in its own units, about a pixel each
LEFT, RIGHT, TOP, BOTTOM = 40, 6, 6, 20  # margins, for the numbers at the axes
SPACES = 4  # between the numbers at an axis, at most
BUCKETS = 150  # of a line: of the points in each, the lowest and the highest are drawn
AIR = 0.05  # of the range, above and below the lines

Points = list[tuple[float, float]]


class Axis(NamedTuple):
    """A range of figures, and where it lies in the plot."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Return where a value lies in the plot."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return round numbers within the range, at most one more than `SPACES`."""
        least = (self.high - self.low) / SPACES
        power = 10.0 ** math.floor(math.log10(least))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least)
        return [count * step for count in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def plots(rows: Sequence[Mapping[str, float]], panels: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return what `curves.html.j2` draws; a plot in which nothing changes is left out.

    Args:
        rows: as `RunLog.rows`, each with "step".
        panels: title -> name of a figure -> what its line is called.
    """
    return [plot for title, labels in panels.items() if (plot := _plot(rows, title, labels))]


def _plot(rows: Sequence[Mapping[str, float]], title: str, labels: Mapping[str, str]) -> dict[str, Any] | None:
    lines: dict[str, Points] = {}
    for name, label in labels.items():
        if points := [(row["step"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]:
            lines[label] = points
    if all(len({value for _, value in points}) < 2 for points in lines.values()):
        return None
    steps = [step for points in lines.values() for step, _ in points]
    values = [value for points in lines.values() for _, value in points]
    air = AIR * (max(values) - min(values))
    across = Axis(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    up = Axis(min(values) - air, max(values) + air, HEIGHT - BOTTOM, TOP)
    return {
        "title": title,
        "lines": [
            {"label": label, "points": " ".join(f"{across.place(x)},{up.place(y)}" for x, y in _thinned(points))}
            for label, points in lines.items()
        ],
        "steps": [{"at": across.place(tick), "label": f"{tick:,.6g}"} for tick in across.ticks()],
        "values": [{"at": up.place(tick), "label": f"{tick:.6g}"} for tick in up.ticks()],
        "frame": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM},
    }


def _thinned(points: Points) -> Points:
    """Return the points of a line that can be told apart, spikes among them."""
    size = -(-len(points) // BUCKETS)
    if size < 3:
        return points
    kept = set()
    for start in range(0, len(points), size):
        bucket = range(start, min(start + size, len(points)))
        kept |= {min(bucket, key=lambda index: points[index][1]), max(bucket, key=lambda index: points[index][1])}
    return [points[index] for index in sorted(kept | {0, len(points) - 1})]
