"""Drawing a sentence into files: each written as it is drawn, none mixed up with another, none lost."""

import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attngan.errors import InputError
from attngan.inference import text_to_image
from attngan.inference.generate import generate, slug
from attngan.inference.text_to_image import TextToImage, truncated
from attngan.storage import artifacts, delivery, places

ROOT = Path(__file__).resolve().parents[2]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_name_says_sentence_seed_and_number(bundle, tmp_path):
    generate(bundle, "a small red bird", tmp_path / "out", num_images=2, seed=7)
    start = "a-small-red-bird-seed-7"
    assert names(tmp_path / "out") == [f"{start}-000.png", f"{start}-001.png", f"{start}-grid-of-2.png"]


def test_a_single_picture_has_no_sheet(bundle, tmp_path):
    assert generate(bundle, "a red bird", tmp_path / "out", num_images=1, seed=7)[-1].name.endswith("-000.png")
    assert names(tmp_path / "out") == ["a-red-bird-seed-7-000.png"]


def test_a_device_that_is_not_there_is_said_before_anything_is_drawn(bundle, tmp_path):
    with pytest.raises(InputError, match="device: expected auto, cpu, cuda or cuda:N, found 'meta'"):
        generate(bundle, "a red bird", tmp_path / "out", num_images=1, seed=7, device="meta")
    assert not (tmp_path / "out").exists()


