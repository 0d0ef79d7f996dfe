"""The toy set: the same seed draws the same files, and test classes ask for combinations never seen."""

import errno
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from attngan.config.bounds import FEWEST_BIRDS
from attngan.data.captions import tokenize
from attngan.data.toy import drawn_birds, drawn_captions
from attngan.errors import InputError
from attngan.storage.artifacts import sha256_of


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def attributes(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "attributes.jsonl").read_text().splitlines()]


def test_the_same_seed_draws_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("first", 5), ("again", 5), ("other", 6)):
        drawn_birds.draw(tmp_path / name, count=56, seed=seed)
    assert contents(tmp_path / "first") == contents(tmp_path / "again")
    assert contents(tmp_path / "first") != contents(tmp_path / "other")


def test_the_layout_is_cubs(birds):
    for name in ("images.txt", "bounding_boxes.txt", "image_class_labels.txt", "train_test_split.txt"):
        assert len((birds / name).read_text().splitlines()) == 112
    for line in (birds / "images.txt").read_text().splitlines():
        file = line.split(" ", 1)[1]
        assert (birds / "images" / file).is_file()
        assert len((birds / "text" / file).with_suffix(".txt").read_text().splitlines()) == 10


def test_test_classes_combine_colours_as_training_never_does():
    pairs = {True: set(), False: set()}
    for look, is_test in drawn_birds.bird_classes():
        pairs[is_test].add((look.body, look.wing))
    assert len(pairs[True]) == 8 and len(pairs[False]) == 48
    assert not pairs[True] & pairs[False]
    for part in (0, 1):
        assert {pair[part] for pair in pairs[True]} <= {pair[part] for pair in pairs[False]} == set(drawn_birds.PALETTE)


def test_the_palette_has_eight_colours_far_apart():
    colours = list(drawn_birds.PALETTE.values())
    assert len(colours) == 8
    distances = [sum((a - b) ** 2 for a, b in zip(x, y)) ** 0.5 for i, x in enumerate(colours) for y in colours[:i]]
    assert min(distances) > 75


def test_captions_name_what_the_attributes_say(birds):
    for entry in attributes(birds):
        lines = (birds / "text" / entry["file"]).with_suffix(".txt").read_text().splitlines()
        for caption, named in zip(lines, entry["named"], strict=True):
            words = set(tokenize(caption))
            for part in ("body", "wing"):
                if part in named:
                    spoken = {word for name in drawn_captions.COLOUR_WORDS[entry[part]] for word in tokenize(name)}
                    assert spoken & words, (caption, part)


def test_captions_vary_in_wording_and_every_test_word_occurs_in_training(birds):
    captions, words = Counter(), {True: set(), False: set()}
    tests = {int(line) for line in (birds / "test_classes.txt").read_text().split()}
    for entry in attributes(birds):
        is_test = int(entry["file"].split(".")[0]) in tests
        for caption in (birds / "text" / entry["file"]).with_suffix(".txt").read_text().splitlines():
            captions[caption] += 1
            words[is_test] |= set(tokenize(caption))
    assert len(captions) > 0.9 * captions.total()
    assert words[True] <= words[False]


def test_the_box_holds_the_bird_and_lies_in_the_picture(birds):
    for line in (birds / "bounding_boxes.txt").read_text().splitlines():
        _, x, y, width, height = map(float, line.split())
        assert x >= 0 and y >= 0 and x + width <= drawn_birds.CANVAS and y + height <= drawn_birds.CANVAS
        assert width > 60 and height > 30


def test_pictures_are_whole_and_colourful(birds):
    path = next((birds / "images").rglob("*.jpg"))
    with Image.open(path) as picture:
        assert picture.size == (drawn_birds.CANVAS, drawn_birds.CANVAS)
        assert len(picture.getcolors(maxcolors=1 << 20)) > 500  # anti-aliased edges, not flat areas alone


def test_too_few_birds_and_a_folder_in_use_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 56"):
        drawn_birds.draw(tmp_path / "few", count=10, seed=0)
    assert FEWEST_BIRDS == 56  # the command refuses fewer before it loads anything
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="new or empty folder"):
        drawn_birds.draw(tmp_path / "used", count=56, seed=0)
    assert (tmp_path / "used" / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_try_leaves_nothing_and_the_same_command_draws_all(tmp_path, is_there, error):
    def stop(done):
        assert (out / drawn_birds.UNFINISHED / "images").is_dir()
        raise error

    out = tmp_path / "birds"
    if is_there:
        out.mkdir()
    with pytest.raises(type(error)):
        drawn_birds.draw(out, count=56, seed=0, advance=stop)
    assert list(tmp_path.rglob("*")) == ([out] if is_there else [])
    (out / drawn_birds.UNFINISHED / "images").mkdir(parents=True)  # as after a kill
    (out / drawn_birds.UNFINISHED / "images.txt").write_text("half")
    drawn_birds.draw(out, count=56, seed=0)
    assert len((out / "images.txt").read_text().splitlines()) == len(list(out.glob("images/*/*.jpg"))) == 56
    assert not (out / drawn_birds.UNFINISHED).exists() and (out / "palette.json").is_file()
