import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from small_sources import file_of, replace_line, write_cub

from attngan.data.captions import tokenize
from attngan.data.images import prepare
from attngan.data.sources import cub
from attngan.errors import InputError, is_lasting

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "cub-sample"
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="the real slice of CUB is not beside the checkout")


@pytest.fixture
def root(tmp_path):
    return write_cub(tmp_path) / "CUB_200_2011"


def rejected(source):
    return {entry.file: entry.reason for entry in source.rejected}


def test_the_published_split_has_50_test_classes():
    assert len(cub.TEST_CLASSES) == 50
    assert {1, 4, 6, 8, 187, 197} <= cub.TEST_CLASSES
    assert not {2, 5, 7, 10, 200} & cub.TEST_CLASSES


def test_the_lists_are_found_in_the_source_or_one_folder_below(tmp_path, root):
    assert cub.find_layout(root) == root
    assert cub.find_layout(tmp_path) == root
    assert cub.find_layout(root / "images") is None


def test_two_folders_with_lists_are_one_too_many(tmp_path):
    write_cub(tmp_path)
    (tmp_path / "CUB_200_2011").rename(tmp_path / "old")
    (tmp_path / "text").rename(tmp_path / "old_text")
    write_cub(tmp_path)
    with pytest.raises(InputError, match="found it in CUB_200_2011, old"):
        cub.find_layout(tmp_path)


def test_records_come_in_the_order_of_the_list_with_their_own_ids(root):
    source = cub.read(root)
    assert [record.name for record in source.records] == [file_of(number) for number in (1, 2, 5, 6, 9, 11)]
    first = source.records[0]
    assert first.path == root / "images" / file_of(1)
    assert first.box == (20.0, 15.0, 20.0, 20.0)
    assert first.class_name == "002.Red_Bird"
    assert first.captions == ("this bird is red", "a red bird with two wings")
    assert not source.rejected
    assert not source.warnings


def test_the_split_goes_by_class_and_not_by_train_test_split(root):
    splits = {record.class_name: record.split for record in cub.read(root).records}
    assert splits == {"001.Black_Bird": "test", "002.Red_Bird": "train", "003.Blue_Bird": "train"}


def test_a_source_with_test_classes_of_its_own_is_split_by_them(root):
    (root / "test_classes.txt").write_text("3\n")
    splits = {record.class_name: record.split for record in cub.read(root).records}
    assert splits == {"001.Black_Bird": "train", "002.Red_Bird": "train", "003.Blue_Bird": "test"}


def test_attributes_and_palette_of_drawn_birds_are_kept(root):
    (root / "attributes.jsonl").write_text(json.dumps({"file": file_of(1), "body": "red"}) + "\n")
    (root / "palette.json").write_text('{"red": [206, 38, 38]}')
    source = cub.read(root)
    assert source.records[0].attributes == {"file": file_of(1), "body": "red"}
    assert source.records[1].attributes is None
    assert source.palette == {"red": [206, 38, 38]}


@pytest.mark.parametrize("place", ["inside", "beside", "elsewhere", "elsewhere/text", "elsewhere/birds/text"])
def test_captions_are_found_inside_beside_or_where_they_are_said_to_be(tmp_path, root, place):
    folder = {"inside": root / "text", "beside": tmp_path / "text"}.get(place, tmp_path / place)
    folder.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "text").rename(folder)
    source = cub.read(root, tmp_path / "elsewhere" if place.startswith("elsewhere") else None)
    assert len(source.records) == 6


def test_a_source_without_captions_stops_and_says_where_it_looked(tmp_path, root):
    (tmp_path / "text").rename(tmp_path / "captions")
    with pytest.raises(InputError, match="no captions found") as caught:
        cub.read(root)
    assert str(root / "text") in str(caught.value)
    assert str(tmp_path / "text") in str(caught.value)


