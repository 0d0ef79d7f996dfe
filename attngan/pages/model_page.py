"""The pages of a model folder: every decision and what each champion draws, and the card of the champion."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from attngan.errors import InputError, shown
from attngan.metrics import names
from attngan.pages import model_card, report
from attngan.pages.curves import Axis
from attngan.runtime.console import say
from attngan.storage import json_text, places, uris
from attngan.storage.champion import SENTENCES, UNCHANGED, ModelFolder, Told, strip_of, time_of

FILE = "index.html"
MADE = '<meta name="generator" content="attngan">'
MOST_DECISIONS = 200  # on models, and as many that nothing was new: the newest
MOST_CHAMPIONS = 40  # shown with pictures: the newest, and the first
MOST_NAMED = 5  # of the files that cannot be read
LARGEST_STRIP = 2**20  # bytes
WIDTH, HEIGHT = 480, 200  # of a plot, in its own units
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 24
AIR = 0.08  # of the range, above and below


class Row(NamedTuple):
    """A decision as people read it.

    Attributes:
        number: its place in the history, from 1.
        time: in words.
        verdict: "promoted", "restored", "kept" (the champion, that is) or "unchanged".
        reason: in words.
        metric: that decided, "" where none did.
        value: of the model that was decided on, None where it is not known.
        low: end of its interval, None where it is not known.
        high: the other end.
        bundle: fingerprint of that model.
    """

    number: int
    time: str
    verdict: str
    reason: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    bundle: str

    @property
    def text(self) -> str:
        """The figure in words, with its interval."""
        if self.value is None:
            return ""
        text = names.text_of(self.metric, self.value)
        if self.low is None or self.high is None:
            return text
        return f"{text} [{names.text_of(self.metric, self.low)}, {names.text_of(self.metric, self.high)}]"


def write(uri: str) -> None:
    """Write the pages of a model folder anew; where that fails it is said, for what was decided stands.

    Args:
        uri: the model folder, after a decision was kept.
    """
    for name, make, mark in ((FILE, page, MADE), (model_card.FILE, card, model_card.MADE)):
        try:
            folder = ModelFolder(uri)
            if folder.champion or name == FILE:
                folder.rewrite(name, lambda make=make: make(uri), mark=mark)
        except (InputError, OSError) as error:
            say(f"{uri}: {name} is not written, what was decided stands: {error}")


def card(uri: str) -> str:
    """Return the model card of the champion of a folder; an older bundle says only what its figures are."""
    champion = ModelFolder(uri).champion
    if champion is None:
        raise InputError(f"{uri}: there is no champion.")
    provenance = uris.join(uri, champion["model"], "provenance.json")
    content, is_there = places.read(provenance)
    facts: model_card.Facts = {}
    if is_there:
        with contextlib.suppress(InputError):  # of another version
            facts = json_text.parse(content, provenance, model_card.Facts)
    facts["metrics"] = facts.get("metrics") or champion["figures"]
    return model_card.text(facts, model_card.Champion(champion["model"], champion.get("promoted", "a time not known")))


def page(uri: str) -> str:
    """Return the page of a model folder; what of its history cannot be read is left out, and said."""
    folder = ModelFolder(uri)
    history = folder.history()
    chosen = _chosen(history)
    told = folder.told(chosen)
    numbers = {name: number for number, name in enumerate(history, start=1)}
    rows = [_row(numbers[name], name, each) for name, each in zip(chosen, told, strict=True) if each is not None]
    rows = _with_figures_of_restored(rows)
    lost = [name for name, each in zip(chosen, told, strict=True) if each is None]
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("promoted", "kept", "unchanged")}
    reigns = _reigns(rows)
    sentences, champions = _champions(folder, reigns)
    return report.render(
        "models.html.j2",
        champion=folder.champion,
        now=next(
            (row for row in reigns[-1:] if folder.champion and row.bundle == folder.champion["fingerprint"]), None
        ),
        counts={**counts, "restored": sum(row.verdict == "restored" for row in rows)},
        plots=_plots(rows),
        champions=champions,
        left_out=len(reigns) - len(champions),
        sentences=sentences,
        rows=rows[::-1],
        older=len(history) - len(chosen),
        lost=len(lost),
        lost_names=lost[:MOST_NAMED],
    )


def _chosen(history: Sequence[str]) -> list[str]:
    """Return the newest decisions of each kind, the oldest first."""
    unchanged = [name for name in history if name.endswith(f"{UNCHANGED}.json")]
    models = sorted(set(history) - set(unchanged))
    return sorted([*unchanged[-MOST_DECISIONS:], *models[-MOST_DECISIONS:]])


def _row(number: int, name: str, told: Told) -> Row:
    time = time_of(name)
    metric, bundle = told.get("metric", ""), told.get("bundle", "")
    if name.endswith(f"{UNCHANGED}.json"):
        verdict = "unchanged"
    elif not told.get("promoted"):
        verdict = "kept"
    else:
        verdict = "promoted" if metric else "restored"
    return Row(
        number,
        f"{time:%Y-%m-%d %H:%M}" if time else "",
        verdict,
        shown(told.get("reason", ""), 300),
        shown(metric),
        told.get("challenger"),
        told.get("low"),
        told.get("high"),
        bundle,
    )


def _with_figures_of_restored(rows: list[Row]) -> list[Row]:
    """Give a champion that came back the figure that it was promoted with."""
    known: dict[str, Row] = {}
    filled = []
    for row in rows:
        if row.value is not None:
            known[row.bundle] = row
        elif row.verdict == "restored" and (before := known.get(row.bundle)):
            row = row._replace(metric=before.metric, value=before.value, low=before.low, high=before.high)
        filled.append(row)
    return filled


def _reigns(rows: Sequence[Row]) -> list[Row]:
    """Return the decisions after which there was another champion than before."""
    found: list[Row] = []
    for row in rows:
        if row.verdict in ("promoted", "restored") and (not found or found[-1].bundle != row.bundle):
            found.append(row)
    return found


def _champions(folder: ModelFolder, reigns: Sequence[Row]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the sentences, and the champions with what they draw of them, the newest first."""
    few = [*reigns[:1], *reigns[1:][-MOST_CHAMPIONS + 1 :]]
    content, *strips = folder.read_all([SENTENCES, *(strip_of(row.bundle) for row in few)])
    try:
        sentences = [shown(each, 200) for each in json_text.parse(content, SENTENCES, list[str])]
    except InputError:
        sentences = []
    found = [{"row": row, "strip": _strip(each, len(sentences))} for row, each in zip(few, strips, strict=True)]
    return sentences, found[::-1]


