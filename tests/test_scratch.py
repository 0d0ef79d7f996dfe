"""Mapped numbers: zeros to begin with, one's own, and gone with their process."""

import pytest
import torch

from attngan import scratch
from attngan.errors import InputError


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Give the folder for temporary files."""
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_mapped_numbers_are_zero_and_keep_what_is_written(temporary):
    first, second = (scratch.mapped_zeros((3, 5), torch.bfloat16, "numbers") for _ in range(2))
    assert first.shape == (3, 5) and not first.any()
    first += 2
    assert (first == 2).all() and not second.any()
    assert list(temporary.iterdir()) == []  # no name, so nothing to forget


def test_no_room_is_told_before_anything_is_written(temporary, monkeypatch):
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: scratch.shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(InputError, match=r"numbers need 1\.2 GB, found 0\.0 GB free; set TMPDIR to a larger disk\."):
        scratch.mapped_zeros((600_000_000,), torch.bfloat16, "the numbers")
    assert list(temporary.iterdir()) == []
