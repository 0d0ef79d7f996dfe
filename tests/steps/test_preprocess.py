import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_sources import caption_file, file_of, pack, settings, write_cub

from attngan.config import settings as configs
from attngan.data import dataset_files
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.pages import contact_sheet
from attngan.runtime import machine
from attngan.steps.preprocess import preprocess
from attngan.storage import artifacts, json_text

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "cub-sample"


@pytest.fixture
def source(tmp_path):
    return write_cub(tmp_path / "source")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "dataset"


def captioned(folder, count=40, **extra):
    folder.mkdir()
    lines = []
    for number in range(count):
        Image.new("RGB", (70, 70), (6 * number, 0, 0)).save(folder / f"{number}.png")
        lines.append({"file": f"{number}.png", "captions": [f"picture number {number}"], **extra})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_cub_folder_becomes_a_dataset_that_opens(source, out):
    info = preprocess(source, out, settings())
    assert info == json_text.read(out / "dataset.json")
    assert info["counts"]["train"] == {"images": 4, "captions": 8, "classes": 2, "words": 40}
    assert info["counts"]["test"] == {"images": 2, "captions": 4, "classes": 1, "words": 20}
    assert (info["format_version"], info["resolution"], info["stored_short_side"]) == (1, 64, 76)
    assert (info["source"], info["rejected"], info["dropped_captions"], info["warnings"]) == ("cub", [], [], [])
    train, test = Dataset.open(out, "train"), Dataset.open(out, "test")
    assert [record["name"] for record in train.records] == [file_of(number) for number in (1, 2, 5, 6)]
    assert train.class_ids.tolist() == [1, 1, 2, 2]
    assert test.class_ids.tolist() == [0, 0]
    red = train.evaluation_batch([0], [0], resolutions=[64], max_words=18).images[0]
    torch.testing.assert_close(red.mean(dim=(0, 2, 3)), torch.tensor([1.0, -1.0, -1.0]), atol=0.03, rtol=0)


def test_the_result_is_complete_and_says_what_it_is(source, out):
    info = preprocess(source, out, settings("seed=5"))
    manifest = artifacts.check(out, "dataset", contents=True)
    assert manifest["fingerprint"] == info["fingerprint"]
    assert configs.load_file(out / "config.yaml").seed == 5
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {*manifest["files"], "manifest.json"}


def test_the_vocabulary_is_that_of_the_training_captions_and_unknown_test_words_are_counted(source, out):
    caption_file(source, 9).write_text("this bird is black\nan unseen unseen word\n")
    info = preprocess(source, out, settings())
    words = Dataset.open(out, "train").vocabulary.words
    assert set(words) == {"<end>", *"this bird is red a with two wings green blue white".split()}
    assert info["vocabulary_size"] == 12
    # Bird 9: black, and a whole caption of unknown words, which is dropped; bird 11: yellow, twice.
    assert info["unknown_test_words"] == {"kinds": 2, "occurrences": 3}
    assert info["dropped_captions"] == [{"file": file_of(9), "caption": "an unseen unseen word"}]
    test = Dataset.open(out, "test")
    assert test.captions_per_image(0) == 1
    assert test.evaluation_batch([0], [0], resolutions=[64], max_words=18).lengths.tolist() == [3]


def test_the_share_that_a_refusal_names_is_enough(source, out):
    for number in (5, 6):
        caption_file(source, number).write_text("...\n")
    with pytest.raises(InputError, match=r"--set data\.max_rejected_share=\S+\.$") as caught:
        preprocess(source, out, settings())
    preprocess(source, out, settings(str(caught.value).removesuffix(".").rpartition(" ")[2]))


def test_letters_with_accents_are_read_as_those_from_a_to_z_and_that_is_said_once(tmp_path, out, capsys):
    folder = captioned(tmp_path / "source")
    path = folder / "captions.jsonl"
    written = path.read_text().replace("picture number", "gr\u00fcner Gru\u0308ner d\u00e9licieuse \u9e1f picture")
    path.write_text(written.replace('"captions": [', '"captions": ["\u4e2d", '))
    info = preprocess(folder, out, settings())
    words = Dataset.open(out, "train").vocabulary.words
    assert {"gruner", "delicieuse", "picture"} == {word for word in words[1:] if word.isalpha()}
    assert info["warnings"] == [
        "words are read in the letters a to z: 'gr\u00fcner' as 'gruner' (2 words)",
        "words in other letters than a to z are left out: '\u9e1f' (2 words)",
    ]
    said = capsys.readouterr().out.splitlines()
    assert [said.count(f"preprocess: {warning}") for warning in info["warnings"]] == [1, 1]


def test_captions_of_cub_are_read_as_by_the_authors(source, out):
    caption_file(source, 1).write_text("a gr\u00fcn bird\n")
    info = preprocess(source, out, settings())
    assert "grn" in Dataset.open(out, "train").vocabulary and info["warnings"] == []