def _strip(content: bytes, count: int) -> str | None:
    """Return the pictures of a champion as a URI that holds them; None where they are not there, or damaged."""
    if not content or not count or len(content) > LARGEST_STRIP:
        return None
    try:
        with Image.open(io.BytesIO(content), formats=["WEBP"]) as picture:
            is_whole = picture.width == count * picture.height
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return report.data_uri(content, "webp") if is_whole else None


def _plots(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a plot for each metric that decided, the newest first."""
    metrics = dict.fromkeys(row.metric for row in reversed(rows) if row.value is not None)
    return [_plot(metric, rows) for metric in metrics]


def _plot(metric: str, rows: Sequence[Row]) -> dict[str, Any]:
    dots = [row for row in rows if row.metric == metric and row.value is not None]
    scale = 100 if names.words_or_name(metric).is_share else 1
    ends = [end for row in dots for end in (row.value, row.low, row.high) if end is not None]
    low, high = scale * min(ends), scale * max(ends)
    air = AIR * (high - low) or 0.1 * abs(high) or 1.0
    across = Axis(rows[0].number - 0.5, rows[-1].number + 0.5, LEFT, WIDTH - RIGHT)
    up = Axis(low - air, high + air, HEIGHT - BOTTOM, TOP)
    return {
        "title": names.words_or_name(metric).title,
        "dots": [_dot(row, across, up, scale) for row in dots],
        "champion": _line([row for row in dots if row.verdict in ("promoted", "restored")], across, up, scale),
        "unchanged": [across.place(row.number) for row in rows if row.verdict == "unchanged"],
        "numbers": [{"at": across.place(at), "label": f"{at:,.0f}"} for at in across.ticks() if float(at).is_integer()],
        "values": [{"at": up.place(at), "label": f"{at:.6g}{' %' if scale == 100 else ''}"} for at in up.ticks()],
        "frame": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM},
    }


def _dot(row: Row, across: Axis, up: Axis, scale: int) -> dict[str, Any]:
    low, high = (up.place(scale * end) if end is not None else None for end in (row.low, row.high))
    label = f"{row.number}, {row.time}, {row.verdict}: {row.text}"
    at = {"x": across.place(row.number), "y": up.place(scale * (row.value or 0.0))}
    return {**at, "low": low, "high": high, "verdict": row.verdict, "label": label}


def _line(champions: Sequence[Row], across: Axis, up: Axis, scale: int) -> str:
    """Return the figure of whoever was the champion, which stays until the next one."""
    points: list[str] = []
    y = 0.0
    for row in champions:
        x = across.place(row.number)
        if points:
            points.append(f"{x},{y}")
        y = up.place(scale * (row.value or 0.0))
        points.append(f"{x},{y}")
    return " ".join([*points, f"{WIDTH - RIGHT},{y}"]) if points else ""
