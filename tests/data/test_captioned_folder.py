import json
import os

import pytest
from PIL import Image

from attngan.data.records import Record, number_classes, split_by_hash
from attngan.data.sources import layouts
from attngan.data.sources.cub import EXTRA
from attngan.errors import InputError


def write_list(folder, *entries):
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_line_gives_a_record_with_all_it_says(tmp_path):
    entry = {
        "file": "a/b.jpg",
        "captions": ["a cat ", "", "the cat"],
        "class": "cat",
        "box": [1, 2.5, 3, 4],
        "split": "test",
    }
    write_list(tmp_path, entry)
    (record,) = layouts.read(tmp_path).records
    assert record == Record(
        "a/b.jpg", tmp_path / "a" / "b.jpg", (1.0, 2.5, 3.0, 4.0), "cat", "test", ("a cat", "the cat")
    )


def test_class_box_and_split_may_be_left_out_or_null(tmp_path):
    write_list(tmp_path, {"file": "a.jpg", "captions": ["a cat"]}, {"file": "b.jpg", "captions": ["x"], "box": None})
    first, second = layouts.read(tmp_path).records
    assert (first.class_name, first.box, first.split) == (None, None, None)
    assert second.box is None


def test_emoji_and_other_scripts_in_names_and_captions_are_kept(tmp_path):
    write_list(tmp_path, {"file": "\u9e1f/\U0001f426.jpg", "captions": ["\U0001f426 bird"]})
    (record,) = layouts.read(tmp_path).records
    assert (record.name, record.captions) == ("\u9e1f/\U0001f426.jpg", ("\U0001f426 bird",))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"file": "a.jpg", "captions": ["a', "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[1]", "expected a JSON object"),
        ('{"captions": ["a cat"]}', 'expected "file" to be a path'),
        ('{"file": 3, "captions": ["a cat"]}', 'expected "file" to be a path'),
        ('{"file": "../a.jpg", "captions": ["a cat"]}', 'expected "file" to be a path below the folder'),
        ('{"file": "/a.jpg", "captions": ["a cat"]}', 'expected "file" to be a path below the folder'),
        ('{"file": "a.jpg"}', 'expected "captions" to be a list of texts'),
        ('{"file": "a.jpg", "captions": "a cat"}', 'expected "captions" to be a list of texts'),
        ('{"file": "a.jpg", "captions": [1]}', 'expected "captions" to be a list of texts'),
        ('{"file": "a.jpg", "caption": ["a cat"]}', "unknown key 'caption'"),
        ('{"file": "a.jpg", "captions": ["a cat"], "box": [1, 2, 3]}', 'expected "box" to be'),
        ('{"file": "a.jpg", "captions": ["a cat"], "box": "1 2 3 4"}', 'expected "box" to be'),
        ('{"file": "a.jpg", "captions": ["a cat"], "box": [1, 2, 3, true]}', 'expected "box" to be'),
        ('{"file": "a.jpg", "captions": ["a cat"], "box": [1, 2, 3, 1' + "0" * 399 + "]}", "far larger"),
        ('{"file": "a.jpg", "captions": ["a cat"], "box": [1, 2, 3, ' + "1" * 5000 + "]}", "a number of 5,000 digits"),
        ('{"file": "a.jpg", "captions": ["a cat"], "split": "val"}', 'expected "split" to be "train" or "test"'),
        ('{"file": "a.jpg", "captions": ["a cat"], "split": ["test"]}', 'expected "split" to be "train" or "test"'),
        ('{"file": "a.jpg", "captions": ["a cat"], "class": 3}', 'expected "class" to be text'),
        ('{"file": "a.jpg", "captions": ["\\ud83d"]}', "surrogate"),
    ],
)
def test_a_line_that_describes_no_picture_is_rejected_with_its_number(tmp_path, line, reason):
    write_list(tmp_path, {"file": "good.jpg", "captions": ["a cat"]}, line)
    source = layouts.read(tmp_path)
    assert [record.name for record in source.records] == ["good.jpg"]
    ((file, found),) = [(entry.file, entry.reason) for entry in source.rejected]
    assert file == "captions.jsonl, line 2"
    assert reason in found


@pytest.mark.parametrize(
    ("one", "other"), [("b.jpg", "b.jpg"), ("b.jpg", "./b.jpg"), ("a//b.jpg", "a/b.jpg"), ("a/./b.jpg", "a/b.jpg")]
)
def test_a_file_that_is_listed_twice_counts_once_however_it_is_spelt(tmp_path, one, other):
    write_list(tmp_path, {"file": one, "captions": ["a cat"]}, {"file": other, "captions": ["a dog"], "split": "test"})
    source = layouts.read(tmp_path)
    assert [record.captions for record in source.records] == [("a cat",)]
    assert source.records[0].name == one.replace("//", "/").replace("/./", "/")
    assert "earlier line" in source.rejected[0].reason


def test_the_list_is_found_one_folder_below_as_archives_have_it(tmp_path):
    (tmp_path / "pictures").mkdir()
    write_list(tmp_path / "pictures", {"file": "a.jpg", "captions": ["a cat"]})
    assert layouts.read(tmp_path).records[0].path == tmp_path / "pictures" / "a.jpg"


