"""The report of an evaluation: one page with every figure beside its controls, and pictures to look at."""

from typing import Any

import torch
from torch import Tensor

from attngan.evaluation import controls
from attngan.evaluation.measures import Figures
from attngan.evaluation.picture_sets import EvaluationPictures
from attngan.pages import pictures, report

NUM_COPIES, NUM_SWAPS = 6, 6
MEANINGS = {
    "r_precision": "its own caption beats those of other pictures, of other classes and texts, judged by the DAMSM",
    "body_colour": "the bird's body has the colour its caption names, read off the picture",
    "wing_colour": "the bird's wing has the colour its caption names, read off the picture",
    "kid": "kernel distance from real test pictures; 0 is as good as real, unbiased at any number",
    "fid": "Fréchet distance from real test pictures; too high by a bias that grows as pictures get fewer",
    "precision": "lies among real pictures: looks real",
    "recall": "share of real pictures that lie among these: variety",
    "inception_score": "sure of a class and many classes, of the network's own classes",
    "near_copies": "nearer to a training picture than 99 % of held-out real pictures are",
    "nearest_distance": "mean distance to the nearest training picture",
    "diversity": "distance of two pictures of one caption, in distances of two real pictures",
    "swap": "change of the picture when one colour word is swapped, in distances of two real pictures",
    "clip_score": "100 times CLIP's cosine of picture and caption",
}


def page(
    figures: Figures, conditions: dict[str, Any], broken: list[str], findings: list[str], shown: dict[str, Any]
) -> str:
    """Return the report as HTML.

    Args:
        figures: metric -> whose pictures -> figure.
        conditions: of all of them.
        broken: a sentence for each control that did not land where it must.
        findings: what else is to be known.
        shown: "colours", "copies", "swaps": pictures with what is said of them.
    """
    rows = []
    for metric, subjects in figures.items():
        scale, number = (100, "{:.1f}") if controls.is_share(metric) else (1, "{:.3g}")
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
        kind = next((kind for kind in MEANINGS if metric.startswith(kind)), None)
        assert kind, f"MEANINGS says nothing of {metric}"
        unit = "%" if controls.is_share(metric) else ""
        rows.append({"metric": metric, "cells": cells, "meaning": MEANINGS[kind], "unit": unit, "counts": counts})
    return report.render("report.html.j2", rows=rows, conditions=conditions, broken=broken, findings=findings, **shown)


def copies(subject: EvaluationPictures, distances: Tensor, nearest: Tensor) -> list[dict[str, str]]:
    """Return the generated pictures that are nearest to training pictures, with those."""
    chosen = distances.argsort()[:NUM_COPIES].tolist()
    shown = []
    for number in chosen:
        query = subject.queries[number]
        generated = subject.generated([query], number)
        real = subject.real([int(nearest[number])], subject.train)
        pair = pictures.grid([pictures.to_pictures(torch.cat([generated, real]))])
        shown.append({"caption": subject.texts([query])[0], "png": report.embedded(pair)})
    return shown


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
