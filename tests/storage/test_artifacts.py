"""Result folders: complete or refused, never half."""

import json
import os

import pytest

from attngan.errors import InputError
from attngan.storage import artifacts


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"12345")
    artifacts.finish(tmp_path, "damsm", ["weights.bin"], epochs=3)
    return tmp_path


def change_manifest(folder, **changes):
    path = folder / artifacts.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_complete_folder_tells_its_facts(folder):
    manifest = artifacts.check(folder, "damsm", contents=True)
    assert manifest["epochs"] == 3 and manifest["files"]["weights.bin"]["bytes"] == 5


def test_the_fingerprint_follows_the_content(folder):
    before = artifacts.check(folder, "damsm")["fingerprint"]
    (folder / "weights.bin").write_bytes(b"12346")
    assert artifacts.finish(folder, "damsm", ["weights.bin"])["fingerprint"] != before


def test_what_is_wrong_with_a_folder_is_said(folder, tmp_path_factory):
    with pytest.raises(InputError, match="no such folder"):
        artifacts.check(folder / "absent", "damsm")
    with pytest.raises(InputError, match="expected a bundle folder, found a damsm folder"):
        artifacts.check(folder, "bundle")
    (folder / "weights.bin").write_bytes(b"54321")
    artifacts.check(folder, "damsm")
    with pytest.raises(InputError, match="sha256"):
        artifacts.check(folder, "damsm", contents=True)
    (folder / "weights.bin").write_bytes(b"123")
    with pytest.raises(InputError, match="expected 5 bytes, found 3"):
        artifacts.check(folder, "damsm")
    (folder / "weights.bin").unlink()
    with pytest.raises(InputError, match="not there"):
        artifacts.check(folder, "damsm")


def test_another_format_version_and_names_that_leave_the_folder_are_refused(folder):
    change_manifest(folder, files={"../secret": {"bytes": 1, "sha256": ""}})
    with pytest.raises(InputError, match="leads out of the folder"):
        artifacts.check(folder, "damsm")
    change_manifest(folder, files={}, format_version=99)
    with pytest.raises(InputError, match="format version is 99"):
        artifacts.check(folder, "damsm")
    (folder / artifacts.MANIFEST).write_text("{")
    with pytest.raises(InputError, match="expected JSON"):
        artifacts.check(folder, "damsm")


def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_no_scraps(tmp_path):
    artifacts.write_text(tmp_path / "file", "old")

    def fail_half_way():
        with artifacts.atomic_file(tmp_path / "file") as handle:
            handle.write(b"half")
            raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        fail_half_way()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_file_has_the_rights_of_any_new_file_and_no_other_threads_are_changed(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as context:
            context.setattr(os, "umask", lambda _: pytest.fail("the whole process would have another one"))
            artifacts.write_text(tmp_path / "file", "new")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_not_a_number_is_never_written_as_json(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        artifacts.write_json(tmp_path / "figures.json", {"loss": float("nan")})
