import hashlib
import json

import numpy as np
import pytest
from small_sources import WORDS, write_dataset

from attngan.data.captions import Vocabulary
from attngan.data.dataset_files import SPLIT_FILES
from attngan.data.dataset_writer import content_digests, content_fingerprint, pixel_writer


@pytest.fixture
def folder(tmp_path):
    return write_dataset(tmp_path / "dataset")


def test_writing_the_same_twice_gives_the_same_bytes(tmp_path):
    first, second = write_dataset(tmp_path / "a"), write_dataset(tmp_path / "b")
    for name in SPLIT_FILES:
        assert (first / "train" / name).read_bytes() == (second / "train" / name).read_bytes()
    assert content_digests(first) == content_digests(second)


def test_captions_are_the_same_bytes_under_any_version_of_python(folder):
    content = (folder / "train" / "captions.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "c9f4c2531aabc71356c4112e7c361f80ebc45b6964a02f8df5bff582e830168e"


def test_the_fingerprint_changes_with_a_single_pixel_and_a_single_word(folder):
    before = content_fingerprint(content_digests(folder))
    pixels = bytearray((folder / "test" / "pixels.bin").read_bytes())
    pixels[100] ^= 1
    (folder / "test" / "pixels.bin").write_bytes(pixels)
    changed = content_fingerprint(content_digests(folder))
    Vocabulary([*WORDS, "extra"]).save(folder / "vocabulary.json")
    assert len({before, changed, content_fingerprint(content_digests(folder))}) == 3


def test_pixels_of_a_writing_that_fails_are_not_left_behind(tmp_path):
    def fail():
        with pixel_writer(tmp_path / "train") as writer:
            writer.append(np.zeros((19, 19, 3), dtype=np.uint8))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list((tmp_path / "train").iterdir()) == []


def test_records_are_readable_lines_of_json(folder):
    lines = (folder / "train" / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["0.jpg", "1.jpg", "2.jpg"]
