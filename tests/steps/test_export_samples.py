"""The gallery and the bundle, and drawing from it."""

import json
import shutil

import pytest
import torch
from PIL import Image

from attngan.errors import InputError
from attngan.inference import trained_encoders
from attngan.inference.generate import generate
from attngan.inference.text_to_image import TextToImage
from attngan.pages.pictures import attention_overlays
from attngan.steps.export_samples import export_samples
from attngan.storage import artifacts, json_text


def texts_in(path):
    with Image.open(path) as picture:
        picture.load()
        return picture.text


def test_the_gallery_is_one_page_that_needs_no_network(exported, smoke):
    gallery, _ = exported
    manifest = artifacts.check(gallery, "gallery", contents=True)
    page = (gallery / "index.html").read_text()
    samples = smoke.samples
    assert len(manifest["captions"]) == samples.num_test_captions
    assert all(caption in page for caption in manifest["captions"])
    assert "https://" not in page and "http://" not in page and 'src="data:image/png;base64,' in page
    swapped = (gallery / "000-swap.png", len(texts_in(gallery / "000-swap.png")["swapped"].split()))
    assert swapped[1] > 2
    assert page.count("<img") == (
        len(manifest["captions"]) * (2 * samples.variants + samples.num_attention_words)
        + samples.num_interpolations * samples.interpolation_steps
        + samples.num_swaps * swapped[1]
    )


def test_variants_stand_in_the_order_of_their_score_which_is_shown(exported, generator, damsm, dataset, smoke):
    gallery, bundle = exported
    caption = artifacts.check(gallery, "gallery")["captions"][0]
    model = TextToImage.open(bundle, kind="bundle")
    image_encoder = trained_encoders.load(damsm, model.config, len(model.vocabulary), torch.device("cpu"))[1]
    word_ids, lengths = model.read([caption])
    scores = []
    noise, epsilon = model.noise(smoke.samples.variants, smoke.seed, "gallery")
    for row in range(smoke.samples.variants):
        picture = model.draw(word_ids, lengths, noise[row : row + 1], epsilon[row : row + 1]).images[-1]
        with torch.no_grad():
            sentence = model.text_encoder(word_ids, lengths)[1]
            scores.append(torch.cosine_similarity(image_encoder(picture)[1], sentence).item())
    said = texts_in(gallery / "000-stages.png")
    order = sorted(range(len(scores)), key=lambda row: -scores[row])
    assert [int(row) for row in said["variants"].split()] == order
    assert [float(score) for score in said["DAMSM scores"].split()] == pytest.approx(
        [scores[row] for row in order], abs=1e-3
    )
    assert f"<figcaption>{scores[order[0]]:.2f}</figcaption>" in (gallery / "index.html").read_text()


def test_without_a_damsm_there_is_no_score_and_the_page_says_so(generator, dataset, smoke, tmp_path):
    export_samples(generator, tmp_path / "gallery", tmp_path / "bundle", smoke, dataset=dataset)
    assert "without the encoders there is nothing to rank them by" in (tmp_path / "gallery" / "index.html").read_text()
    said = texts_in(tmp_path / "gallery" / "000-stages.png")
    assert said["variants"] == "0 1" and "DAMSM scores" not in said


def test_every_picture_says_what_drew_it_and_of_what(exported, tmp_path):
    gallery, bundle = exported
    manifest = artifacts.check(bundle, "bundle")
    for path in gallery.glob("*.png"):
        said = texts_in(path)
        assert said["bundle"] == manifest["fingerprint"] and said["seed"] == "0"
        assert said["Software"].startswith("attngan ") and said["caption"]
    caption = "a red bird \U0001f426 \u00e9t\u00e9"
    pictures = generate(bundle, caption, tmp_path, num_images=2, seed=7)
    assert [texts_in(path).get("variant") for path in pictures] == ["0", "1", None]
    assert {texts_in(path)["caption"] for path in pictures} == {caption}
    assert {texts_in(path)["seed"] for path in pictures} == {"7"}


def test_the_way_between_two_captions_begins_and_ends_with_their_own_pictures(bundle):
    model = TextToImage.open(bundle, kind="bundle")
    captions = ("a red bird", "a small blue bird with yellow wings")
    noise, epsilon = model.noise(1, 3)
    way = model.between(captions, [0.0, 0.5, 1.0], noise, epsilon)
    for picture, caption in zip(way[::2], captions):
        own = model.draw(*model.read([caption]), noise, epsilon).images[-1][0]
        assert torch.allclose(picture, own, atol=1e-5)
    assert all((way[1] - end).abs().max() > 1e-3 for end in way[::2])


def test_captions_of_the_config_are_drawn_and_markup_in_them_stays_text(generator, smoke, tmp_path):
    captions = ("a red bird", "<script>alert(1)</script> a blue bird")
    config = smoke.model_copy(update={"samples": smoke.samples.model_copy(update={"captions": captions})})
    export_samples(generator, tmp_path / "gallery", tmp_path / "bundle", config)
    page = (tmp_path / "gallery" / "index.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_without_captions_and_without_a_dataset_it_says_what_is_missing(generator, smoke, tmp_path):
    with pytest.raises(InputError, match="give captions there, or a --dataset"):
        export_samples(generator, tmp_path / "gallery", tmp_path / "bundle", smoke)


def test_one_folder_for_gallery_and_bundle_is_refused(generator, smoke, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "x")
    for other in ("x", "link"):
        with pytest.raises(
            InputError, match=f"^{tmp_path / 'x'}: two results would lie in this folder; name two places"
        ):
            export_samples(generator, tmp_path / "x", tmp_path / other, smoke)
    with pytest.raises(InputError, match=f"^{tmp_path / 'x'}: holds the output {tmp_path / 'x' / 'inside'}; name"):
        export_samples(generator, tmp_path / "x", tmp_path / "x" / "inside", smoke)


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


def test_words_that_say_nothing_of_a_picture_are_not_shown_unless_there_are_no_others():
    attention, white = torch.full((4, 4, 4), 0.01), Image.new("RGB", (16, 16), "white")
    attention[0] = 0.9

    def shown(*words):
        return [word for word, _ in attention_overlays(attention, list(words), white, 3)]

    assert shown("the", "bird", "with", "wings") == ["bird", "wings"]
    assert shown("with", "a", "and", "of") == ["with", "a", "and"]


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
    assert len(generate(bundle, caption, tmp_path / "out", num_images=1, seed=0)) == 1


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
    manifest = json_text.read(broken / "manifest.json")
    artifacts.write_json(broken / "manifest.json", manifest | {"format_version": 7})
    with pytest.raises(InputError, match="format version is 7"):
        generate(broken, "a red bird", tmp_path / "out", num_images=1, seed=0)
    words = json_text.read(broken / "vocabulary.json")
    artifacts.write_json(broken / "vocabulary.json", [*words, "zebra"])
    artifacts.finish(broken, "bundle", list(manifest["files"]), generator=manifest["generator"])
    with pytest.raises(InputError, match=r"embedding\.weight has shape"):
        generate(broken, "a red bird", tmp_path / "out", num_images=1, seed=0)
    with pytest.raises(InputError, match="no such folder"):
        generate(tmp_path / "absent", "a red bird", tmp_path / "out", num_images=1, seed=0)
