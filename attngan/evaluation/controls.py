"""Whether the controls land where they must, and what the figures say of the generator, in words."""

from collections.abc import Callable, Collection

from attngan.metrics import names
from attngan.metrics.figures import Figure, Figures

SAME = 1e-3  # of a change where nothing was changed
Subjects = dict[str, Figure]


def failed(figures: Figures) -> dict[str, list[str]]:
    """Return by metric a sentence for each control that did not land where it must: it cannot be trusted here.

    Args:
        figures: all of an evaluation.
    """
    sentences: dict[str, list[str]] = {}
    for metric, subjects in figures.items():
        for kind, must, otherwise in _RULES:
            if metric.startswith(kind) and not must(subjects):
                title = names.words_of(metric).title
                sentences.setdefault(metric, []).append(f"{title}: {otherwise} ({_values(subjects)}).")
        if metric.startswith("r_precision"):
            chance = 1 / subjects["noise"].candidates
            if subjects["noise"].low > 3 * chance:
                sentences.setdefault(metric, []).append(
                    f"{names.words_of(metric).title}: pictures of noise find their captions more often than by chance, "
                    f"{chance:.1%} ({_values(subjects)})."
                )
    return sentences


def findings(figures: Figures) -> list[str]:
    """Return a sentence for each thing about the generator that whoever reads the figures should know.

    What cannot be trusted says nothing.
    """
    sentences, untrusted = [], failed(figures)
    for metric, subjects in figures.items():
        if metric in untrusted:
            continue
        generated = subjects["generated"]
        begin = f"{names.words_of(metric).title}, {names.text_of(metric, generated.value)}:"
        if metric == "r_precision" and generated.value > subjects["real"].value:
            sentences.append(f"{begin} more than real pictures reach. {_of_second_judge(figures, untrusted)}")
        sentences += [
            f"{begin} {what}" for kind, is_so, what in _FINDINGS if metric.startswith(kind) and is_so(subjects)
        ]
    return sentences


def flattered(extractor: str) -> str:
    """Return what to think of figures through a network that the generator was trained against, by its name."""
    return (
        f"The generator was trained against what {names.eyes_of(extractor)} sees, so figures by it flatter the "
        "pictures: believe the metrics that it did not see."
    )


def _of_second_judge(figures: Figures, untrusted: Collection[str]) -> str:
    """Return what to think of a generator that its own judge puts above real pictures."""
    pleases = "The generator was trained against this judge, and pleases it more than the truth does"
    if names.SECOND_JUDGE not in figures:
        return f"{pleases}: believe the metrics that it did not see."
    second = "The second judge, which it did not see,"
    if names.SECOND_JUDGE in untrusted:
        return f"{pleases}. {second} cannot be believed either: its control failed."
    generated, real = (figures[names.SECOND_JUDGE][each] for each in ("generated", "real"))
    values = " against ".join(names.text_of(names.SECOND_JUDGE, each.value) for each in (generated, real))
    if generated.low > real.high:
        return f"{second} agrees ({values}): what captions ask for is easier to see in its pictures than in real ones."
    said = "does not agree" if generated.high < real.low else "sees no difference beyond chance"
    return f"{pleases}. {second} {said} ({values}): believe that one."


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
