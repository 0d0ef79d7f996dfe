"""Mapped numbers: zeros to begin with, one's own, gone with their process; and folders that outlive no run for long."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from attngan.errors import InputError
from attngan.runtime import exit_status, scratch


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


HOLDER = """
import time
from attngan.runtime import scratch
with scratch.folder("held") as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    print(folder, flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def holder(temporary):
    """Run a process that holds a folder; give it and the folder."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_folder_is_ones_own_and_goes_with_its_block(temporary):
    with scratch.folder("one") as first, scratch.folder("one") as second:
        assert first != second and first.parent == second.parent == temporary
        (first / "file").write_text("x")
        assert second.is_dir() and list(second.iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_held_goes_when_the_next_one_asks(temporary):
    with holder(temporary) as (process, folder):
        with scratch.folder("other"):
            assert (folder / "deep" / "file").read_text() == "x"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert folder.is_dir()
        with scratch.folder("other") as mine:
            assert list(temporary.iterdir()) == [mine]


def test_a_terminated_block_leaves_nothing(temporary):
    with pytest.raises(KeyboardInterrupt), scratch.folder("one"):
        raise KeyboardInterrupt
    assert list(temporary.iterdir()) == []


def test_what_others_named_nearly_so_stays(temporary):
    folders = ["attngan-features-0123456789abcdef", "attngan-out", "my.scratch", "elsewhere"]
    for name in folders:
        (temporary / name).mkdir()
    (temporary / "attngan-file.scratch").write_text("x")
    (temporary / "attngan-link.scratch").symlink_to(temporary / "elsewhere")
    with scratch.folder("one"):
        pass
    assert {path.name for path in temporary.iterdir()} == {*folders, "attngan-file.scratch", "attngan-link.scratch"}


def test_a_folder_of_another_user_stays(temporary, monkeypatch):
    theirs = temporary / "attngan-held-x.scratch"
    theirs.mkdir()
    monkeypatch.setattr(scratch.os, "getuid", lambda: 12345)
    with scratch.folder("one"):
        assert theirs.is_dir()


def test_where_there_are_no_locks_nothing_is_cleared(temporary, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as without:
        without.setattr(scratch.fcntl, "flock", flock)
        first, second = scratch.folder("one"), scratch.folder("two")
        folders = [first.__enter__(), second.__enter__()]
        assert all(folder.is_dir() for folder in folders)
    with scratch.folder("three"):  # that another process with better luck clears nothing either
        assert all(folder.is_dir() for folder in folders)
    for each in (first, second):
        each.__exit__(None, None, None)
    assert list(temporary.iterdir()) == []


def test_many_who_ask_at_once_take_nothing_from_each_other(temporary):
    """A folder that is made and not locked yet may be taken for an abandoned one: then another is made."""
    lost = []

    def ask():
        try:
            for _ in range(60):
                with scratch.folder("race") as folder:
                    (folder / "file").write_text("x")
                    assert (folder / "file").read_text() == "x"
        except BaseException as error:
            lost.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert list(temporary.iterdir()) == []


def test_a_folder_that_is_cleared_before_it_is_locked_is_made_again(temporary, monkeypatch):
    made = []
    mkdtemp = scratch.tempfile.mkdtemp

    def unlucky(**names):
        made.append(mkdtemp(**names))
        if len(made) == 1:
            scratch._remove_abandoned(temporary)  # by another process
        return made[-1]

    monkeypatch.setattr(scratch.tempfile, "mkdtemp", unlucky)
    with scratch.folder("one") as folder:
        assert [str(folder)] == made[1:]
        assert folder.is_dir()


def test_every_folder_for_temporary_files_of_the_package_is_one_of_these():
    package = Path(scratch.__file__).parent
    texts = {path.name: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert {name for name, text in texts.items() if "TemporaryDirectory(" in text or "mkdtemp(" in text} == {
        "scratch.py"
    }


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_fills_up_meanwhile_is_named_before_anything_is_mapped(temporary, monkeypatch, number):
    def full(descriptor, start, size):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(scratch.os, "posix_fallocate", full)
    with pytest.raises(InputError, match="set TMPDIR to a larger disk") as caught:
        scratch.mapped_zeros((600_000,), torch.bfloat16, "the numbers")
    assert str(caught.value).startswith(f"{temporary}: the numbers need 0.0 GB, found {os.strerror(number).lower()};")
    assert exit_status.explain(caught.value, "/the/output") == str(caught.value)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, None])
def test_where_no_room_can_be_taken_zeros_are_written_and_what_is_there_stays(temporary, monkeypatch, number):
    def unknown(descriptor, start, size):
        raise OSError(number, os.strerror(number))

    if number is None:
        monkeypatch.delattr(scratch.os, "posix_fallocate")  # macOS
    else:
        monkeypatch.setattr(scratch.os, "posix_fallocate", unknown)
    assert not scratch.mapped_zeros((3_000_001,), torch.bool, "numbers").any()
    path = temporary / "file"
    path.write_bytes(b"before")
    with path.open("r+b") as file:
        scratch.take_room(file, 3_000_000, temporary, "numbers")
    assert path.read_bytes() == b"before" + bytes(3_000_000 - 6)
    assert path.stat().st_blocks * 512 >= 3_000_000


def test_mapped_numbers_have_their_room_before_they_are_written(temporary, monkeypatch):
    sizes = []
    view = torch.frombuffer

    def watched(mapped, **options):
        sizes.append(sum(os.fstat(int(each)).st_blocks * 512 for each in os.listdir("/proc/self/fd") if is_ours(each)))
        return view(mapped, **options)

    def is_ours(descriptor):
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(temporary))

    monkeypatch.setattr(torch, "frombuffer", watched)
    scratch.mapped_zeros((1_000_000,), torch.float32, "numbers")
    assert sizes[0] >= 4_000_000


LIMITED = """
import resource, shutil, sys
import torch
from attngan.runtime import exit_status, scratch
shutil.disk_usage = lambda _: shutil._ntuple_diskusage(10**12, 0, 10**12)
if len(sys.argv) > 1:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
with exit_status.reported("/the/output"):
    scratch.mapped_zeros((8, 2**20), torch.float32, "the numbers").fill_(1)
"""


def run_limited(temporary, *limit):
    """Ask for 34 MB on a disk that looks larger than it is, as it does when others fill it meanwhile."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", LIMITED, *limit]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr.splitlines()[-1:]


def test_a_file_that_may_not_grow_so_large_is_one_sentence_and_status_2(temporary):
    sentence = "the numbers need 0.0 GB, found file too large; set TMPDIR to a larger disk."
    assert run_limited(temporary, "1000000") == (2, [f"attngan: {temporary}: {sentence}"])


def test_a_full_disk_is_one_sentence_and_status_2(temporary):
    disk = temporary / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], capture_output=True)
    if mount.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        status = run_limited(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    sentence = "the numbers need 0.0 GB, found no space left on device; set TMPDIR to a larger disk."
    assert status == (2, [f"attngan: {disk}: {sentence}"])
