"""The toy set: little birds drawn from a seed and written in the layout of CUB-200-2011.

A class is a combination of body and wing colour; crown, tail, beak, legs, pose and scene differ from picture to
picture. Test classes are pairs that no training class has, though training shows each colour on each part. The palette
and every image's attributes are kept, so that whether a picture follows its words can be computed
(`attngan.metrics.colour_fidelity`).
"""

import contextlib
import dataclasses
import itertools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

from attngan.data.toy import drawn_captions
from attngan.data.toy.drawn_geometry import CANVAS, Bird, bird_parts, bounding_box, place
from attngan.errors import InputError

Rgb = tuple[int, int, int]

PALETTE: dict[str, Rgb] = {
    "red": (224, 24, 30),
    "yellow": (244, 208, 44),
    "green": (30, 150, 62),
    "blue": (38, 84, 206),
    "white": (244, 244, 240),
    "black": (22, 22, 26),
    "purple": (156, 48, 180),
    "brown": (120, 80, 48),
}
BEAK_PALETTE: dict[str, Rgb] = {
    "yellow": (240, 196, 40),
    "orange": (240, 130, 30),
    "black": (34, 34, 38),
    "grey": (130, 132, 138),
}
BACKGROUNDS: dict[str, Rgb] = {
    "sky": (170, 204, 230),
    "meadow": (182, 210, 166),
    "sand": (222, 204, 172),
    "dusk": (196, 184, 204),
}
CAPTIONS_PER_IMAGE = 10
SUPERSAMPLING = 4
PALETTE_FILE = "palette.json"
UNFINISHED = ".unfinished-birds"  # inside the folder, until all of them are drawn

# Body and wing colour of a test class lie half the palette apart: red and white, yellow and black, green and purple,
# blue and brown. So a pair of colours is in training in both orders or in neither: which of the two is the wing's must
# be read, it cannot be guessed.
TEST_OFFSET = 4


def bird_classes() -> list[tuple[Bird, bool]]:
    """Return every class as a bird with its attributes, and whether it is a test class."""
    colours = list(PALETTE)
    classes = []
    for (i, body), (j, wing) in itertools.permutations(enumerate(colours), 2):
        look = Bird(body=body, wing=wing)
        classes.append((look, (j - i) % len(colours) == TEST_OFFSET))
    return classes


def draw_bird(bird: Bird, jitter: random.Random, size: int = CANVAS) -> Image.Image:
    """Draw one bird, anti-aliased; `jitter` varies the colours a little from picture to picture."""
    large = size * SUPERSAMPLING
    picture = Image.new("RGB", (large, large), _vary(BACKGROUNDS[bird.background], jitter, 10))
    pen = ImageDraw.Draw(picture)
    unit = bird.length * large
    _draw_scene(pen, bird, jitter, large)
    colours = {
        "tail": PALETTE[bird.tail],
        "beak": BEAK_PALETTE[bird.beak],
        "body": PALETTE[bird.body],
        "head": PALETTE[bird.body],
        "crown": PALETTE[bird.crown],
        "wing": PALETTE[bird.wing],
    }
    varied = {part: _vary(colour, jitter, 10) for part, colour in colours.items()}
    varied["head"] = varied["body"]
    if bird.crown == bird.body:
        varied["crown"] = varied["body"]
    for part, outline in bird_parts(bird.beak_length).items():
        pen.polygon(place(outline, bird, large), fill=varied[part])
    edge = _shade(varied["wing"], 0.78 if sum(varied["wing"]) > 150 else 1.9)
    for feather in ([(-0.02, 0.10), (-0.34, 0.085)], [(0.07, 0.04), (-0.33, 0.03)], [(0.08, -0.04), (-0.27, -0.04)]):
        pen.line(place(feather, bird, large), fill=edge, width=round(unit * 0.012))
    eye = place([(0.30, -0.27)], bird, large)[0]
    for radius, colour in ((0.036, (250, 250, 250)), (0.026, (12, 12, 12))):
        reach = radius * unit
        pen.ellipse((eye[0] - reach, eye[1] - reach, eye[0] + reach, eye[1] + reach), fill=colour)
    if bird.scene == "water":
        _draw_water(pen, bird, jitter, large)
    return picture.resize((size, size), Image.Resampling.BOX)


def random_bird(look: Bird, draw: random.Random) -> Bird:
    """Give a class's look everything that differs from picture to picture."""
    size = draw.choice(["small", "medium"])
    return dataclasses.replace(
        look,
        crown=draw.choice([look.body, look.body, draw.choice(list(PALETTE))]),
        tail=draw.choice([look.body, look.wing]),
        beak=draw.choice(list(BEAK_PALETTE)),
        beak_length=draw.choice(["short", "long"]),
        legs=draw.choice(list(BEAK_PALETTE)),
        scene=draw.choice(["branch", "branch", "water"]),
        background=draw.choice(list(BACKGROUNDS)),
        facing=draw.choice(["left", "right"]),
        size=size,
        length=draw.uniform(0.40, 0.45) if size == "small" else draw.uniform(0.45, 0.50),
        tilt=draw.uniform(-6, 6),
        centre=(draw.uniform(0.46, 0.54), draw.uniform(0.46, 0.54)),
    )


