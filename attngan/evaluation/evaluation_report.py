"""The report of an evaluation: one page with every figure beside its controls, and pictures to look at."""

from typing import Any

import torch
from torch import Tensor

from attngan.data.dataset import Dataset
from attngan.evaluation.picture_sets import EvaluationPictures
from attngan.evaluation.verdict import Line
from attngan.metrics import names
from attngan.metrics.figures import Figure, Figures
from attngan.pages import pictures, report

NUM_COPIES, NUM_STRANGEST, NUM_SWAPS = 6, 6, 6


def page(
    figures: Figures,
    conditions: dict[str, Any],
    *,
    not_learnt: list[str],
    summary: list[Line],
    broken: list[str],
    findings: list[str],
    **shown: Any,
) -> str:
    """Return the report as HTML.

    Args:
        figures: metric -> whose pictures -> figure.
        conditions: of all of them.
        not_learnt: why the model has learnt nothing, in sentences; none if it has.
        summary: the figures to read first.
        broken: a sentence for each control that did not land where it must.
        findings: what else is to be known.
        shown: "colours", "copies", "strangest", "swaps": pictures with what is said of them; "copies_by" and
            "strangest_by": who looked, in words.
    """
    said = {"not_learnt": not_learnt, "summary": summary, "broken": broken, "findings": findings}
    rows = [_row(metric, subjects) for metric, subjects in figures.items()]
    return report.render("report.html.j2", rows=rows, conditions=conditions, **said, **shown)


def _row(metric: str, subjects: dict[str, Figure]) -> dict[str, Any]:
    """Return a metric's row of the table of all figures."""
    words = names.words_of(metric)
    scale, number = (100, "{:.1f}") if words.is_share else (1, "{:.3g}")
    cells = [
        {
            "whose": subject,
            "value": number.format(scale * figure.value),
            "interval": f"{number.format(scale * figure.low)} to {number.format(scale * figure.high)}",
        }
        for subject, figure in subjects.items()
    ]
    first = subjects["generated"]
    counts = f"{first.generated:,}" + (f" against {first.reference:,}" if first.reference else "")
    counts += f", each among {first.candidates:,} captions" if first.candidates else ""
    unit = "%" if words.is_share else ""
    return {"metric": metric, "words": words, "cells": cells, "unit": unit, "counts": counts}


def copies(subject: EvaluationPictures, distances: Tensor, nearest: Tensor) -> list[dict[str, str]]:
    """Return the generated pictures that are nearest to training pictures, with those."""
    chosen = distances.argsort()[:NUM_COPIES].tolist()
    return [_beside(subject, number, subject.train, int(nearest[number])) for number in chosen]


def strangest(subject: EvaluationPictures, found: list[tuple[int, str, int]]) -> list[dict[str, str]]:
    """Return the generated pictures that are least like real ones, with the nearest of those (`least_real`)."""
    splits = {"train": subject.train, "real": subject.test}
    return [_beside(subject, number, splits[table], real) for number, table, real in found]


def _beside(subject: EvaluationPictures, number: int, split: Dataset, real: int) -> dict[str, str]:
    """Return a generated picture beside a real one of a split."""
    query = subject.queries[number]
    pair = torch.cat([subject.generated([query], number), subject.real([real], split)])
    png = report.embedded(pictures.grid([pictures.to_pictures(pair)]))
    return {"caption": subject.texts([query])[0], "png": png}


def swaps(subject: EvaluationPictures) -> list[dict[str, str]]:
    """Return some captions drawn with one colour word, and with another, from the same noise."""
    if not subject.can_swap:
        return []
    numbers = range(min(NUM_SWAPS, len(subject.pairs)))
    drawn = subject.pair(numbers)
    words = subject.model.vocabulary.words
    before = subject.word_ids([subject.pairs[number] for number in numbers])[0]
    after = subject.swap_colours(before, numbers)
    shown = []
    for number in numbers:
        place = int((before[number] != after[number]).nonzero()[0])
        pair = pictures.grid(
            [pictures.to_pictures(torch.stack([drawn[name][number] for name in ("first", "swapped")]))]
        )
        shown.append(
            {
                "caption": subject.texts([subject.pairs[number]])[0],
                "change": f"{words[before[number][place]]} to {words[after[number][place]]}",
                "png": report.embedded(pair),
            }
        )
    return shown
