"""Whether the controls land where they must, and what the figures say of the generator, in words."""

from collections.abc import Callable

from attngan.metrics import names
from attngan.metrics.figures import Figure, Figures

SAME = 1e-3  # of a change where nothing was changed
Subjects = dict[str, Figure]


def broken(figures: Figures) -> list[str]:
    """Return a sentence for each control that did not land where it must: that metric cannot be trusted here.

    Args:
        figures: all of an evaluation.
    """
    sentences = []
    for metric, subjects in figures.items():
        for kind, must, otherwise in _RULES:
            if metric.startswith(kind) and not must(subjects):
                sentences.append(f"{metric}: {otherwise} ({_values(subjects)}).")
    found = figures["r_precision"]
    chance = 1 / found["noise"].candidates
    if found["noise"].low > 3 * chance:
        sentences.append(
            f"r_precision: pictures of noise find their captions more often than by chance, {chance:.1%} "
            f"({_values(found)})."
        )
    return sentences


def findings(figures: Figures) -> list[str]:
    """Return a sentence for each thing about the generator that whoever reads the figures should know."""
    sentences = []
    for metric, subjects in figures.items():
        generated = subjects["generated"]
        for kind, is_so, what in _FINDINGS:
            if metric.startswith(kind) and is_so(subjects):
                sentences.append(f"{names.words_of(metric).title}, {names.text_of(metric, generated.value)}: {what}")
    return sentences


def _values(subjects: Subjects) -> str:
    return ", ".join(f"{name} {figure.value:.4g}" for name, figure in subjects.items())


def _is_nearest(subjects: Subjects) -> bool:
    return subjects["real"].value < min(subjects["noise"].value, subjects["blurred"].value)


def _real_above(*others: str) -> Callable[[Subjects], bool]:
    return lambda subjects: all(subjects["real"].value > subjects[other].value for other in others)


_RULES: list[tuple[str, Callable[[Subjects], bool], str]] = [
    ("kid_", _is_nearest, "real pictures are not nearer to real ones than noise and blurred ones are"),
    ("fid_", _is_nearest, "real pictures are not nearer to real ones than noise and blurred ones are"),
    ("precision_", _real_above("noise"), "noise lies among real pictures as often as real ones do"),
    ("recall_", _real_above("noise"), "real pictures lie among noise as often as among real ones"),
    ("inception_score_", _real_above("noise"), "noise scores no lower than real pictures"),
    (
        "r_precision",
        _real_above("shuffled", "noise"),
        "real pictures find their captions no better than shuffled or noise",
    ),
    ("body_colour", lambda subjects: subjects["real"].value >= 0.9, "colours of real pictures are misread"),
    ("wing_colour", lambda subjects: subjects["real"].value >= 0.9, "colours of real pictures are misread"),
    ("body_colour", _real_above("shuffled"), "shuffled captions are found as often as the right ones"),
    ("wing_colour", _real_above("shuffled"), "shuffled captions are found as often as the right ones"),
    ("clip_score_", _real_above("shuffled"), "real pictures fit their captions no better than shuffled ones"),
    ("diversity_", lambda subjects: subjects["held"].value <= SAME, "the same caption and noise gave two pictures"),
    ("swap_", lambda subjects: subjects["held"].value <= SAME, "the same caption and noise gave two pictures"),
    ("near_copies_", lambda subjects: subjects["copies"].value > 0.99, "copies of training pictures are not noticed"),
    ("near_copies_", lambda subjects: subjects["real"].value < 0.1, "held-out pictures count as copies"),
]

_FINDINGS: list[tuple[str, Callable[[Subjects], bool], str]] = [
    (
        "r_precision",
        lambda subjects: subjects["generated"].value > subjects["real"].value,
        "more than real pictures reach. The generator was trained against this judge, and pleases it more than the "
        "truth does: believe the metrics that it did not see.",
    ),
    (
        "near_copies_",
        lambda subjects: subjects["generated"].low > max(subjects["real"].high, subjects["blurred"].high, 0.05),
        "more than held-out pictures show, blurred or not. The generator may repeat its training pictures; look at the "
        "pairs in the report.",
    ),
    (
        "diversity_",
        lambda subjects: subjects["generated"].high < 0.1,
        "pictures of one caption are nearly the same whatever the noise.",
    ),
    (
        "swap_",
        lambda subjects: subjects["generated"].high < 0.05,
        "changing the colour word hardly changes the picture: the words are not read.",
    ),
    (
        "kid_",
        lambda subjects: subjects["generated"].low > subjects["blurred"].value,
        "further from real pictures than blurred ones are.",
    ),
]