def test_the_folder_of_a_run_stands_for_the_bundle_in_it(bundle, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bundle").symlink_to(bundle)
    (path,) = generate(tmp_path / "run", "a red bird", tmp_path / "out", num_images=1, seed=7)
    (expected,) = generate(bundle, "a red bird", tmp_path / "other", num_images=1, seed=7)
    assert path.read_bytes() == expected.read_bytes()


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


def sentences(tmp_path, *lines, start=b""):
    file = tmp_path / "sentences.txt"
    file.write_bytes(start + "\n".join(lines).encode())
    return file


def test_all_sentences_of_a_file_are_drawn_as_each_alone(bundle, tmp_path, capsys):
    file = sentences(
        tmp_path, "a red bird", "", "  a blue bird with white wings \r", "a red bird", start=b"\xef\xbb\xbf"
    )
    drawn = generate(bundle, None, tmp_path / "all", captions=file, num_images=3, seed=7)
    assert "line 4: the sentence of line 1 again" in capsys.readouterr().out
    captions = ["a red bird", "a blue bird with white wings"]
    alone = [path for each in captions for path in generate(bundle, each, tmp_path / "one", num_images=3, seed=7)]
    assert [path.name for path in drawn] == [path.name for path in alone]
    for path, expected in zip(drawn, alone, strict=True):
        with Image.open(path) as picture, Image.open(expected) as other:
            assert picture.text["caption"] in captions and picture.text == other.text
            assert np.abs(np.asarray(picture, int) - np.asarray(other, int)).max() <= 1


def test_sentences_without_a_known_word_are_named_together_before_anything_is_drawn(bundle, tmp_path):
    file = sentences(tmp_path, "a red bird", "xyzzy", "a yelow bird", *["\u9e1f \U0001f426"] * 2, "\u0431\u0438\u0440")
    with pytest.raises(InputError) as caught:
        generate(bundle, None, tmp_path / "out", captions=file, num_images=1, seed=1)
    said = str(caught.value)
    assert said.startswith(
        f"{file}: line 2 ('xyzzy'), line 4 ('\u9e1f \U0001f426'), line 6 ('\u0431\u0438\u0440'): none of the words"
    )
    assert not (tmp_path / "out").exists()
    sentences(tmp_path, *(f"xyzzy{number}" for number in range(100)))
    with pytest.raises(InputError, match=r"line 20 \('xyzzy19'\) and 80 more: none") as caught:
        generate(bundle, None, tmp_path / "out", captions=file, num_images=1, seed=1)


@pytest.mark.parametrize("kind", ["nothing", "a folder", "a pipe", "a device", "blank lines", "NUL", "no UTF-8"])
def test_a_file_of_no_sentences_is_said(kind, bundle, tmp_path):
    file, said = tmp_path / "sentences.txt", f"found {kind}"
    if kind == "nothing":
        said = "no such file"
    elif kind == "a folder":
        file.mkdir()
    elif kind == "a pipe":
        os.mkfifo(file)
    elif kind == "a device":
        file = Path("/dev/zero")
    else:
        content = {
            "blank lines": b"\xef\xbb\xbf\n \n",
            "NUL": b"a bird\na red\0bird",
            "no UTF-8": b"a bird\na \xff bird",
        }
        file.write_bytes(content[kind])
        said = "expected a sentence a line, found none" if kind == "blank lines" else "line 2: expected text"
    with pytest.raises(InputError, match=f"{file}: .*{said}"):
        generate(bundle, None, tmp_path / "out", captions=file, num_images=1, seed=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("caption", "found"), [("a bird", "both"), (None, "neither")])
def test_either_a_sentence_or_a_file_is_given(caption, found, bundle, tmp_path):
    file = sentences(tmp_path, "a bird") if caption else None
    with pytest.raises(InputError, match=f"found {found}; give one of them"):
        generate(bundle, caption, tmp_path / "out", captions=file, num_images=1, seed=1)


def test_more_pictures_than_a_machines_life_draws_are_refused(bundle, tmp_path):
    file = sentences(tmp_path, "a bird", "a red bird")
    with pytest.raises(InputError, match="2 sentences of 900,000 pictures; at most 1,000,000"):
        generate(bundle, None, tmp_path / "out", captions=file, num_images=900_000, seed=1)


def test_a_contact_sheet_has_a_row_for_each_sentence_and_gives_way_to_the_next(bundle, tmp_path):
    file = sentences(tmp_path, "a red bird", "a blue \U0001f426 bird \u202e \u9e1f " + "with wings " * 200)
    more = {"captions": file, "num_images": 9, "seed": 7, "contact_sheet": True}
    sheet = generate(bundle, None, tmp_path / "out", **more)[-1]
    assert sheet.name == "contact-sheet.png"
    with Image.open(sheet) as picture:
        assert picture.width == 8 * 132 + 4 and picture.height == (128 + 16 + 12) + (128 + 32 + 12)
        assert picture.text["caption"].splitlines()[0] == "a red bird" and picture.text["seed"] == "7"
    generate(bundle, "a bird", tmp_path / "out", num_images=1, seed=1, contact_sheet=True)
    with Image.open(sheet) as picture:
        assert picture.text["caption"] == "a bird"
    sheet.write_text("mine")
    before = places.fingerprint(str(tmp_path / "out"))
    with pytest.raises(InputError, match="or a contact sheet; move it"):
        generate(bundle, "a red bird", tmp_path / "out", num_images=1, seed=2, contact_sheet=True)
    assert places.fingerprint(str(tmp_path / "out")) == before


def generate_into(uri, bundle, caption, **more):
    with delivery.files(uri, inputs=[]) as to:
        return [path.name for path in generate(bundle, caption, to, seed=3, **more)]


def test_in_cloud_storage_too_a_run_that_was_stopped_goes_on_with_what_is_missing(
    bundle, cloud_bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(text_to_image, "BATCH_SIZE", 2)
    draw, sizes = TextToImage.draw, []

    def counted(model, word_ids, *rest):
        if len(sizes) == 2:
            raise KeyboardInterrupt
        sizes.append(len(word_ids))
        return draw(model, word_ids, *rest)

    monkeypatch.setattr(TextToImage, "draw", counted)
    with pytest.raises(KeyboardInterrupt):
        generate_into(f"{cloud_bucket.uri}/drawn", bundle, "a red bird", num_images=5)
    assert cloud_bucket.names() == {f"drawn/a-red-bird-seed-3-{number:03d}.png" for number in range(4)}
    cloud_bucket.put("drawn/a-red-bird-seed-3-001.png", cloud_bucket.content("drawn/a-red-bird-seed-3-001.png")[:-200])
    sizes.clear()
    names = generate_into(f"{cloud_bucket.uri}/drawn", bundle, "a red bird", num_images=5)
    assert sizes == [2] and cloud_bucket.names() == {f"drawn/{name}" for name in names}, "one cut off, one missing"
    monkeypatch.setattr(TextToImage, "draw", draw)
    local = generate(bundle, "a red bird", tmp_path, num_images=5, seed=3)
    for path in local:
        with Image.open(path) as picture, Image.open(io.BytesIO(cloud_bucket.content(f"drawn/{path.name}"))) as sent:
            assert picture.text == sent.text
            assert np.abs(np.asarray(picture, int) - np.asarray(sent, int)).max() <= 1


def test_in_cloud_storage_too_a_contact_sheet_gives_way_and_what_others_have_there_does_not(
    bundle, cloud_bucket, monkeypatch
):
    uri = f"{cloud_bucket.uri}/drawn"
    generate_into(uri, bundle, "a red bird", num_images=1, contact_sheet=True)
    first = cloud_bucket.content("drawn/contact-sheet.png")
    generate_into(uri, bundle, "a blue bird", num_images=1, contact_sheet=True)
    assert cloud_bucket.content("drawn/contact-sheet.png") != first
    assert len([name for name in cloud_bucket.names() if name.endswith("-000.png")]) == 2
    monkeypatch.setattr(TextToImage, "draw", lambda *_: pytest.fail("drawn before it is refused"))
    for name in ("contact-sheet.png", "a-bird-seed-3-000.png"):
        cloud_bucket.put(f"drawn/{name}", b"mine")
        before = places.fingerprint(uri)
        with pytest.raises(InputError, match=f"^{uri}/{name}: expected nothing there"):
            generate_into(uri, bundle, "a bird", num_images=1, contact_sheet=name.startswith("contact"))
        assert places.fingerprint(uri) == before


def test_pictures_of_two_truncations_stand_side_by_side_and_say_so(bundle, tmp_path):
    plain = generate(bundle, "a red bird", tmp_path, num_images=2, seed=3, truncation=1.0)
    half = generate(bundle, "a red bird", tmp_path, num_images=2, seed=3, truncation=0.5)
    assert half[0].name == "a-red-bird-seed-3-truncation-0.5-000.png" and len(names(tmp_path)) == 6
    with Image.open(plain[0]) as picture, Image.open(half[0]) as other:
        assert "truncation" not in picture.text and other.text["truncation"] == "0.5"
        assert np.abs(np.asarray(picture, int) - np.asarray(other, int)).max() > 0
    shutil.copyfile(plain[0], half[0])
    with pytest.raises(InputError, match="it is something else"):
        generate(bundle, "a red bird", tmp_path, num_images=2, seed=3, truncation=0.5)


@pytest.mark.parametrize("factor", [0.0, -1.0, 2.0, float("nan"), float("inf")])
def test_a_factor_that_truncates_nothing_sensible_is_refused(factor, bundle, tmp_path):
    with pytest.raises(InputError, match="--truncation: expected a number above 0 and at most 1, found"):
        generate(bundle, "a bird", tmp_path / "out", num_images=1, seed=1, truncation=factor)


@pytest.mark.parametrize("factor", [0.05, 0.5, 0.999])
def test_truncated_noise_is_a_truncated_normal_distribution_in_the_order_of_the_noise(factor):
    scipy = pytest.importorskip("scipy.stats")
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(1))
    found = truncated(noise, factor)
    assert found.dtype == noise.dtype and found.abs().max() <= 2 * factor
    assert (found[noise.argsort()].diff() >= 0).all()
    assert scipy.kstest(found.numpy(), scipy.truncnorm(-2 * factor, 2 * factor).cdf).pvalue > 0.01


def test_truncated_noise_is_finite_however_far_out_a_value_is():
    far = torch.tensor([-1e30, -40.0, 0.0, 40.0, 1e30])
    torch.testing.assert_close(truncated(far, 0.5), torch.tensor([-1.0, -1.0, 0.0, 1.0, 1.0]))
    assert (truncated(far, 1e-300).abs() <= 1e-30).all() and truncated(far, 1.0) is far


def test_a_picture_is_the_same_alone_and_among_others(bundle):
    model = TextToImage.open(bundle, kind="bundle")
    wanted = [
        text_to_image.Picture(caption, number, seed, truncation)
        for caption in ("a red bird", "this is a small blue bird with white wings and a yellow tail")
        for number, seed, truncation in ((0, 1, 1.0), (5, 1, 1.0), (0, 2, 0.5))
    ]
    together = model.draw_together(wanted)
    for row, picture in enumerate(wanted):
        alone = model.draw_together([picture])
        assert (together.images[-1][row] - alone.images[-1][0]).abs().max() <= 2 / 255  # of the range from -1 to 1
        length = alone.attention[-1].shape[1]
        torch.testing.assert_close(together.attention[-1][row, :length], alone.attention[-1][0], atol=1e-4, rtol=0)
        assert (together.attention[-1][row, length:] == 0).all()


def test_what_is_not_understood_is_named_as_it_is_written(bundle):
    model = TextToImage.open(bundle, kind="bundle")
    assert model.notes("a red bird, 'wings' \u2013 \u201cblue\u201d!") == []
    assert model.notes("a Yelow R\u00e4dern \U0001f426 \u9e1f br\u00efd yelow bird") == [
        "the model does not know 'Yelow'; the nearest word it knows is 'yellow'",
        *(f"the model does not know {word!r}" for word in ("R\u00e4dern", "\U0001f426", "\u9e1f")),
        "the model does not know 'br\u00efd'; the nearest word it knows is 'bird'",
    ]
    assert model.notes("a r\u00e9d b\u0131\u0301rd") == [], "their letters are read"
    for word in ("\u9e1fred", "\u9e1fr\u00e9d"):
        assert model.notes(f"{word} bird") == [f"of {word!r} the model reads only 'red'"]
    with pytest.raises(InputError, match="say it in other words, such as 'yellow' for 'Yelow', 'bird' for 'brid'"):
        model.read(["Yelow brid \U0001f426"])


def test_a_word_is_drawn_the_same_however_its_accents_are_written(bundle):
    model = TextToImage.open(bundle, kind="bundle")
    word_ids, _ = model.read(["a red bird", "\u00e0 r\u00e9d b\u00efrd", "a\u0300 re\u0301d bi\u0308rd"])
    assert len(word_ids.unique(dim=0)) == 1


def test_the_readmes_example_in_python_leaves_a_file_a_picture(bundle, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "model.variants" in block]
    assert "count=100" in example
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "bundle").symlink_to(bundle)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".png"]) == 100
