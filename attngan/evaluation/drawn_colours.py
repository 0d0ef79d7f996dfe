"""Drawn birds only: body and wing colours read off the pictures, against those that the captions name."""

from typing import Any

import torch

from attngan.data.toy import drawn_templates
from attngan.evaluation.measures import MetricMaker
from attngan.evaluation.picture_sets import EvaluationPictures
from attngan.metrics.colour_fidelity import read_colours
from attngan.metrics.figures import Figures
from attngan.pages import pictures, report
from attngan.runtime.console import say

COLOURED_PARTS = ("body", "wing")
SHOWN = 24  # pictures in the report


def colour_figures(
    subject: EvaluationPictures, maker: MetricMaker, palette: dict[str, list[int]]
) -> tuple[Figures, list[dict[str, Any]]]:
    """Return how often body and wing have the colour that their caption names, and some pictures for the report.

    Args:
        subject: draws birds of unseen pairs of colours, and reads real ones.
        maker: gives shares their intervals.
        palette: red, green, blue (0 to 255) of each colour that captions name.
    """
    settings, test = maker.settings, subject.test
    queries = subject.choose_queries(settings.num_colour_captions, naming=COLOURED_PARTS)
    if not queries:
        say(f"evaluate: no test caption names the colours of {' and '.join(COLOURED_PARTS)}, so none are read.")
        return {}, []
    names, colours = list(palette), torch.tensor(list(palette.values())) / 127.5 - 1
    templates = drawn_templates.part_templates()
    parts = [drawn_templates.PARTS.index(part) for part in COLOURED_PARTS]
    drawn, real = [], []
    for start in range(0, len(queries), settings.batch_size):
        part = queries[start : start + settings.batch_size]
        drawn.append(subject.generated(part, start, "colours").cpu())
        real.append(subject.real([query.image for query in part]).cpu())
    read = read_colours(torch.cat([*drawn, *real]), templates, colours)  # together: the templates' copy is 91 MiB
    read_drawn, read_real = read[:, parts].chunk(2)
    asked = [test.named_colours(query.image, query.caption) for query in queries]
    named = torch.tensor([[names.index(each[part]) for part in COLOURED_PARTS] for each in asked])
    number_of = {query: number for number, query in enumerate(queries)}
    named_by_others = named[[number_of[other] for other in subject.others_of(queries)]]
    answers = {
        "generated": read_drawn == named,
        "real": read_real == named,
        "shuffled": read_drawn == named_by_others,
    }
    figures = {
        f"{part}_colour": {who: maker.mean(right[:, column]) for who, right in answers.items()}
        for column, part in enumerate(COLOURED_PARTS)
    }
    shown = [
        {
            "caption": caption,
            "png": report.embedded(picture),
            "read": {part: names[index] for part, index in zip(COLOURED_PARTS, found, strict=True)},
            "right": dict(zip(COLOURED_PARTS, right, strict=True)),
        }
        for caption, picture, found, right in zip(
            subject.texts(queries[:SHOWN]),
            pictures.to_pictures(torch.cat(drawn)[:SHOWN]),
            read_drawn[:SHOWN].tolist(),
            answers["generated"][:SHOWN].tolist(),
            strict=True,
        )
    ]
    return figures, shown