def test_a_given_vocabulary_is_kept_and_the_words_it_lacks_are_counted(source, out, tmp_path):
    given = ["<end>", "bird", "wings", "penguin", "this"]
    artifacts.write_json(tmp_path / "vocabulary.json", given)
    info = preprocess(source, out, settings(), vocabulary=tmp_path / "vocabulary.json")
    train = Dataset.open(out, "train")
    assert train.vocabulary.words == given
    encoded = train.evaluation_batch([0], [0], resolutions=[64], max_words=18).word_ids[0].tolist()
    known = [word for word in train.records[0]["captions"][0].split() if word in given]
    assert [given[index] for index in encoded] == known
    assert info["unknown_train_words"]["occurrences"] > 0
    with pytest.raises(InputError, match="no such file"):
        preprocess(source, out, settings(), vocabulary=tmp_path / "absent.json")


def test_rare_words_stay_out_and_what_they_alone_described_goes(source, out):
    caption_file(source, 5).write_text("unique singular\n")
    info = preprocess(source, out, settings("data.min_word_count=2", "data.max_rejected_share=0.5"))
    train = Dataset.open(out, "train")
    assert "unique" not in train.vocabulary
    assert [entry["file"] for entry in info["rejected"]] == [file_of(5)]
    assert [record["name"] for record in train.records] == [file_of(number) for number in (1, 2, 6)]
    white = train.evaluation_batch([2], [0], resolutions=[64], max_words=18).images[0]
    assert white.min() > 0.97


def test_the_same_source_gives_the_same_bytes_for_any_number_of_workers(source, tmp_path, monkeypatch):
    infos = []
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2**40)
    for workers in (1, 3):
        monkeypatch.setattr(machine, "num_cores", lambda workers=workers: workers)
        infos.append(preprocess(source, tmp_path / str(workers), settings()))
    assert infos[0] == infos[1]
    for split in ("train", "test"):
        for name in dataset_files.SPLIT_FILES:
            assert (tmp_path / "1" / split / name).read_bytes() == (tmp_path / "3" / split / name).read_bytes()


def test_other_training_settings_do_not_change_the_fingerprint_and_other_captions_do(source, tmp_path):
    first = preprocess(source, tmp_path / "a", settings())
    other_settings = preprocess(source, tmp_path / "b", settings("training.epochs=3", "seed=9"))
    caption_file(source, 1).write_text("a bird that is red\n")
    other_captions = preprocess(source, tmp_path / "c", settings())
    assert first["fingerprint"] == other_settings["fingerprint"] != other_captions["fingerprint"]


@pytest.mark.parametrize("kind", ["tgz", "tar", "zip"])
@pytest.mark.parametrize("text", ["inside", "beside", "archive"])
def test_archives_give_what_the_folder_gives(source, tmp_path, out, kind, text):
    expected = preprocess(source, tmp_path / "expected", settings())
    packed = tmp_path / "packed"
    packed.mkdir()
    parts = ["CUB_200_2011", "text"] if text == "inside" else ["CUB_200_2011"]
    archive = pack(source, parts, packed / f"birds.{kind}")
    captions = None
    if text == "beside":
        shutil.copytree(source / "text", packed / "text")
    elif text == "archive":
        captions = pack(source, ["text"], packed / f"text.{kind}")
    shutil.rmtree(source)
    assert preprocess(archive, out, settings(), captions=captions) == expected


def test_a_folder_of_captioned_images_is_split_by_name_and_each_picture_is_a_class(tmp_path, out):
    info = preprocess(captioned(tmp_path / "pictures"), out, settings())
    train, test = Dataset.open(out, "train"), Dataset.open(out, "test")
    assert info["source"] == "captioned folder"
    assert len(train) + len(test) == 40
    assert 1 <= len(test) <= 8
    assert sorted([*train.class_ids.tolist(), *test.class_ids.tolist()]) == list(range(40))
    assert train.records[0]["class_name"] is None


def test_a_split_that_the_list_names_rules(tmp_path, out):
    folder = captioned(tmp_path / "pictures", split="train")
    with pytest.raises(InputError, match=r'no usable image is left for the test split.*"split" in captions.jsonl'):
        preprocess(folder, out, settings())
    with (folder / "captions.jsonl").open("a") as handle:
        Image.new("RGB", (70, 70)).save(folder / "last.png")
        handle.write(json.dumps({"file": "last.png", "captions": ["the last picture"], "split": "test"}) + "\n")
    preprocess(folder, out, settings())
    assert [record["name"] for record in Dataset.open(out, "test").records] == ["last.png"]


HEADER = "file_name,caption\n"


