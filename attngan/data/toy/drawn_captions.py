"""Captions of drawn birds, in the manner of CUB's: synonyms, omissions, changing orders."""

import random
import re
from typing import Protocol

COLOUR_WORDS = {
    "red": [*["red"] * 8, "crimson", "scarlet"],
    "yellow": [*["yellow"] * 8, "golden"],
    "green": [*["green"] * 8, "emerald"],
    "blue": [*["blue"] * 8, "azure"],
    "purple": [*["purple"] * 8, "violet"],
    "brown": [*["brown"] * 8, "chestnut"],
    "black": [*["black"] * 8, "jet black"],
    "white": [*["white"] * 8, "snowy white"],
    "orange": ["orange"],
    "grey": ["grey", "gray"],
}
SIZE_WORDS = {"small": ["small", "small", "little", "tiny"], "medium": ["medium sized", "large", "big"]}


class DescribedBird(Protocol):
    """The attributes that a caption can name."""

    body: str
    wing: str
    crown: str
    tail: str
    beak: str
    beak_length: str
    legs: str
    scene: str
    size: str


def describe(bird: DescribedBird, draw: random.Random) -> tuple[str, list[str]]:
    """Return one caption, and which of body, wing, crown, tail, beak and legs it names.

    Args:
        bird: what the picture shows.
        draw: the random state; calling again gives another wording.
    """
    named = [part for part, chance in _CHANCES if draw.random() < chance]
    if bird.scene == "water" and "legs" in named:
        named.remove("legs")
    if not {"body", "wing"} & set(named):
        named.insert(0, "body")
    size = f"{draw.choice(SIZE_WORDS[bird.size])} " if draw.random() < 0.5 else ""
    place = draw.choice(_PLACES[bird.scene]) if draw.random() < 0.2 else ""
    if "body" in named and draw.random() < 0.35:
        rest = [part for part in named if part != "body"]
        opening = draw.choice(
            [f"a {size}{{}} bird", f"this {size}{{}} bird", f"{{}} {size}bird", f"the bird is {size}{{}}"]
        )
        joint = "with" if opening.startswith("the") else draw.choice(["with", "with", "that has"])
        opening = opening.format(_colour(bird.body, draw))
    else:
        rest = list(named)
        opening, joint = draw.choice(
            [
                (f"this {size}bird", "has"),
                (f"a {size}bird", "with"),
                (f"the {size}bird", "has"),
                (f"{size}bird", "with"),
            ]
        )
    draw.shuffle(rest)
    phrases = [_phrase(part, bird, draw) for part in rest]
    caption = " ".join(filter(None, [opening, joint if phrases else "", _join(phrases, draw), place]))
    return re.sub(r"\ba (?=[aeiou])", "an ", caption), sorted(named)


_CHANCES = (("body", 0.8), ("wing", 0.75), ("crown", 0.25), ("beak", 0.3), ("tail", 0.15), ("legs", 0.1))
_PLACES = {
    "branch": ["sitting on a branch", "on a branch", "perched on a twig"],
    "water": ["swimming on the water", "on a lake", "floating on water"],
}


def _colour(name: str, draw: random.Random) -> str:
    bright = draw.choice(["bright ", "vivid ", "deep "]) if draw.random() < 0.12 else ""
    return bright + draw.choice(COLOUR_WORDS[name])


def _phrase(part: str, bird: DescribedBird, draw: random.Random) -> str:
    if part == "body":
        return draw.choice(["a {} body", "a {} body", "a {} breast and belly", "{} feathers on its body"]).format(
            _colour(bird.body, draw)
        )
    if part == "wing":
        return draw.choice(["{} wings", "{} wings", "a {} wing", "wings that are {}"]).format(_colour(bird.wing, draw))
    if part == "crown":
        return draw.choice(["a {} crown", "a {} crown", "a {} cap"]).format(_colour(bird.crown, draw))
    if part == "tail":
        return f"a {_colour(bird.tail, draw)} tail"
    if part == "legs":
        return draw.choice(["{} legs", "{} feet"]).format(_colour(bird.legs, draw))
    length = f"{bird.beak_length} " if draw.random() < 0.7 else ""
    return f"a {length}{_colour(bird.beak, draw)} {draw.choice(['beak', 'beak', 'bill'])}"


def _join(phrases: list[str], draw: random.Random) -> str:
    if len(phrases) < 2:
        return "".join(phrases)
    last = draw.choice([" and ", " and ", ", and ", " as well as "])
    return ", ".join(phrases[:-1]) + last + phrases[-1]
