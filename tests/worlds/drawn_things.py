"""Little cars and houses with captions, in the layout of `captions.jsonl`: a set of one's own whose truth is known."""

import json
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {
    "red": (214, 40, 40),
    "blue": (40, 84, 206),
    "green": (38, 150, 62),
    "yellow": (240, 200, 40),
    "white": (244, 244, 240),
    "black": (28, 28, 32),
}
GROUNDS = {"grass": (122, 184, 92), "sand": (222, 200, 150), "a road": (150, 150, 155)}
SIDE = 96  # pixels


def draw(folder: Path, count: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Draw so many pictures into a new folder, and return what each shows: thing, body, part, ground."""
    folder.mkdir(parents=True)
    dice, shown, lines = random.Random(seed), [], []
    for number in range(count):
        body, part = dice.sample(list(COLOURS), 2)
        facts = {
            "thing": dice.choice(("car", "house")),
            "body": body,
            "part": part,
            "ground": dice.choice(list(GROUNDS)),
        }
        _picture(facts, dice).save(folder / f"{number:04d}.png")
        lines.append(json.dumps({"file": f"{number:04d}.png", "captions": _captions(facts)}))
        shown.append(facts)
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return shown


def _captions(facts: dict[str, str]) -> list[str]:
    thing, body, part, ground = facts.values()
    other = "roof" if thing == "car" else "door"
    return [
        f"a {body} {thing} with a {part} {other} on {ground}",
        f"the {thing} is {body}, its {other} is {part}",
        f"{body} {thing}, {part} {other}",
    ]


def _picture(facts: dict[str, str], dice: random.Random) -> Image.Image:
    thing, body, part, ground = facts.values()
    large = 4 * SIDE  # drawn larger, for smooth edges
    picture = Image.new("RGB", (large, large), tuple(value + dice.randint(-12, 12) for value in (186, 212, 236)))
    pen = ImageDraw.Draw(picture)
    horizon = large * (0.68 + 0.06 * dice.random())
    pen.rectangle((0, horizon, large, large), fill=GROUNDS[ground])
    x, y, size = (
        large * (0.5 + 0.1 * (dice.random() - 0.5)),
        horizon + 0.06 * large,
        large * (0.52 + 0.1 * dice.random()),
    )
    fill, other, dark = COLOURS[body], COLOURS[part], (50, 50, 55)
    left, right = x - size / 2, x + size / 2
    if thing == "car":
        pen.rounded_rectangle((left + 0.2 * size, y - 0.52 * size, right - 0.2 * size, y - 0.2 * size), 18, fill=other)
        pen.rounded_rectangle((left, y - 0.32 * size, right, y - 0.06 * size), 22, fill=fill)
        for wheel in (left + 0.22 * size, right - 0.22 * size):
            pen.ellipse((wheel - 0.1 * size, y - 0.15 * size, wheel + 0.1 * size, y + 0.05 * size), fill=dark)
    else:
        pen.rectangle((left + 0.1 * size, y - 0.55 * size, right - 0.1 * size, y), fill=fill)
        pen.polygon(((left, y - 0.55 * size), (x, y - 0.95 * size), (right, y - 0.55 * size)), fill=(120, 84, 70))
        pen.rectangle((x - 0.1 * size, y - 0.34 * size, x + 0.12 * size, y), fill=other)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), int(sys.argv[2]))
