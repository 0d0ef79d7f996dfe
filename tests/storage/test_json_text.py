"""JSON from anywhere: what is not as it must be is one sentence that names the file."""

import json
from typing import Any

import pytest

from attngan.errors import InputError
from attngan.storage import json_text

DAMAGED = {
    "empty": b"",
    "cut off": b'{"a": [1,',
    "not UTF-8": b'"\xff\xfe"',
    "nested": b"[" * 3000 + b"]" * 3000,
    "nested a little": b"[" * 101 + b"]" * 101,
    "digits": b"1" * 5000,
    "not a number": b'{"a": NaN}',
    "infinity": b"[-Infinity]",
    "a number that overflows": b"[1e999]",
    "half a surrogate pair": b'["\\ud800"]',
    "half a surrogate pair as a key": b'{"\\udfff": 1}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_sound_json_is_one_sentence_that_names_the_file(content, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        json_text.read(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: expected JSON") and sentence.endswith("; copy the file again.")
    assert len(sentence.splitlines()) == 1 and len(sentence) < 400


@pytest.mark.parametrize(
    ("content", "shape"),
    [("3", list[str]), ('["a", 1]', list[str]), ('{"a": "1"}', dict[str, float]), ('{"a": true}', dict[str, float])],
)
def test_what_has_another_shape_is_one_sentence_too(content, shape):
    with pytest.raises(
        InputError, match=r"^here: expected a thing, found something else \(.+\); copy the file again\.$"
    ):
        json_text.parse(content, "here", shape, expected="a thing")


def test_what_is_sound_comes_back():
    value = {"a": [1, 2.5, "\u00e9", None, True], "b": {"c": []}}
    assert json_text.parse(json.dumps(value), "here") == value
    assert json_text.parse("[" * 99 + "]" * 99, "here", Any)
    assert json_text.parse('{"a": 1}', "here", dict[str, float]) == {"a": 1.0}


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        json_text.read(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="expected a file"):
        json_text.read(tmp_path)


def test_a_file_larger_than_any_that_attngan_writes_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "x.json").write_text("[1, 2, 3]")
    monkeypatch.setattr(json_text, "MAX_BYTES", 8)
    with pytest.raises(InputError, match="found 9 bytes, more than 8"):
        json_text.read(tmp_path / "x.json")