def draw(out: Path, *, count: int, seed: int, advance: Callable[[int], None] = lambda done: None) -> None:
    """Write `count` drawn birds with ten captions each in CUB's layout, byte for byte the same for the same seed.

    They are drawn in a hidden folder inside `out`, and take their places when all are there: an interrupted try leaves
    `out` as it was, and where it was killed the next one replaces what it left.

    Args:
        out: a new or empty folder.
        count: number of pictures; the classes take turns, so at least one a class.
        seed: every picture's random state derives from it and the picture's number.
        advance: told after each picture that one more is done.

    Raises:
        InputError: the folder holds something, or the count is below the number of classes.
    """
    classes = bird_classes()
    if count < len(classes):
        raise InputError(f"--count {count}: expected at least {len(classes)}, one bird for each class.")
    is_new = not out.exists()
    if not is_new and (not out.is_dir() or any(path.name != UNFINISHED for path in out.iterdir())):
        raise InputError(f"{out}: expected a new or empty folder for the drawn birds; name another one or empty it.")
    draft = out / UNFINISHED
    try:
        shutil.rmtree(draft, ignore_errors=True)
        _draw_all(draft, classes, count, seed, advance)
        for path in sorted(draft.iterdir(), key=lambda path: path.name == PALETTE_FILE):  # by the last all are there
            path.rename(out / path.name)
        draft.rmdir()
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):  # others have put something there meanwhile
                out.rmdir()
        raise


def _draw_all(
    out: Path, classes: list[tuple[Bird, bool]], count: int, seed: int, advance: Callable[[int], None]
) -> None:
    names = [f"{number:03d}.{_class_name(look)}" for number, (look, _) in enumerate(classes, start=1)]
    for name in names:
        (out / "images" / name).mkdir(parents=True)
        (out / "text" / name).mkdir(parents=True)
    lists: dict[str, list[str]] = {name: [] for name in ("images", "boxes", "labels", "split", "attributes")}
    for index in range(count):
        number = index % len(classes)
        look, is_test = classes[number]
        state = random.Random(f"drawn bird {seed} {index}")
        bird = random_bird(look, state)
        file = f"{names[number]}/{_class_name(look)}_{index // len(classes) + 1:04d}_{index + 1}"
        draw_bird(bird, state).save(out / "images" / f"{file}.jpg", quality=92, subsampling=0)
        captions = [drawn_captions.describe(bird, state) for _ in range(CAPTIONS_PER_IMAGE)]
        (out / "text" / f"{file}.txt").write_text("\n".join(text for text, _ in captions) + "\n", encoding="utf-8")
        lists["images"].append(f"{index + 1} {file}.jpg")
        lists["boxes"].append(f"{index + 1} " + " ".join(f"{value:.1f}" for value in bounding_box(bird)))
        lists["labels"].append(f"{index + 1} {number + 1}")
        lists["split"].append(f"{index + 1} {int(not is_test)}")
        attributes = {"file": f"{file}.jpg", **dataclasses.asdict(bird), "named": [named for _, named in captions]}
        lists["attributes"].append(json.dumps(attributes))
        advance(1)
    lists["classes"] = [f"{number} {name}" for number, name in enumerate(names, start=1)]
    lists["tests"] = [str(number) for number, (_, is_test) in enumerate(classes, start=1) if is_test]
    _write_lists(out, lists)


def _write_lists(out: Path, lists: dict[str, list[str]]) -> None:
    files = {
        "images.txt": "images",
        "bounding_boxes.txt": "boxes",
        "image_class_labels.txt": "labels",
        "train_test_split.txt": "split",
        "classes.txt": "classes",
        "test_classes.txt": "tests",
        "attributes.jsonl": "attributes",
    }
    for file, key in files.items():
        (out / file).write_text("\n".join(lists[key]) + "\n", encoding="utf-8")
    (out / PALETTE_FILE).write_text(json.dumps(PALETTE, indent=2) + "\n", encoding="utf-8")


def _draw_scene(pen: ImageDraw.ImageDraw, bird: Bird, jitter: random.Random, size: int) -> None:
    if bird.scene == "water":
        return
    unit = bird.length * size
    height = bird.centre[1] * size + 0.46 * unit
    wood = _vary((104, 84, 70), jitter, 8)
    slope = jitter.uniform(-0.04, 0.04) * size
    pen.line([(0, height + slope), (size, height - slope)], fill=wood, width=round(0.075 * unit))
    for x in (-0.06, 0.08):
        hip, foot = place([(x, 0.22), (x + 0.02, 0.46)], bird, size)
        pen.line([hip, (foot[0], height)], fill=BEAK_PALETTE[bird.legs], width=round(0.032 * unit))


def _draw_water(pen: ImageDraw.ImageDraw, bird: Bird, jitter: random.Random, size: int) -> None:
    unit = bird.length * size
    surface = bird.centre[1] * size + 0.215 * unit
    water = _vary((104, 158, 186), jitter, 8)
    pen.rectangle((0, surface, size, size), fill=water)
    for _ in range(6):
        x, y = jitter.uniform(-0.1, 0.9) * size, surface + jitter.uniform(0.04, 0.5) * unit
        pen.line([(x, y), (x + 0.3 * unit, y)], fill=_shade(water, 1.12), width=round(0.018 * unit))


def _class_name(look: Bird) -> str:
    return f"{look.body.capitalize()}_Body_{look.wing.capitalize()}_Wing"


def _vary(colour: Rgb, jitter: random.Random, amount: int) -> Rgb:
    return tuple(min(255, max(0, value + jitter.randint(-amount, amount))) for value in colour)  # type: ignore[return-value]


def _shade(colour: Rgb, factor: float) -> Rgb:
    return tuple(min(255, round(value * factor)) for value in colour)  # type: ignore[return-value]
