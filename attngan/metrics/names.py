"""What figures are called for people: "looks real (precision), by the encoders" is `precision_damsm-5a00e006`."""

from typing import NamedTuple


class Words(NamedTuple):
    """A metric in words.

    Attributes:
        title: short, with the field's name for it.
        meaning: one line.
        is_share: counts pictures, and is shown as per cent.
        better: "high" or "low", whichever of two models has it so is better; "" where that is not known.
    """

    title: str
    meaning: str
    is_share: bool = False
    better: str = ""


SECOND_JUDGE = "r_precision_second_judge"
METRICS = {  # by what the name of a figure begins with; the longer of two that begin alike comes first
    SECOND_JUDGE: Words(
        "fits its caption (R-precision), by a second judge",
        "the same, judged by other encoders, against which the generator was not trained",
        is_share=True,
        better="high",
    ),
    "r_precision": Words(
        "fits its caption (R-precision)",
        "its own caption beats those of other pictures, of other classes and texts, judged by the encoders",
        is_share=True,
        better="high",
    ),
    "body_colour": Words(
        "body colour", "the bird's body has the colour its caption names, read off the picture", True, better="high"
    ),
    "wing_colour": Words(
        "wing colour", "the bird's wing has the colour its caption names, read off the picture", True, better="high"
    ),
    "kid": Words(
        "distance from real pictures (KID)",
        "kernel distance; 0 is as good as real, unbiased at any number",
        better="low",
    ),
    "fid": Words(
        "distance from real pictures (FID)",
        "Fréchet distance; too high by a bias that grows as pictures get fewer",
        better="low",
    ),
    "precision": Words(
        "looks real (precision)", "share of generated pictures that lie among real ones", True, better="high"
    ),
    "recall": Words("variety (recall)", "share of real pictures that lie among generated ones", True, better="high"),
    "inception_score": Words(
        "Inception Score", "sure of a class and many classes, of the network's own classes", better="high"
    ),
    "near_copies": Words(
        "near copies", "nearer to a training picture than 99 % of held-out real pictures are", True, better="low"
    ),
    "nearest_distance": Words("distance from the nearest training picture", "the mean over generated pictures"),
    "contrast": Words("contrast", "spread of the colours within a picture, seen from afar; a grey one has none"),
    "diversity": Words(
        "change with the noise", "distance of two pictures of one caption, in distances of two real pictures"
    ),
    "swap": Words(
        "change with a colour word", "of the picture when one is exchanged, in distances of two real pictures"
    ),
    "clip_score": Words("CLIP score", "100 times CLIP's cosine of picture and caption", better="high"),
    "variety": Words("variety", "distance of two generated pictures, in distances of two real ones"),
}
WITHOUT_EYES = (SECOND_JUDGE, "r_precision", "body_colour", "wing_colour")  # the others name the network that looked
EYES = {  # by what the name of an extractor begins with
    "damsm": "the encoders",
    "pixels": "pixels",
    "inception-fid": "Inception (of the published FIDs)",
    "inception-imagenet": "Inception (of ImageNet)",
    "mobilenet-v2": "MobileNetV2 (of ImageNet)",
    "efficientnet-lite0": "EfficientNet-Lite0 (of ImageNet)",
    "clip": "CLIP",
}

CONTROLS = {  # what the name of a control's figure ends with
    "real": "real pictures",
    "shuffled": "captions of others",
    "noise": "noise",
    "blurred": "blurred pictures",
    "copies": "training pictures",
    "held": "noise held",
    "other_caption": "another caption",
}


def eyes_of(extractor: str) -> str:
    """Return the words for an extractor by its name, or the name where nobody knows it."""
    return next((EYES[each] for each in EYES if extractor.startswith(each)), extractor)


def words_of(name: str) -> Words:
    """Return the words of a figure by its name, with the network that looks; KeyError where nobody knows it."""
    kind, eyes = _parts_of(name)
    if kind is None:
        raise KeyError(name)
    is_known = any(eyes.startswith(each) for each in EYES) and kind != "clip_score"
    return METRICS[kind]._replace(title=f"{METRICS[kind].title}, by {eyes_of(eyes)}") if is_known else METRICS[kind]


def _parts_of(name: str) -> tuple[str | None, str]:
    """Return which of `METRICS` a figure is of, None where it is of none, and the rest of its name."""
    kind = next((kind for kind in METRICS if name == kind or name.startswith(f"{kind}_")), None)
    return kind, name[len(kind or "") + 1 :]


def is_of_a_model(name: str) -> bool:
    """Return whether an evaluation may have a figure of this name, and of generated pictures: not one of a control."""
    kind, eyes = _parts_of(name)
    if kind is None or any(name.endswith(f"_{control}") for control in CONTROLS):
        return False
    return not eyes if kind in WITHOUT_EYES else eyes_of(eyes) in EYES.values()


def is_higher_better(name: str, *, otherwise: bool) -> bool:
    """Return whether the better of two models has more of a figure; `otherwise` where that is not known."""
    better = words_or_name(name).better
    return better == "high" if better else otherwise


def words_or_name(name: str) -> Words:
    """Return the words of a figure, or its name for one that nobody knows, as of another version of attngan."""
    try:
        return words_of(name)
    except KeyError:
        return Words(name, "")


def text_of(name: str, value: float) -> str:
    """Return a figure as people read it."""
    return f"{100 * value:.1f}\u00a0%" if words_or_name(name).is_share else f"{value:.3g}"
