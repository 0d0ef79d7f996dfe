"""What a person can get wrong: each stops with a sentence, or is recorded and skipped."""

import errno
import zipfile

import pytest
from PIL import Image
from small_sources import caption_file, file_of, pack, replace_line, settings, write_cub

from attngan import artifacts, storage
from attngan.data import dataset_writer
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.preprocess import preprocess

LENIENT = settings("data.max_rejected_share=0.5")


@pytest.fixture
def source(tmp_path):
    return write_cub(tmp_path / "source")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "dataset"


def picture(source, number):
    return source / "CUB_200_2011" / "images" / file_of(number)


def refusal(source, out, config, sentence, **options):
    with pytest.raises(InputError, match=sentence) as caught:
        preprocess(source, out, config, **options)
    assert not (out / "manifest.json").exists()
    return str(caught.value)


def test_a_word_threshold_that_no_word_reaches_stops(source, out):
    refusal(source, out, settings("data.min_word_count=1000"), "no word occurs 1000 times.*lower data.min_word_count")


def test_a_mistake_inside_an_archive_is_told_with_the_archives_name(source, tmp_path, out):
    (source / "CUB_200_2011" / "classes.txt").unlink()
    archive = pack(source, ["CUB_200_2011", "text"], tmp_path / "birds.tgz")
    sentence = refusal(archive, out, settings(), "classes.txt: no such file")
    assert sentence.startswith(f"{archive}/CUB_200_2011/classes.txt")


def test_an_archive_whose_members_leave_the_folder_writes_nothing(tmp_path, out):
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as handle:
        handle.writestr("../evil.txt", "x")
    refusal(archive, out, settings(), "leads out of its folder")
    assert not out.exists()


@pytest.mark.parametrize("name", ["missing", "missing.tgz"])
def test_a_source_or_captions_that_are_not_there_are_named(source, tmp_path, out, name):
    refusal(tmp_path / name, out, settings(), f"{name}: no such file or folder")
    refusal(source, out, settings(), f"{name}: no such file or folder", captions=tmp_path / name)


def damage(source, kind):
    """Spoil picture 5, and return what its rejection says."""
    path = picture(source, 5)
    boxes = source / "CUB_200_2011" / "bounding_boxes.txt"
    if kind == "truncated":
        Image.effect_noise((200, 200), 90).save(path)
        path.write_bytes(path.read_bytes()[:3000])
        return "truncated"
    if kind == "not an image":
        path.write_text("hello")
        return "not a picture"
    if kind == "missing":
        path.unlink()
        return "no such file"
    if kind == "1 x 1":
        Image.new("RGB", (1, 1)).save(path)
        replace_line(boxes, "5 ", "5 0.0 0.0 2.0 2.0")
        return "only 1 x 1 pixels"
    if kind == "box outside":
        replace_line(boxes, "5 ", "5 400.0 10.0 20.0 20.0")
        return "outside the picture of 60 x 50"
    if kind == "box not a number":
        replace_line(boxes, "5 ", "5 nan 10.0 20.0 20.0")
        return "expected four numbers of pixels"
    if kind == "no usable words":
        caption_file(source, 5).write_text("...\n\U0001f426\n")
        return "none of its captions has a usable word"
    caption_file(source, 5).unlink()
    return "no such file"


BAD = [
    "truncated",
    "not an image",
    "missing",
    "1 x 1",
    "box outside",
    "box not a number",
    "no usable words",
    "no captions",
]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_recorded_and_skipped(source, out, kind):
    reason = damage(source, kind)
    info = preprocess(source, out, LENIENT)
    ((file, found),) = [(entry["file"], entry["reason"]) for entry in info["rejected"]]
    assert file == file_of(5)
    assert reason in found
    assert len(Dataset.open(out, "train")) == 3


@pytest.mark.parametrize("kind", BAD)
def test_beyond_the_stated_share_a_bad_image_stops_and_is_named(source, out, kind):
    reason = damage(source, kind)
    sentence = refusal(source, out, settings(), "at least 1 of 6 images cannot be used, more than the 1.0% of data.max")
    assert f"{file_of(5)}: " in sentence
    assert reason in sentence


@pytest.mark.parametrize(
    ("mode", "colour", "name"), [("CMYK", (0, 255, 255, 0), "a.jpg"), ("I;16", 65535, "a.png"), ("L", 255, "a.jpg")]
)
def test_cmyk_16_bit_and_grey_pictures_are_taken(source, out, mode, colour, name):
    path = picture(source, 5)
    Image.new(mode, (60, 50), colour).save(path.with_name(name))
    path.with_name(name).rename(path)
    assert preprocess(source, out, settings())["rejected"] == []
    images = Dataset.open(out, "train").evaluation_batch([2], [0], resolutions=[64], max_words=18).images[0]
    assert images[:, 0].min() > 0.9


def test_a_word_of_a_rejected_picture_alone_is_not_in_the_vocabulary(source, out):
    damage(source, "truncated")
    preprocess(source, out, LENIENT)
    assert "blue" not in Dataset.open(out, "train").vocabulary


@pytest.mark.parametrize(("classes", "split"), [("1\n2\n3\n", "train"), ("77\n", "test")])
def test_a_split_that_ends_up_empty_stops(source, out, classes, split):
    (source / "CUB_200_2011" / "test_classes.txt").write_text(classes)
    refusal(source, out, settings(), f"no usable image is left for the {split} split")


def test_a_split_whose_pictures_are_all_bad_stops(source, out):
    for number in (9, 11):
        picture(source, number).write_text("broken")
    refusal(source, out, settings("data.max_rejected_share=1.0"), "no usable image is left for the test split")


def test_a_full_disk_leaves_the_earlier_result_and_no_half_file(source, out, monkeypatch):
    preprocess(source, out, settings())
    before = storage.fingerprint(str(out))

    def full(self, pixels):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dataset_writer.PixelWriter, "append", full)
    with pytest.raises(OSError, match="No space left"):
        preprocess(source, out, settings())
    artifacts.check(out, "dataset", contents=True)
    assert storage.fingerprint(str(out)) == before


def test_a_folder_without_captions_says_what_is_expected(tmp_path, out):
    (tmp_path / "empty").mkdir()
    refusal(tmp_path / "empty", out, settings(), "expected CUB-200-2011")
