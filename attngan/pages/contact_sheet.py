"""Contact sheets: pictures of a dataset as training sees them, each with a caption; what was drawn of sentences."""

import functools
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from attngan.storage import artifacts

FILE = "contact-sheet.jpg"  # of a dataset
COUNT, COLUMNS = 24, 6
SIDE, GAP = 128, 8  # pixels: of a picture, and around it
FONT_SIZE, LINE_HEIGHT, MOST_LINES = 11, 14, 3
CAPTION_HEIGHT = MOST_LINES * LINE_HEIGHT
QUALITY = 90
ROW_GAP = 4  # pixels around a picture that was drawn of a sentence
ROW_WIDTH = 400  # pixels, at least, so that the sentence above can be read
SENTENCE_SIZE, SENTENCE_HEIGHT, SENTENCE_LINES = 12, 16, 2
MOST_READ = 1000  # characters of a text; three lines hold far fewer
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def save(pictures: Sequence[Image.Image], captions: Sequence[str], path: Path) -> None:
    """Write the contact sheet of a dataset's pictures and their captions, atomically."""
    with artifacts.atomic_file(path) as handle:
        of_dataset(pictures, captions).save(handle, "JPEG", quality=QUALITY)


def of_dataset(pictures: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Lay pictures of `SIDE` x `SIDE` pixels out in rows, each with its caption below."""
    width, height = SIDE + GAP, SIDE + GAP + CAPTION_HEIGHT
    num_rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width + GAP, num_rows * height + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), _font(FONT_SIZE)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = GAP + number % COLUMNS * width, GAP + number // COLUMNS * height
        sheet.paste(picture, (left, top))
        for line_number, line in enumerate(in_lines(caption, font, SIDE, MOST_LINES)):
            pen.text((left, top + SIDE + 1 + line_number * LINE_HEIGHT), line, fill="black", font=font)
    return sheet


def of_sentences(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """Lay pictures out in rows on white, each row below its sentence.

    Args:
        rows: sentences, each with its pictures, of any size; what does not fit in two lines of a sentence is left out,
            and characters that Pillow's font lacks are boxes.
    """
    columns = max(len(row) for _, row in rows)
    width, font = max(columns * (SIDE + ROW_GAP) + ROW_GAP, ROW_WIDTH), _font(SENTENCE_SIZE)
    titles = [in_lines(sentence, font, width - 2 * ROW_GAP, SENTENCE_LINES) for sentence, _ in rows]
    heights = [len(lines) * SENTENCE_HEIGHT + SIDE + 3 * ROW_GAP for lines in titles]
    sheet = Image.new("RGB", (width, sum(heights)), "white")
    pen, top = ImageDraw.Draw(sheet), 0
    for lines, (_, row), height in zip(titles, rows, heights, strict=True):
        for number, line in enumerate(lines):
            pen.text((ROW_GAP, top + ROW_GAP + number * SENTENCE_HEIGHT), line, fill="black", font=font)
        for number, picture in enumerate(row):
            small = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            sheet.paste(small, (ROW_GAP + number * (SIDE + ROW_GAP), top + height - SIDE - ROW_GAP))
        top += height
    return sheet


def in_lines(text: str, font: Font, width: int, most: int) -> list[str]:
    """Break a text into at most so many lines of a width in pixels; what does not fit gives way to "...".

    A word that is wider than a line is broken. Spaces stand for what a font cannot draw.
    """
    lines, words = [""], "".join(each if each.isprintable() else " " for each in text[:MOST_READ]).split()
    while words:
        longer = f"{lines[-1]} {words[0]}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            words.pop(0)
        elif lines[-1]:
            lines.append("")
        else:
            kept = _longest_start(words[0], font, width)
            lines[-1], words[0] = kept, words[0][len(kept) :]
            lines.append("")
        if len(lines) > most:
            lines[most - 1 :] = [_longest_start(lines[most - 1], font, width, "...") + "..."]
            break
    return lines


def _longest_start(text: str, font: Font, width: int, end: str = "") -> str:
    """Return as many of the first characters as fit into a line before `end`, at least one."""
    count = len(text)
    while count > 1 and font.getlength(text[:count] + end) > width:
        count -= 1
    return text[:count]


@functools.cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)
