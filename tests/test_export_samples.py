"""The gallery and the bundle, and drawing from it."""

import json
import shutil

import pytest
import torch
from PIL import Image

from attngan import artifacts
from attngan.errors import InputError
from attngan.export_samples import export_samples
from attngan.generate import generate
from attngan.overlays import attention_overlays


def test_the_gallery_is_one_page_that_needs_no_network(exported, smoke):
    gallery, _ = exported
    manifest = artifacts.check(gallery, "gallery", contents=True)
    page = (gallery / "index.html").read_text()
    assert len(manifest["captions"]) == smoke.samples.num_test_captions
    assert all(caption in page for caption in manifest["captions"])
    assert "https://" not in page and "http://" not in page and 'src="data:image/png;base64,' in page
    assert page.count("<img") == len(manifest["captions"]) * (
        2 * smoke.samples.variants + smoke.samples.num_attention_words
    )


def test_captions_of_the_config_are_drawn_and_markup_in_them_stays_text(generator, smoke, tmp_path):
    captions = ("a red bird", "<script>alert(1)</script> a blue bird")
    config = smoke.model_copy(update={"samples": smoke.samples.model_copy(update={"captions": captions})})
    export_samples(generator, tmp_path / "gallery", tmp_path / "bundle", config)
    page = (tmp_path / "gallery" / "index.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_without_captions_and_without_a_dataset_it_says_what_is_missing(generator, smoke, tmp_path):
    with pytest.raises(InputError, match="give captions there, or a --dataset"):
        export_samples(generator, tmp_path / "gallery", tmp_path / "bundle", smoke)


def test_the_bundle_says_where_it_comes_from(bundle, generator, metrics):
    provenance = json.loads((bundle / "provenance.json").read_text())
    assert provenance["generator"] == artifacts.check(generator, "generator")["fingerprint"]
    assert provenance["metrics"] == artifacts.check(metrics, "metrics")["figures"]


def test_an_overlay_is_bright_where_the_word_is_attended_to_and_words_keep_their_order():
    attention = torch.full((3, 4, 4), 0.01)
    attention[0, :, 2:] = 0.9  # right half
    attention[2, :, :2] = 0.9  # left half
    overlays = attention_overlays(attention, ["red", "the", "wings"], Image.new("RGB", (16, 16), "white"), 2)
    assert [word for word, _ in overlays] == ["red", "wings"]
    red = overlays[0][1]
    assert red.getpixel((14, 8))[0] > 200 and red.getpixel((1, 8))[0] < 60


def test_the_same_seed_draws_the_same_pictures_and_more_pictures_begin_with_the_same_ones(bundle, tmp_path):
    few = generate(bundle, "a red bird", tmp_path / "few", num_images=2, seed=5)
    many = generate(bundle, "a red bird", tmp_path / "many", num_images=18, seed=5)
    other = generate(bundle, "a red bird", tmp_path / "other", num_images=2, seed=6)
    assert [path.read_bytes() for path in few[:2]] == [path.read_bytes() for path in many[:2]]
    assert few[0].read_bytes() != other[0].read_bytes()
    with Image.open(few[0]) as picture:
        assert picture.size == (32, 32)


@pytest.mark.parametrize(
    "caption",
    [
        "bird",
        "a red bird \U0001f426 with na\u00efve wings",
        "red " * 3000,
        "a\u0000red\nbird",
        "RED BIRD!!!",
        "a reed brid red",
    ],
)
def test_any_caption_with_a_known_word_is_drawn(caption, bundle, tmp_path):
    assert len(generate(bundle, caption, tmp_path / "out", num_images=1, seed=0)) == 2


@pytest.mark.parametrize("caption", ["", "   ", "\U0001f426\U0001f426", "xyzzy plugh"])
def test_a_caption_without_a_known_word_is_refused_in_a_sentence(caption, bundle, tmp_path):
    with pytest.raises(InputError, match="none of its words is among the"):
        generate(bundle, caption, tmp_path / "out", num_images=1, seed=0)


def test_unknown_words_are_named_with_the_nearest_known_one(bundle, tmp_path, capsys):
    generate(bundle, "a yelow bird with xqzt wings", tmp_path / "out", num_images=1, seed=0)
    said = capsys.readouterr().out
    assert "does not know 'yelow'; the nearest word it knows is 'yellow'" in said
    assert "does not know 'xqzt'" in said


def test_bundles_that_do_not_fit_are_refused(bundle, tmp_path):
    broken = tmp_path / "bundle"
    shutil.copytree(bundle, broken)
    manifest = artifacts.read_json(broken / "manifest.json")
    artifacts.write_json(broken / "manifest.json", manifest | {"format_version": 7})
    with pytest.raises(InputError, match="format version is 7"):
        generate(broken, "a red bird", tmp_path / "out", num_images=1, seed=0)
    words = artifacts.read_json(broken / "vocabulary.json")
    artifacts.write_json(broken / "vocabulary.json", [*words, "zebra"])
    artifacts.finish(broken, "bundle", list(manifest["files"]))
    with pytest.raises(InputError, match=r"embedding\.weight has shape"):
        generate(broken, "a red bird", tmp_path / "out", num_images=1, seed=0)
    with pytest.raises(InputError, match="no such folder"):
        generate(tmp_path / "absent", "a red bird", tmp_path / "out", num_images=1, seed=0)
