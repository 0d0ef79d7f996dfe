"""What a person can get wrong: each stops with a sentence, or is recorded and skipped."""

import errno
import json
import os
import socket
import zipfile

import pytest
import torch
from PIL import Image
from small_sources import caption_file, file_of, pack, replace_line, settings, write_cub

from attngan.data import dataset_writer
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.steps.preprocess import look, preprocess
from attngan.storage import artifacts, places

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
    if kind == "another script":
        caption_file(source, 5).write_text("\u043a\u0440\u0430\u0441\u043d\u044b\u0439\n")
        return "none of its captions has a word in Latin letters (a to z)"
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
    "another script",
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
    none = settings("data.max_rejected_share=0.0")
    sentence = refusal(source, out, none, "source: 1 of 6 images cannot be used, more than the 0.0% of data.max")
    assert f"{file_of(5)}: " in sentence
    assert reason in sentence


def test_one_bad_image_of_a_few_is_left_out_and_two_stop(source, out):
    picture(source, 5).write_text("broken")
    (entry,) = preprocess(source, out, settings())["rejected"]
    assert entry["file"] == file_of(5)
    picture(source, 6).write_text("broken")
    with pytest.raises(InputError, match=r"2 of 6 images cannot be used, more than the 1\.0% of data.max_rejected"):
        preprocess(source, out, settings())


def test_a_look_at_a_source_finds_what_cannot_be_used_and_names_it(source, capsys):
    assert look(source, settings()) == (6, 30)
    for number in (5, 6):
        picture(source, number).write_text("broken")
    caption_file(source, 9).unlink()
    with pytest.raises(InputError, match="source: 3 of 6 images cannot be used"):
        look(source, settings())
    assert capsys.readouterr().out.count("rejected: ") == 3
    assert look(source, LENIENT) == (3, 30)


def test_all_mistakes_of_a_source_are_told_at_once(source, out, capsys):
    bad = (1, 5, 9, 11)  # of both splits
    for number in bad:
        picture(source, number).write_text("broken")
    caption_file(source, 6).unlink()
    sentence = refusal(source, out, settings(), "5 of 6 images cannot be used, more than the 1.0% of")
    assert sentence.count(".jpg: ") == 3
    assert sentence.endswith("mend or remove them, or raise the share: --set data.max_rejected_share=0.9.")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("rejected: ")]
    assert {line.split(": ")[1] for line in lines} == {file_of(number) for number in (*bad, 6)}


def test_where_every_picture_is_rejected_no_share_is_advised(source, out):
    for number in (1, 2, 5, 6, 9, 11):
        picture(source, number).write_text("broken")
    sentence = refusal(source, out, settings(), "6 of 6 images cannot be used")
    assert sentence.endswith("; mend or remove them.")


def test_pictures_of_the_test_split_are_read_though_none_is_left_to_train(source, out):
    for number in (1, 2, 5, 6, 9):
        picture(source, number).write_text("broken")
    refusal(source, out, settings(), "5 of 6 images cannot be used")
    refusal(source, out, settings("data.max_rejected_share=1.0"), "no usable image is left for the train split")


def test_rejections_within_the_share_are_told_too_and_a_great_many_are_counted(source, out, capsys, monkeypatch):
    for number in (5, 6):
        picture(source, number).write_text("broken")
    preprocess(source, out, LENIENT)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("rejected: ")] == [
        f"rejected: {file_of(number)}: not a picture that can be read (JPEG, PNG, WebP, GIF, BMP or TIFF)"
        for number in (5, 6)
    ]
    monkeypatch.setattr("attngan.steps.preprocess.LINES_SHOWN", 1)
    preprocess(source, out, LENIENT)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("rejected: ") for line in lines) == 1
    assert "... and 1 more" in lines


@pytest.mark.parametrize("name", ["CUB_200_2011/notes\\readme.txt", "CUB_200_2011/\x1b[2Jnotes\\readme.txt"])
@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_a_member_with_a_backslash_does_not_cost_the_archive_and_a_line_names_it(
    source, tmp_path, out, capsys, name, kind
):
    (source / name).write_text("x")
    archive = pack(source, [path.name for path in source.iterdir()], tmp_path / f"birds.{kind}")
    assert preprocess(archive, out, settings())["rejected"] == []
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "is skipped" in line]
    assert (
        line.startswith(f"{archive.name}: the member")
        and "notes\\readme.txt' is skipped" in line
        and "\x1b" not in line
    )


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("what", ["source", "captions", "vocabulary"])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(source, tmp_path, out, kind, what):
    path = tmp_path / "special"
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            server.bind(str(path))
        else:
            path.symlink_to("/dev/zero")
        given = {"source": source} | {what: path}
        with pytest.raises(InputError, match="special: expected a file, found"):
            preprocess(given.pop("source"), out, settings(), **given)


def test_a_pipe_among_the_pictures_is_rejected_alone(source, out):
    picture(source, 5).unlink()
    os.mkfifo(picture(source, 5))
    (entry,) = preprocess(source, out, LENIENT)["rejected"]
    assert entry == {"file": file_of(5), "reason": "expected a file, found a pipe"}


@pytest.mark.parametrize("name", ["n" * 300, "deep/" * 2000 + "a", "\ud800", "a\0b"])
def test_a_source_whose_name_no_file_can_have_is_not_there(source, out, name):
    refusal(source / name, out, settings(), "no such file or folder")
    refusal(source, out, settings(), "no such file or folder", captions=source / name)


def test_a_picture_whose_name_is_no_utf_8_is_rejected_and_written_down(tmp_path, out):
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = [os.fsdecode(b"\xff\n\x1b.png"), *(f"{number}.png" for number in range(30))]
    for name in names:
        Image.new("RGB", (70, 70)).save(folder / name)
        (folder / name).with_suffix(".txt").write_text("a black picture\n")
    (entry,) = preprocess(folder, out, LENIENT)["rejected"]
    assert entry == {"file": "\\udcff\n\x1b.png", "reason": "its name is not UTF-8"}


def test_a_turned_tiff_and_other_formats_give_what_the_upright_picture_gives(tmp_path, out):
    """A TIFF that Pillow turns while it decodes, behind a box in the upright picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    upright = Image.new("RGB", (200, 100), "blue")
    upright.paste("red", (100, 0, 200, 100))
    lines = []
    for number in range(40):
        name, exif = f"{number}.tiff" if number % 2 else f"{number}.png", Image.Exif()
        exif[0x0112] = 6
        upright.transpose(Image.Transpose.ROTATE_90).save(folder / name, exif=exif)
        lines.append(json.dumps({"file": name, "captions": ["half red"], "box": [130, 30, 40, 40]}) + "\n")
    (folder / "captions.jsonl").write_text("".join(lines))
    assert preprocess(folder, out, settings())["rejected"] == []
    train = Dataset.open(out, "train")
    batch = train.evaluation_batch(range(len(train)), [0] * len(train), resolutions=[64], max_words=18).images[-1]
    assert (batch == torch.tensor([1.0, -1.0, -1.0])[:, None, None]).all()


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
    before = places.fingerprint(str(out))

    def full(self, pixels):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dataset_writer.PixelWriter, "append", full)
    with pytest.raises(OSError, match="No space left"):
        preprocess(source, out, settings())
    artifacts.check(out, "dataset", contents=True)
    assert places.fingerprint(str(out)) == before


def test_a_folder_without_captions_says_what_is_expected(tmp_path, out):
    (tmp_path / "empty").mkdir()
    refusal(tmp_path / "empty", out, settings(), "expected CUB-200-2011")
