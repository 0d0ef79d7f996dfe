"""What an evaluation comes to: whether the model has learnt at all, and five figures in words."""

from collections.abc import Collection
from typing import TypedDict

from attngan.config.settings import Config
from attngan.metrics import names
from attngan.metrics.figures import Figure, Figures

GREY = 0.5  # of the contrast of real pictures: drawn ones with less are grey
NUM_LINES = 5
NOT_LEARNT = "The model has not learnt"
FIRST = (
    *("r_precision", names.SECOND_JUDGE, "body_colour", "wing_colour", "clip_score"),
    *("kid", "precision", "recall", "near_copies"),
)
# Of networks that give the same metric; the first four learnt from other pictures.
BEST_EYES = ("inception-fid", "inception-imagenet", "mobilenet-v2", "efficientnet-lite0", "damsm", "pixels")
SUBJECTS = {
    "real": "real pictures",
    "shuffled": "other captions",
    "noise": "noise",
    "blurred": "blurred pictures",
    "copies": "copies",
}


class Line(TypedDict):
    """A figure in words: its name, its value, and the same figure of two controls, or that one of them failed."""

    title: str
    value: str
    beside: str


def not_learnt(figures: Figures, config: Config) -> list[str]:
    """Return why a model has learnt nothing that it could be used for, a sentence each with what to change.

    Args:
        figures: all of an evaluation.
        config: the settings, of which those that count are named.
    """
    reasons = []
    longer = f"train the generator for more steps ({_length(config, 'training')})"
    found = figures["r_precision"]
    if not _is_above(found["generated"], found["shuffled"]):
        more = f"{longer}, or give more pictures."
        if not _is_above(found["real"], found["shuffled"]):
            more = (
                "nor do real pictures, so the encoders have not learnt: train them for longer "
                f"({_length(config, 'damsm')}) or faster (damsm.learning_rate), or give more pictures."
            )
        reasons.append(
            f"its pictures fit their own captions no better than those of other pictures "
            f"({_text(found['generated'])} against {_text(found['shuffled'])}); {more}"
        )
    for metric, subjects in figures.items():
        if metric.startswith("contrast_") and subjects["generated"].high < GREY * subjects["real"].value:
            share = subjects["generated"].value / subjects["real"].value
            reasons.append(f"its pictures are grey: they have {share:.0%} of the contrast of real ones; {longer}.")
    return reasons


def sentences(not_learnt: list[str]) -> list[str]:
    """Return in whole sentences whether the model has learnt, from what `not_learnt` found."""
    learnt = "The model has learnt: its pictures fit their own captions better than those of other pictures."
    return [f"{NOT_LEARNT}: {reason}" for reason in not_learnt] or [learnt]


def summary(figures: Figures, failed: Collection[str] = (), flattered: Collection[str] = ()) -> list[Line]:
    """Return the figures to read first, at most five.

    Args:
        figures: all of an evaluation.
        failed: metrics with a control that failed (`controls.failed`), which their lines say.
        flattered: networks that the generator was trained against (`extractors.trained_against`).
    """
    return [_line(metric, figures[metric], is_sound=metric not in failed) for metric in headline(figures, flattered)]


def lines(summary: list[Line]) -> list[str]:
    """Return a summary as people read it on a console."""
    width = max(len(line["title"]) for line in summary)
    return [f"  {line['title']:{width}}  {line['value']:>8}  ({line['beside']})" for line in summary]


def headline(figures: Figures, flattered: Collection[str] = ()) -> list[str]:
    """Return the names of the metrics to read first, at most five, each through the best eyes that there are.

    Networks that the generator was trained against come after others, and the DAMSM, whose word is its loss, last.
    """

    def rank(eyes: str) -> tuple[bool, int]:
        places = (place for place, each in enumerate(BEST_EYES) if eyes.startswith(each))
        return eyes in flattered or eyes.startswith("damsm"), next(places, len(BEST_EYES))

    chosen = []
    for kind in FIRST:
        there = [metric for metric in figures if metric == kind or metric.startswith(f"{kind}_")]
        if there:
            chosen.append(min(there, key=lambda metric: rank(metric[len(kind) + 1 :])))
    return chosen[:NUM_LINES]


def _line(metric: str, subjects: dict[str, Figure], *, is_sound: bool) -> Line:
    doubt = "" if is_sound else "not to be believed, its control failed: "
    beside = [
        f"{words} {names.text_of(metric, subjects[name].value)}" for name, words in SUBJECTS.items() if name in subjects
    ]
    value = names.text_of(metric, subjects["generated"].value)
    return {"title": names.words_of(metric).title, "value": value, "beside": doubt + ", ".join(beside[:2])}


def _length(config: Config, section: str) -> str:
    """Return the setting that says how long a training is, and its value."""
    settings = getattr(config, section)
    name = "steps" if settings.steps else "epochs"
    return f"{section}.{name}, now {getattr(settings, name):,}"


def _text(figure: Figure) -> str:
    return names.text_of("r_precision", figure.value)


def _is_above(one: Figure, other: Figure) -> bool:
    """Return whether a figure is above another one beyond what chance explains."""
    return one.low > other.high