def lists_of(folder, kind):
    """Turn the list of `captioned` into one of another kind."""
    entries = [json_text.parse(line, "line") for line in (folder / "captions.jsonl").read_text().splitlines()]
    (folder / "captions.jsonl").unlink()
    pairs = [(entry["file"], entry["captions"][0]) for entry in entries]
    if kind == "metadata.jsonl":
        text = "".join(json.dumps({"file_name": file, "text": caption}) + "\n" for file, caption in pairs)
    elif kind == "captions.csv":
        text = HEADER + "".join(f"{file},{caption}\n" for file, caption in pairs)
    else:
        images = [{"id": number, "file_name": file} for number, (file, _) in enumerate(pairs)]
        annotations = [{"image_id": number, "caption": caption} for number, (_, caption) in enumerate(pairs)]
        text = json.dumps({"images": images, "annotations": annotations})
    (folder / kind).write_text(text)


@pytest.mark.parametrize("kind", ["metadata.jsonl", "captions.csv", "captions.json"])
def test_every_layout_gives_the_dataset_of_the_others(tmp_path, kind):
    folder = captioned(tmp_path / "pictures")
    expected = preprocess(folder, tmp_path / "expected", settings())
    lists_of(folder, kind)
    info = preprocess(pack(tmp_path, ["pictures"], tmp_path / "pictures.zip"), tmp_path / "out", settings())
    assert (info["fingerprint"], info["counts"]) == (expected["fingerprint"], expected["counts"])


def test_captions_of_a_text_folder_beside_an_archive_do_not_hide_its_own_list(tmp_path, out):
    captioned(tmp_path / "pictures")
    (tmp_path / "text").mkdir()
    info = preprocess(pack(tmp_path, ["pictures"], tmp_path / "pictures.zip"), out, settings())
    assert info["counts"]["train"]["images"] + info["counts"]["test"]["images"] == 40


def test_pictures_that_nobody_lists_and_cut_boxes_are_counted_in_a_line_each(tmp_path, out, capsys):
    folder = captioned(tmp_path / "pictures", box=[10, 10, 70, 20])
    for number in range(3):
        Image.new("RGB", (70, 70)).save(folder / f"more_{number}.png")
    info = preprocess(folder, out, settings())
    assert info["warnings"] == [
        "pictures that are not listed, and so not used: 3, such as more_0.png",
        "boxes that reach out of their picture, and were cut: 40, such as 0.png",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.removeprefix("preprocess: ") in info["warnings"]] == [
        f"preprocess: {warning}" for warning in info["warnings"]
    ]


def test_the_contact_sheet_shows_the_centre_of_training_pictures_and_is_no_part_of_the_fingerprint(
    source, out, capsys, monkeypatch
):
    info = preprocess(source, out, settings())
    assert f"preprocess: {contact_sheet.FILE} in the dataset folder shows" in capsys.readouterr().out.splitlines()[-1]
    assert contact_sheet.FILE in artifacts.check(out, "dataset", contents=True)["files"]
    with Image.open(out / contact_sheet.FILE) as sheet:
        colours = [sheet.getpixel((8 + 136 * number + 64, 8 + 64)) for number in range(4)]
        assert sheet.height == 8 + 128 + 3 * 14 + 8
    for colour, expected in zip(colours, [(255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)]):
        assert max(abs(one - other) for one, other in zip(colour, expected)) < 12
    monkeypatch.setattr(contact_sheet, "QUALITY", 50)
    assert preprocess(source, out, settings())["fingerprint"] == info["fingerprint"]


def test_the_contact_sheet_of_many_pictures_spreads_over_all_of_them(tmp_path, out):
    preprocess(captioned(tmp_path / "pictures"), out, settings())
    with Image.open(out / contact_sheet.FILE) as sheet:
        assert sheet.size == (6 * 136 + 8, 4 * (136 + 42) + 8)
        reds = [
            sheet.getpixel((8 + 136 * column + 64, 8 + 178 * row + 64))[0] for row in range(4) for column in range(6)
        ]
    assert max(reds) > 200 > 20 > reds[0]


def test_palette_and_attributes_of_drawn_birds_are_kept(source, out):
    root = source / "CUB_200_2011"
    (root / "palette.json").write_text('{"red": [206, 38, 38]}')
    (root / "attributes.jsonl").write_text(json.dumps({"file": file_of(9), "body": "black"}) + "\n")
    assert preprocess(source, out, settings())["palette"] == {"red": [206, 38, 38]}
    assert Dataset.open(out, "test").records[0]["attributes"]["body"] == "black"


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the real slice of CUB is not beside the checkout")
def test_the_real_slice_of_cub_is_read_whole(out):
    info = preprocess(SAMPLE, out, settings())
    assert info["rejected"] == []
    assert info["counts"]["train"]["images"] == 217
    assert info["counts"]["test"]["images"] == 209
    assert {info["counts"][split]["classes"] for split in ("train", "test")} == {4}
    train = Dataset.open(out, "train")
    batch = train.training_batch(range(32), resolutions=[32, 64], max_words=18, rng=torch.Generator())
    assert batch.lengths.max() == 18
    assert batch.images[-1].std() > 0.2
