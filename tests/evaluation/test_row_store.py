"""Rows are written down while they are made: a killed evaluation goes on, memory stays flat."""

import contextlib
import errno
import os
import subprocess
import sys
import tempfile

import pytest
import torch

from attngan.errors import InputError
from attngan.evaluation.row_store import PART, open_store
from attngan.runtime import scratch
from attngan.storage import places

COUNT = 2 * PART + 30
HANDED_BACK = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}  # glibc then keeps no large piece that was freed


def make(numbers):
    rows = torch.tensor(list(numbers), dtype=torch.float32)
    return {"square": rows[:, None] ** 2 * torch.ones(3), "even": rows % 2 == 0}


def test_a_table_holds_the_rows_in_order_and_leaves_nothing_behind(root):
    with open_store(root, "key") as store:
        table = store.table("numbers", COUNT, 64, make)
        assert table["square"][:].tolist() == [[n**2] * 3 for n in range(COUNT)]
        assert table["even"][:].tolist() == [n % 2 == 0 for n in range(COUNT)]
        assert len(places.names(store.uri)) == 3
    assert places.names(root) == []


def test_a_killed_run_goes_on_with_what_it_has_seen(root):
    seen = []

    def killed(numbers):
        if numbers.start >= PART:
            raise KeyboardInterrupt
        return make(numbers)

    def watched(numbers):
        seen.extend(numbers)
        return make(numbers)

    with pytest.raises(KeyboardInterrupt), open_store(root, "key") as store:
        store.table("numbers", COUNT, 64, killed)
    with open_store(root, "another key") as store:
        store.table("numbers", 5, 64, make)
    with open_store(root, "key") as store:
        table = store.table("numbers", COUNT, 64, watched)
        assert table["even"][:].tolist() == [n % 2 == 0 for n in range(COUNT)]
    assert seen == list(range(PART, COUNT))


def test_a_damaged_part_is_made_again(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), open_store(str(tmp_path), "key") as store:
        store.table("numbers", COUNT, 64, make)
        raise KeyboardInterrupt
    part = sorted(tmp_path.rglob("*.safetensors"))[1]
    part.write_bytes(part.read_bytes()[:100])
    with open_store(str(tmp_path), "key") as store:
        assert store.table("numbers", COUNT, 64, make)["square"][-1:].tolist() == [[(COUNT - 1) ** 2] * 3]


def test_a_full_disk_is_one_sentence_that_names_it(tmp_path, monkeypatch):
    def full(descriptor, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch.os, "posix_fallocate", full)
    with pytest.raises(InputError) as caught, open_store(str(tmp_path), "key") as store:
        store.table("numbers", COUNT, 64, make)
    assert str(caught.value).startswith(f"{tempfile.gettempdir()}: numbers: square need 0.0 GB, found no space left")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    script = """
import sys, torch
from attngan.metrics import distribution
from attngan.evaluation.row_store import open_store
count = int(sys.argv[1])
with open_store(sys.argv[2], "key") as store:
    rows = store.table("rows", count, 500, lambda numbers: {"a": torch.randn(len(numbers), 1024)})["a"]
    distribution.fid(rows, rows)
    distribution.kid(rows, rows, torch.Generator(), num_subsets=2, subset_size=500)
for line in open("/proc/self/status"):
    if line.startswith("RssAnon"):
        print(line.split()[1])
"""
    peaks = []
    for count in (2_000, 30_000):
        command = [sys.executable, "-c", script, str(count), str(tmp_path / str(count))]
        out = subprocess.run(command, env=HANDED_BACK, capture_output=True, text=True, check=True).stdout
        peaks.append(int(out.split()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 40, peaks  # MiB; the rows themselves are 115 MiB