def test_the_list_may_lie_apart_from_the_images(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "lists").mkdir()
    write_list(tmp_path / "lists", {"file": "a.jpg", "captions": ["a cat"]})
    source = layouts.read(tmp_path / "images", tmp_path / "lists")
    assert source.records[0].path == tmp_path / "images" / "a.jpg"


def test_text_files_beside_the_images_are_their_captions(tmp_path):
    for name in ("b.png", "deep/a.jpg", "c.webp", "no_text.JPG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (10, 10)).save(tmp_path / name)
    for name in ("b.txt", "deep/a.txt", "c.txt"):
        (tmp_path / name).write_text(f"a picture of {name[0]}\n\nit is black\n")
    source = layouts.read(tmp_path)
    assert [(record.name, record.captions[0]) for record in source.records] == [
        ("b.png", "a picture of b"),
        ("c.webp", "a picture of c"),
        ("deep/a.jpg", "a picture of d"),
    ]
    assert [(entry.file, entry.reason) for entry in source.rejected] == [
        ("no_text.JPG", "captions: no text file of its name beside it"),
    ]


MACOS = ("._a.png", "__MACOSX/a.png", "deep/._a.png", "__MACOSX/deep/._a.png", ".DS_Store")


@pytest.mark.parametrize("way", ["text files", "list"])
def test_what_macos_adds_is_neither_picture_nor_list(tmp_path, way):
    for name in ("a.png", *MACOS):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
        (tmp_path / name).with_suffix(".txt").write_text("a picture\n")
    if way == "list":
        (tmp_path / "deep").joinpath("captions.jsonl").write_text('{"file": "a.png", "captions": ["a picture"]}\n')
        for name in ("._captions.jsonl", "__MACOSX/captions.jsonl"):
            (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    source = layouts.read(tmp_path)
    assert [record.name for record in source.records] == ["a.png"]
    assert source.rejected == []


def test_a_list_that_names_what_macos_adds_has_those_lines_rejected(tmp_path):
    write_list(tmp_path, *[{"file": name, "captions": ["a cat"]} for name in ("a.png", *MACOS)])
    source = layouts.read(tmp_path)
    assert [record.name for record in source.records] == ["a.png"]
    assert [entry.reason.split(": ")[1] for entry in source.rejected] == [EXTRA] * len(MACOS)


def test_a_line_that_is_no_utf_8_is_rejected_alone(tmp_path):
    lines = [b'{"file": "%d.png", "captions": ["a cat"]}' % number for number in range(3)]
    lines[1] = lines[1].replace(b"cat", b"c\xe4t")
    (tmp_path / "captions.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    source = layouts.read(tmp_path)
    assert [record.name for record in source.records] == ["0.png", "2.png"]
    assert [entry.file for entry in source.rejected] == ["captions.jsonl, line 2"]
    assert "expected JSON in UTF-8" in source.rejected[0].reason


def test_a_text_file_that_is_no_utf_8_is_rejected_with_its_line(tmp_path):
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"a cat\n\na c\xe4t\n")
    (entry,) = layouts.read(tmp_path).rejected
    assert entry.reason.startswith("captions: a.txt: line 3: expected text in UTF-8")


def test_a_picture_whose_name_is_no_utf_8_is_rejected_and_named(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    (entry,) = layouts.read(tmp_path).rejected
    assert (entry.file, entry.reason) == ("\\udcff.png", "its name is not UTF-8")


@pytest.mark.parametrize("name", ["captions.jsonl", "a.txt"])
def test_a_pipe_in_the_place_of_a_list_or_of_captions_is_not_waited_for(tmp_path, name):
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / name)
    if name == "a.txt":
        (entry,) = layouts.read(tmp_path).rejected
        assert entry.reason == "captions: a.txt: expected a file, found a pipe"
    else:
        with pytest.raises(InputError, match=f"{name}: expected a file, found a pipe"):
            layouts.read(tmp_path)


def test_a_pipe_in_the_place_of_a_picture_is_a_picture_that_is_rejected_later(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a cat\n")
    assert [record.name for record in layouts.read(tmp_path).records] == ["a.png"]


def test_an_empty_text_file_is_a_rejection(tmp_path):
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("\n")
    assert layouts.read(tmp_path).rejected[0].reason == "captions: a.txt is empty"


def test_a_folder_with_nothing_of_the_kind_stops_and_says_what_is_expected(tmp_path):
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"expected CUB-200-2011 \(images.txt\), captions.jsonl, .*, or NAME.txt"):
        layouts.read(tmp_path)


def test_one_picture_in_ten_is_for_testing_by_its_name_alone():
    splits = [split_by_hash(f"picture_{number}.jpg") for number in range(5000)]
    assert abs(splits.count("test") - 500) < 85  # four standard deviations
    # The first 64 bits of sha256("a") are ca978112ca1bbdca, of sha256("b") 3e23e8160039594a: they end in 0 and 6.
    assert (split_by_hash("a"), split_by_hash("b")) == ("test", "train")


def test_classes_are_numbered_by_name_and_a_picture_without_one_is_its_own():
    def record(name, class_name):
        return Record(name, None, None, class_name, None, ())

    records = [record("z", "dog"), record("a", None), record("y", "cat"), record("x", "dog"), record("cat", None)]
    assert number_classes(records) == [1, 2, 0, 1, 3]
