"""Hugging Face's ImageFolder: `metadata.jsonl`."""

import json
import os

import pytest

from attngan.data.records import Record
from attngan.data.sources import layouts
from attngan.errors import InputError


def write_list(folder, *entries):
    folder.mkdir(exist_ok=True, parents=True)
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_line_gives_a_record_and_keys_of_others_are_ignored(tmp_path):
    write_list(tmp_path, {"file_name": "a/b.jpg", "text": " a cat", "label": 3, "objects": {"bbox": [[1, 2, 3, 4]]}})
    source = layouts.read(tmp_path)
    assert source.records == [Record("a/b.jpg", tmp_path / "a" / "b.jpg", None, None, None, ("a cat",))]
    assert source.rejected == []


def test_a_list_of_texts_and_several_lines_of_a_picture_are_several_captions(tmp_path):
    write_list(
        tmp_path,
        {"file_name": "a.jpg", "text": ["one", "", "two"]},
        {"file_name": "b.jpg", "text": "b"},
        {"file_name": "./a.jpg", "text": "three"},
    )
    assert [(record.name, record.captions) for record in layouts.read(tmp_path).records] == [
        ("a.jpg", ("one", "two", "three")),
        ("b.jpg", ("b",)),
    ]


@pytest.mark.parametrize("test", ["test", "validation", "val"])
def test_a_folder_for_each_split_names_the_splits(tmp_path, test):
    for folder in ("train", test):
        write_list(tmp_path / folder, {"file_name": "0.jpg", "text": folder})
    records = layouts.read(tmp_path).records
    assert {(record.name, record.path, record.split) for record in records} == {
        ("train/0.jpg", tmp_path / "train" / "0.jpg", "train"),
        (f"{test}/0.jpg", tmp_path / test / "0.jpg", "test"),
    }


def test_a_folder_of_one_split_alone_is_divided_as_if_it_named_none(tmp_path):
    write_list(tmp_path / "train", {"file_name": "0.jpg", "text": "a cat"})
    assert [(record.name, record.split) for record in layouts.read(tmp_path).records] == [("train/0.jpg", None)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"file_name": "a.jpg", "text": "a', "expected JSON"),
        ('{"file_name": "a.jpg", "text": ' + "[" * 100_000, "expected JSON"),
        ('{"file_name": "a.jpg", "text": "a", "n": 1' + "0" * 5000 + "}", "a number of 5,001 digits"),
        ("[1]", "expected a JSON object"),
        ('{"text": "a cat"}', "expected \"file_name\" to be a path below the folder, found 'None'"),
        ('{"file_name": "../a.jpg", "text": "a cat"}', 'expected "file_name" to be a path below the folder'),
        ('{"file_name": "/a.jpg", "text": "a cat"}', 'expected "file_name" to be a path below the folder'),
        ('{"file_name": "a\\u0000.jpg", "text": "a cat"}', 'expected "file_name" to be a path below the folder'),
        ('{"file_name": "._a.jpg", "text": "a cat"}', "what macOS adds"),
        ('{"file_name": "a.jpg"}', 'expected "text" to be a text or a list of texts'),
        ('{"file_name": "a.jpg", "text": [1]}', 'expected "text" to be a text or a list of texts'),
        ('{"file_name": "a.jpg", "text": " "}', "'a.jpg' has no caption"),
    ],
)
def test_wrong_lines_are_rejected_with_their_numbers_all_at_once(tmp_path, line, reason):
    write_list(tmp_path, {"file_name": "good.jpg", "text": "a cat"}, line, "", line)
    source = layouts.read(tmp_path)
    assert [record.name for record in source.records] == ["good.jpg"]
    places = [entry.file for entry in source.rejected]
    assert places == ["metadata.jsonl, line 2", "metadata.jsonl, line 4"][: 1 if "no caption" in reason else 2]
    assert all(reason in entry.reason for entry in source.rejected)


def test_a_wrong_line_of_a_split_is_told_with_its_folder(tmp_path):
    write_list(tmp_path / "train", {"file_name": "0.jpg", "text": "a cat"})
    write_list(tmp_path / "test", {"file_name": "../train/0.jpg", "text": "a cat"})
    assert [entry.file for entry in layouts.read(tmp_path).rejected] == ["test/metadata.jsonl, line 1"]


def test_a_byte_order_mark_and_the_line_ends_of_windows_are_no_mistake(tmp_path):
    lines = [b'{"file_name": "%d.png", "text": "a cat"}' % number for number in range(3)]
    (tmp_path / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    source = layouts.read(tmp_path)
    assert ([record.name for record in source.records], source.rejected) == (["0.png", "1.png", "2.png"], [])


def test_a_pipe_in_the_place_of_the_list_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metadata.jsonl")
    with pytest.raises(InputError, match=r"metadata.jsonl: expected a file, found a pipe"):
        layouts.read(tmp_path)