@pytest.mark.parametrize("name", ["bounding_boxes.txt", "image_class_labels.txt", "classes.txt"])
def test_a_missing_list_stops(root, name):
    (root / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file") as caught:
        cub.read(root)
    assert is_lasting(caught.value)  # the source is here: no other try finds the list


@pytest.mark.parametrize(
    ("name", "start", "line", "sentence"),
    [
        ("images.txt", "2 ", "two b.jpg", "line 2: invalid literal"),
        ("images.txt", "2 ", "2", "line 2: expected a number and a name"),
        ("images.txt", "2 ", "1 b.jpg", "line 2: the id 1 stands in an earlier line too"),
        ("bounding_boxes.txt", "5 ", "5 1.0 2.0 3.0", "line 3: expected a number and the box's x, y, width and height"),
        ("image_class_labels.txt", "5 ", "5 three", "line 3: expected two whole numbers"),
    ],
)
def test_a_malformed_list_stops_with_file_and_line(root, name, start, line, sentence):
    replace_line(root / name, start, line)
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        cub.read(root)
    assert str(root / name) in str(caught.value)


def test_all_wrong_lines_of_a_list_are_told_in_one_sentence(root):
    path = root / "bounding_boxes.txt"
    path.write_bytes(b"1 1 2 3\n2 20 15 20 20\nfive 1 2 3 4\n\n2 20 15 20 20\n9 \xff 1 2 3\n")
    with pytest.raises(InputError) as caught:
        cub.read(root)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}, line 1: expected a number and the box's")
    parts = sentence.split("; line ")[1:]
    assert [part.split(":")[0] for part in parts] == ["3", "5", "6"]
    assert "invalid literal" in parts[0] and "earlier line" in parts[1] and "UTF-8" in parts[2]


@pytest.mark.parametrize("spelling", ["{}", "./{}"])
def test_a_file_with_two_ids_is_taken_with_the_first_alone(root, spelling):
    again = spelling.format(file_of(9))  # of the test split
    replace_line(root / "images.txt", "9 ", f"9 {file_of(9)}\n12 {again}")
    replace_line(root / "bounding_boxes.txt", "9 ", "9 20.0 15.0 20.0 20.0\n12 20.0 15.0 20.0 20.0")
    replace_line(root / "image_class_labels.txt", "9 ", "9 1\n12 2")  # which is for training
    source = cub.read(root)
    assert [record.name for record in source.records] == [file_of(number) for number in (1, 2, 5, 6, 9, 11)]
    assert rejected(source) == {again: "its id is 12 in images.txt, and 9 too; expected one"}


def test_a_list_of_another_kind_is_told_with_the_first_of_its_lines(root):
    (root / "images.txt").write_text("a.jpg\n" * 5000)
    with pytest.raises(InputError, match=r"line 20: .*; and 4,980 more lines\.$") as caught:
        cub.read(root)
    assert len(str(caught.value)) < 3000


def test_every_wrong_line_of_the_test_classes_and_attributes_is_told(root):
    (root / "test_classes.txt").write_text("1\none\n2\ntwo\n")
    with pytest.raises(InputError, match="line 2: expected one class id a line, found 'one'; line 4: "):
        cub.read(root)
    (root / "test_classes.txt").unlink()
    lines = ["[]", "{}", '{"file": 3}', '{"file": "a", "named": 3}', '{"file": "a", "named": [["body", 3]]}']
    lines += ["[" * 3000, '{"file": "\\ud800"}', '{"file": "a", "n": ' + "9" * 5000 + "}"]
    (root / "attributes.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        cub.read(root)
    assert str(caught.value).count('expected a JSON object with "file"') == len(lines)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"red"',
        "[" * 3000,
        '{"red": "red"}',
        '{"red": [1, 2]}',
        '{"red": [1, 2, 256]}',
        '{"red": [0.5, 1, 2]}',
        '{"red": [true, 1, 2]}',
        '{"red": [NaN, 1, 2]}',
        '{"\\ud800": [1, 2, 3]}',
        '{"red": [' + "9" * 5000 + ", 1, 2]}",
        "",
    ],
)
def test_a_palette_that_somebody_edited_is_refused_in_a_sentence(root, text):
    (root / "palette.json").write_text(text)
    with pytest.raises(InputError, match=r"palette.json: expected .*; mend it, or remove it\.$"):
        cub.read(root)


LISTS = ["images.txt", "bounding_boxes.txt", "image_class_labels.txt", "classes.txt"]


@pytest.mark.parametrize("name", [*LISTS, "test_classes.txt", "attributes.jsonl", "palette.json"])
def test_a_pipe_in_the_place_of_a_list_is_not_waited_for(tmp_path, root, name):
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    with pytest.raises(InputError, match=f"{name}: expected a file, found"):
        cub.read(cub.find_layout(tmp_path))


