import numpy as np
import pytest
from PIL import Image

from attngan.pages import contact_sheet
from attngan.pages.contact_sheet import CAPTION_HEIGHT, COLUMNS, FONT_SIZE, GAP, MOST_LINES, SIDE, in_lines, of_dataset

FONT = contact_sheet._font(FONT_SIZE)
COLOURS = ["red", "lime", "blue", "yellow", "cyan", "magenta", "gray", "black"]


def squares(count):
    return [Image.new("RGB", (SIDE, SIDE), COLOURS[number % len(COLOURS)]) for number in range(count)]


def place_of(number):
    return GAP + number % COLUMNS * (SIDE + GAP), GAP + number // COLUMNS * (SIDE + GAP + CAPTION_HEIGHT)


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (6, 1), (7, 2), (24, 4)])
def test_pictures_stand_in_rows_of_six_with_room_for_their_captions(count, rows):
    sheet = of_dataset(squares(count), ["a cat"] * count)
    assert sheet.size == (6 * (SIDE + GAP) + GAP, rows * (SIDE + GAP + CAPTION_HEIGHT) + GAP)


def test_every_picture_is_shown_as_it_is_and_only_captions_stand_beside_them():
    pictures = squares(8)
    sheet = of_dataset(pictures, ["" if number == 3 else "a bird that is red" for number in range(8)])
    for number, picture in enumerate(pictures):
        left, top = place_of(number)
        assert np.array_equal(sheet.crop((left, top, left + SIDE, top + SIDE)), picture)
        below = np.asarray(sheet.crop((left, top + SIDE, left + SIDE, top + SIDE + CAPTION_HEIGHT)))
        assert (below.min() < 100) == (number != 3)
    assert np.asarray(sheet)[:GAP].min() == 255


@pytest.mark.parametrize(
    "caption",
    ["a cat", "a bird with red wings " * 20, "x" * 1000, "a " + "wide" * 60 + " word", "W" * 30, "i" * 5000],
)
def test_a_caption_is_broken_into_at_most_three_lines_as_wide_as_the_picture(caption):
    lines = in_lines(caption, FONT, SIDE, MOST_LINES)
    assert 1 <= len(lines) <= MOST_LINES
    assert all(FONT.getlength(line) <= SIDE for line in lines)
    text = "".join(lines).replace(" ", "")
    whole = caption.replace(" ", "")
    assert text == whole or (text.endswith("...") and whole.startswith(text[:-3]))


def test_words_stay_whole_where_they_fit():
    lines = in_lines("a small bird with a red breast sits on a branch", FONT, SIDE, MOST_LINES)
    assert " ".join(lines) == "a small bird with a red breast sits on a branch"


@pytest.mark.parametrize(
    "caption",
    [
        "\U0001f426 \u9ce5 \u0637\u0627\u0626\u0631",
        "a\nb\r\n\tc",
        "\0\x07\x1b[31m",
        "\u202eabc",
        "\ue000\ufffe",
        "",
        " ",
    ],
)
def test_characters_that_the_font_lacks_cost_nothing_but_themselves(caption):
    assert of_dataset(squares(1), [caption]).size[1] == SIDE + 2 * GAP + CAPTION_HEIGHT


def test_the_file_is_a_jpeg_that_looks_like_the_sheet(tmp_path):
    pictures, captions = squares(24), ["a bird"] * 24
    contact_sheet.save(pictures, captions, tmp_path / contact_sheet.FILE)
    with Image.open(tmp_path / contact_sheet.FILE) as saved:
        assert saved.format == "JPEG"
        difference = np.abs(np.asarray(saved).astype(int) - np.asarray(of_dataset(pictures, captions)))
    assert difference.mean() < 2


def test_pictures_of_sentences_stand_in_rows_below_them_and_long_sentences_end_in_dots():
    """A sentence has one line, or two; the pictures are those that were given, at the size of the sheet."""
    rows = [("a red bird", squares(2)), ("a bird " * 400, squares(1)), ("w" * 500, squares(1))]
    sheet = np.asarray(contact_sheet.of_sentences(rows))
    gap, height = contact_sheet.ROW_GAP, contact_sheet.SENTENCE_HEIGHT
    one, two = (lines * height + SIDE + 3 * gap for lines in (1, 2))
    assert sheet.shape == (one + 2 * two, contact_sheet.ROW_WIDTH, 3)
    top = one - SIDE - gap
    assert np.array_equal(sheet[top : top + SIDE, gap : gap + SIDE], squares(1)[0])
    assert np.array_equal(sheet[top : top + SIDE, 2 * gap + SIDE : 2 * (gap + SIDE)], squares(2)[1])
    assert (sheet[:, contact_sheet.ROW_WIDTH - gap :] == 255).all(), "no sentence runs out of the sheet"
