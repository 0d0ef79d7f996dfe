"""What a drawn bird is made of, and where its parts lie."""

import dataclasses
import math

Point = tuple[float, float]

CANVAS = 192  # pixels, side of a picture; the bird is about half as long


@dataclasses.dataclass(frozen=True)
class Bird:
    """What one picture shows; body and wing colour are its class."""

    body: str
    wing: str
    crown: str = "red"
    tail: str = "red"
    beak: str = "black"
    beak_length: str = "short"  # or "long"
    legs: str = "orange"
    scene: str = "branch"  # or "water", which hides the legs
    background: str = "sky"
    facing: str = "right"  # or "left"
    size: str = "small"  # or "medium"
    length: float = 0.5  # of the bird's own unit, as a share of the canvas
    tilt: float = 0.0  # degrees, beak up
    centre: Point = (0.5, 0.5)  # of the body, as shares of the canvas


def bird_parts(beak_length: str = "short") -> dict[str, list[Point]]:
    """Return the outline of each part, back to front, of a bird that faces right.

    The unit is roughly the bird's length without its beak; x points right, y down, the body's centre is the origin.
    """
    reach = 0.09 if beak_length == "short" else 0.20
    return {
        "tail": [(-0.26, -0.06), (-0.50, 0.02), (-0.53, 0.10), (-0.46, 0.16), (-0.20, 0.14)],
        "beak": [(0.36, -0.35), (0.39 + reach, -0.25), (0.36, -0.20)],
        "body": _ellipse((0.0, 0.0), 0.36, 0.29, -12),
        "head": _ellipse((0.25, -0.26), 0.165, 0.16, 0),
        "crown": _arc((0.25, -0.26), 0.168, 0.163, 180, 352),
        "wing": [*_arc((-0.05, -0.01), 0.27, 0.19, -100, 100, turn=10), (-0.43, 0.09), (-0.35, -0.06)],
    }


def place(points: list[Point], bird: Bird, size: float) -> list[Point]:
    """Move outline points from the bird's own units to pixels of a square picture with the given side."""
    angle = math.radians(-bird.tilt)
    mirror = 1 if bird.facing == "right" else -1
    unit = bird.length * size
    placed = []
    for x, y in points:
        turned_x = x * math.cos(angle) - y * math.sin(angle)
        turned_y = x * math.sin(angle) + y * math.cos(angle)
        placed.append((bird.centre[0] * size + mirror * unit * turned_x, bird.centre[1] * size + unit * turned_y))
    return placed


def bounding_box(bird: Bird, size: int = CANVAS) -> tuple[int, int, int, int]:
    """Return the (x, y, width, height) in whole pixels around everything the bird shows but its legs."""
    points = [point for outline in bird_parts(bird.beak_length).values() for point in place(outline, bird, size)]
    left, top = (math.floor(min(values)) for values in zip(*points, strict=True))
    right, bottom = (math.ceil(max(values)) for values in zip(*points, strict=True))
    return left, top, right - left, bottom - top


def _ellipse(centre: Point, a: float, b: float, turn: float) -> list[Point]:
    return _arc(centre, a, b, 0, 360, turn=turn)


def _arc(centre: Point, a: float, b: float, start: float, stop: float, *, turn: float = 0) -> list[Point]:
    """Return points along an ellipse from one angle to another, in degrees, clockwise on the screen from the right."""
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    points = []
    for step in range(49):
        angle = math.radians(start + (stop - start) * step / 48)
        x, y = a * math.cos(angle), b * math.sin(angle)
        points.append((centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine))
    return points