@pytest.mark.parametrize("file", ["n" * 300 + ".jpg", "deep/" * 2000 + "a.jpg", f"class/{chr(0x9E1F) * 100}.jpg"])
def test_a_name_that_no_file_can_have_is_rejected_alone(root, file):
    replace_line(root / "images.txt", "1 ", f"1 {file}")  # the first one that captions are looked for
    assert rejected(cub.read(root)).keys() == {file}


def test_what_macos_adds_is_no_layout_and_no_picture(tmp_path, root):
    (tmp_path / "__MACOSX").mkdir()
    for name in ("__MACOSX/images.txt", "__MACOSX/._images.txt"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    assert cub.find_layout(tmp_path) == root
    replace_line(root / "images.txt", "5 ", "5 class/._bird.jpg")
    assert rejected(cub.read(root)) == {"class/._bird.jpg": cub.EXTRA}


def test_an_empty_list_of_images_and_bytes_that_are_no_text_stop(root):
    (root / "images.txt").write_text("\n")
    with pytest.raises(InputError, match="found none"):
        cub.read(root)
    (root / "images.txt").write_bytes(b"1 \xff\xfe")
    with pytest.raises(InputError, match="expected text in UTF-8"):
        cub.read(root)


@pytest.mark.parametrize(
    ("name", "start", "line", "reason"),
    [
        ("bounding_boxes.txt", "5 ", None, "no line for its id 5 in bounding_boxes.txt"),
        ("image_class_labels.txt", "5 ", None, "no line for its id 5 in image_class_labels.txt"),
        ("image_class_labels.txt", "5 ", "5 77", "its class 77 is not in classes.txt"),
    ],
)
def test_an_image_that_a_list_lacks_is_rejected_alone(root, name, start, line, reason):
    replace_line(root / name, start, line)
    source = cub.read(root)
    assert rejected(source) == {file_of(5): reason}
    assert len(source.records) == 5


@pytest.mark.parametrize("file", ["../../secret.jpg", "/etc/secret.jpg", "a/../../b.jpg"])
def test_a_path_that_leaves_the_images_is_rejected(root, file):
    replace_line(root / "images.txt", "5 ", f"5 {file}")
    assert rejected(cub.read(root)) == {file: "its path leads out of images/"}


def test_ids_that_no_image_has_are_a_warning(root):
    with (root / "bounding_boxes.txt").open("a") as handle:
        handle.write("99 1.0 1.0 5.0 5.0\n98 1.0 1.0 5.0 5.0\n")
    assert cub.read(root).warnings == [
        "bounding_boxes.txt: 2 image ids are not in images.txt, the first is 98",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "captions: bird_5.txt: no such file"),
        (b"\n  \n", "captions: bird_5.txt is empty"),
        (b"a bird\na bl\xfce bird\n", "captions: bird_5.txt: line 2: expected text in UTF-8"),
    ],
)
def test_an_image_whose_captions_cannot_be_read_is_rejected_alone(tmp_path, root, content, reason):
    path = (tmp_path / "text" / file_of(5)).with_suffix(".txt")
    path.unlink() if content is None else path.write_bytes(content)
    (file, found), *others = rejected(cub.read(root)).items()
    assert (file, others) == (file_of(5), [])
    assert found.startswith(reason)


def test_line_ends_separate_captions_blank_lines_go_and_other_separators_stay(tmp_path, root):
    path = (tmp_path / "text" / file_of(1)).with_suffix(".txt")
    path.write_bytes("\ufeffa red\u2028bird\r\n\r\n  a bird \x0b of red\n".encode())
    assert cub.read(root).records[0].captions == ("a red\u2028bird", "a bird \x0b of red")


@needs_sample
def test_the_real_slice_reads_as_the_facts_say():
    source = cub.read(cub.find_layout(SAMPLE))
    assert Counter(record.split for record in source.records) == {"train": 217, "test": 209}
    assert {record.class_name[:3] for record in source.records if record.split == "test"} == {
        "001",
        "004",
        "006",
        "008",
    }
    assert not source.rejected
    lengths = [len(tokenize(caption)) for record in source.records for caption in record.captions]
    assert len(lengths) == 4260
    assert max(lengths) == 56


@needs_sample
def test_real_photographs_are_prepared_with_the_crop_rule():
    for record in cub.read(cub.find_layout(SAMPLE)).records[:5]:
        pixels = prepare(record.path, record.box, resolution=64)
        assert min(pixels.shape[:2]) == 76
        assert max(pixels.shape[:2]) <= 152
