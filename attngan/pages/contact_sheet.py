"""The contact sheet of a dataset: some pictures as training sees them, each with a caption, on one JPEG."""

import functools
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from attngan.storage import artifacts

FILE = "contact-sheet.jpg"
COUNT, COLUMNS = 24, 6
SIDE, GAP = 128, 8  # pixels: of a picture, and around it
FONT_SIZE, LINE_HEIGHT, MOST_LINES = 11, 14, 3
CAPTION_HEIGHT = MOST_LINES * LINE_HEIGHT
MOST_READ = 400  # characters of a caption; three lines hold far fewer
QUALITY = 90


def save(pictures: Sequence[Image.Image], captions: Sequence[str], path: Path) -> None:
    """Write the contact sheet of some pictures and their captions, atomically."""
    with artifacts.atomic_file(path) as handle:
        draw(pictures, captions).save(handle, "JPEG", quality=QUALITY)


def draw(pictures: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Lay pictures of `SIDE` x `SIDE` pixels out in rows, each with its caption below."""
    width, height = SIDE + GAP, SIDE + GAP + CAPTION_HEIGHT
    num_rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width + GAP, num_rows * height + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = GAP + number % COLUMNS * width, GAP + number // COLUMNS * height
        sheet.paste(picture, (left, top))
        for line_number, line in enumerate(lines_of(caption)):
            pen.text((left, top + SIDE + 1 + line_number * LINE_HEIGHT), line, fill="black", font=_font())
    return sheet


def lines_of(caption: str) -> list[str]:
    """Break a caption into lines as wide as a picture; what does not fit into `MOST_LINES` gives way to "..."."""
    lines, words = [""], _printable(caption[:MOST_READ]).split()
    while words:
        longer = f"{lines[-1]} {words[0]}".strip()
        if _is_narrow(longer):
            lines[-1] = longer
            words.pop(0)
        elif lines[-1]:
            lines.append("")
        else:  # a word that is wider than a line
            kept = _longest_start(words[0])
            lines[-1], words[0] = kept, words[0][len(kept) :]
            lines.append("")
        if len(lines) > MOST_LINES:
            lines[MOST_LINES - 1 :] = [_longest_start(lines[MOST_LINES - 1], "...") + "..."]
            break
    return lines


def _longest_start(text: str, end: str = "") -> str:
    """Return as many of the first characters as fit into a line before `end`, at least one."""
    count = len(text)
    while count > 1 and not _is_narrow(text[:count] + end):
        count -= 1
    return text[:count]


def _is_narrow(line: str) -> bool:
    return _font().getlength(line) <= SIDE


def _printable(caption: str) -> str:
    """Return a caption with spaces for what a font cannot draw; characters that it lacks become boxes."""
    return "".join(character if character.isprintable() else " " for character in caption)


@functools.cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=FONT_SIZE)
