"""Drawing a sentence into files: each written as it is drawn, none mixed up with another, none lost."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attngan.errors import InputError
from attngan.inference import text_to_image
from attngan.inference.generate import generate, slug
from attngan.inference.text_to_image import TextToImage
from attngan.storage import artifacts, places

ROOT = Path(__file__).resolve().parents[2]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_name_says_sentence_seed_and_number(bundle, tmp_path):
    generate(bundle, "a small red bird", tmp_path / "out", num_images=2, seed=7)
    start = "a-small-red-bird-seed-7"
    assert names(tmp_path / "out") == [f"{start}-000.png", f"{start}-001.png", f"{start}-grid-of-2.png"]


def test_two_sentences_two_seeds_and_two_counts_stand_side_by_side(bundle, tmp_path):
    drawn = []
    for caption, count, seed in [
        ("a red bird", 2, 1),
        ("a blue bird", 2, 1),
        ("A red bird", 2, 1),
        ("a red-bird", 2, 1),
        ("a red bird", 2, 2),
        ("a red bird", 3, 1),
    ]:
        before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
        drawn.append(generate(bundle, caption, tmp_path, num_images=count, seed=seed))
        assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert len({path for paths in drawn[:5] for path in paths}) == 5 * 3
    assert set(drawn[5]) - set(drawn[0]) == {drawn[5][2], drawn[5][3]}, "a picture of one more, and its sheet"
    assert drawn[5][:2] == drawn[0][:2]


@pytest.mark.parametrize(
    "caption", ["a " + "very " * 30 + "red bird", "../../etc/bird", "bird/\0", "\u00e9 bird", "bird."]
)
def test_a_name_is_short_and_stays_in_the_folder_whatever_the_sentence(caption):
    assert re.fullmatch(r"[a-z0-9-]{1,70}", slug(caption)) and slug(caption) != slug(caption + " ")


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(text_to_image, "BATCH_SIZE", 2)
    whole = generate(bundle, "a red bird", tmp_path / "whole", num_images=5, seed=3)
    draw, sizes = TextToImage.draw, []

    def stopped(model, word_ids, *rest):
        if len(sizes) == 2:
            raise KeyboardInterrupt
        sizes.append(len(word_ids))
        return draw(model, word_ids, *rest)

    with monkeypatch.context() as context:
        context.setattr(TextToImage, "draw", stopped)
        with pytest.raises(KeyboardInterrupt):
            generate(bundle, "a red bird", tmp_path / "out", num_images=5, seed=3)
        assert len(names(tmp_path / "out")) == 4, "what was drawn is there"
        (tmp_path / "out" / "a-red-bird-seed-3-001.png").unlink()
        sizes.clear()
        sizes.append(0)
        with pytest.raises(KeyboardInterrupt):
            generate(bundle, "a red bird", tmp_path / "out", num_images=60, seed=3)
        assert sizes == [0, 2]
    paths = generate(bundle, "a red bird", tmp_path / "out", num_images=5, seed=3)
    assert [path.name for path in paths] == [path.name for path in whole]
    for path, expected in zip(paths, whole, strict=True):
        difference = np.asarray(Image.open(path), int) - np.asarray(Image.open(expected), int)
        assert np.abs(difference).max() <= 1


def test_once_done_nothing_is_drawn_again(bundle, tmp_path, monkeypatch):
    generate(bundle, "a red bird", tmp_path, num_images=2, seed=3)
    before = places.fingerprint(str(tmp_path))
    monkeypatch.setattr(TextToImage, "draw", lambda *_: pytest.fail("drawn again"))
    generate(bundle, "a red bird", tmp_path, num_images=2, seed=3)
    assert places.fingerprint(str(tmp_path)) == before


@pytest.mark.parametrize("kind", ["another bundle's", "no picture", "a folder", "a link to nowhere", "the sheet"])
def test_what_has_a_pictures_name_and_is_something_else_is_named_and_kept(kind, bundle, tmp_path):
    out = tmp_path / "out"
    path = out / "a-red-bird-seed-3-001.png"
    out.mkdir()
    said = "it is something else"
    if kind == "another bundle's":
        other = tmp_path / "bundle"
        shutil.copytree(bundle, other)
        manifest = artifacts.read_manifest(other)
        (other / "provenance.json").write_text("{}")
        artifacts.finish(other, "bundle", list(manifest["files"]), generator="g")
        generate(other, "a red bird", out, num_images=2, seed=3)
        said = "another bundle drew it"
    elif kind == "no picture":
        path.write_text("mine")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a link to nowhere":
        path.symlink_to("nowhere")
    else:
        (out / "a-red-bird-seed-3-grid-of-2.png").write_text("mine")
    before = places.fingerprint(str(out))
    with pytest.raises(InputError, match=said):
        generate(bundle, "a red bird", out, num_images=2, seed=3)
    assert places.fingerprint(str(out)) == before and len(names(out)) == (3 if said.startswith("another") else 1)


def test_a_picture_that_was_cut_off_is_drawn_again(bundle, tmp_path):
    path = generate(bundle, "a red bird", tmp_path, num_images=2, seed=3)[1]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 200])
    generate(bundle, "a red bird", tmp_path, num_images=3, seed=3)
    with Image.open(path) as drawn:
        assert drawn.convert("RGB").size == (32, 32)


def test_what_comes_while_a_picture_is_drawn_stays(bundle, tmp_path, monkeypatch):
    draw = TextToImage.draw

    def slow(*arguments):
        (tmp_path / "a-red-bird-seed-3-001.png").write_text("mine")
        return draw(*arguments)

    monkeypatch.setattr(TextToImage, "draw", slow)
    with pytest.raises(InputError, match="it is something else"):
        generate(bundle, "a red bird", tmp_path, num_images=2, seed=3)
    assert (tmp_path / "a-red-bird-seed-3-001.png").read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


def test_the_readmes_example_in_python_leaves_a_file_a_picture(bundle, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "model.variants" in block]
    assert "count=100" in example
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "bundle").symlink_to(bundle)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".png"]) == 100
