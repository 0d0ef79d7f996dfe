import contextlib
import errno
import io
import lzma
import os
import random
import re
import shutil
import tarfile
import zipfile

import pytest

from attngan.data.sources import archives
from attngan.errors import InputError

FILES = {"birds/a.txt": b"a red bird", "birds/deep/b.bin": bytes(range(256)) * 20}


def write_tar(path, members=FILES, mode="w:gz"):
    """Members are a name with bytes, or a ready TarInfo with None."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content or b"") if content is not None else info.size
            archive.addfile(info, io.BytesIO(content) if content is not None else None)
    return path


def write_zip(path, members=FILES, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def unpack(path, into):
    into.mkdir(exist_ok=True)
    told = []
    archives.unpack(path, into, told.append)
    return told


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def special(kind, name="birds/link", target="../../secret"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refusal(path, into, reason):
    with pytest.raises(InputError, match=reason) as caught:
        unpack(path, into)
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_gives_back_its_files_whatever_its_name_and_compression(tmp_path, mode):
    path = write_tar(tmp_path / "source.archive", mode=mode)
    told = unpack(path, tmp_path / "into")
    assert contents(tmp_path / "into") == FILES
    assert sum(told) <= path.stat().st_size


def test_several_xz_files_in_one_are_read_as_one(tmp_path):
    content = write_tar(tmp_path / "a.tar", mode="w").read_bytes()
    parts = [content[:700], content[700:5000], b"", content[5000:]]
    (tmp_path / "a.tar.xz").write_bytes(b"".join(lzma.compress(part) + bytes(4) for part in parts))
    unpack(tmp_path / "a.tar.xz", tmp_path / "into")
    assert contents(tmp_path / "into") == FILES


def test_an_xz_that_asks_for_very_much_memory_is_refused(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar.xz", mode="w:xz")  # which asks for 8 MiB
    monkeypatch.setattr(archives, "MAX_XZ_MEMORY", 2**22)
    refusal(path, tmp_path / "into", "Memory usage limit exceeded")


def test_a_zip_gives_back_its_files(tmp_path):
    path = write_zip(tmp_path / "source.archive")
    told = unpack(path, tmp_path / "into")
    assert contents(tmp_path / "into") == FILES
    assert 0 < sum(told) <= path.stat().st_size


def test_what_macos_adds_is_left_out(tmp_path):
    extras = {"__MACOSX/birds/a.txt": b"x", "birds/._a.txt": b"x"}
    for path in (write_tar(tmp_path / "a.tgz", FILES | extras), write_zip(tmp_path / "a.zip", FILES | extras)):
        unpack(path, tmp_path / path.suffix)
        assert contents(tmp_path / path.suffix) == FILES


@pytest.mark.parametrize("name", ["../evil.txt", "birds/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:/evil.txt"])
def test_members_that_leave_the_folder_are_refused(tmp_path, name):
    refusal(write_tar(tmp_path / "a.tgz", {name: b"x"}), tmp_path / "into", "leads out of its folder")
    refusal(write_zip(tmp_path / "a.zip", {name: b"x"}), tmp_path / "into", "leads out of its folder")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    path = write_tar(tmp_path / "a.tgz", {special(kind): None, "birds/link/evil.txt": b"x"})
    refusal(path, tmp_path / "into", "is a link or device")
    assert contents(tmp_path / "into") == {}


def test_links_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("birds/link")
    link.external_attr = 0o120777 << 16
    refusal(write_zip(tmp_path / "a.zip", {link: b"../../secret"}), tmp_path / "into", "is a link or device")


def test_a_bomb_is_refused_by_what_comes_out_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "HARMLESS_BYTES", 100_000)
    bomb = {"zeros": bytes(3_000_000)}
    for path in (write_tar(tmp_path / "a.tgz", bomb), write_zip(tmp_path / "a.zip", bomb)):
        refusal(path, tmp_path / "into", "more than [0-9,]+ bytes come out")
        assert sum(map(len, contents(tmp_path / "into").values())) <= 1_000_000


def test_what_is_skipped_counts_towards_a_bomb_too(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "HARMLESS_BYTES", 100_000)
    refusal(write_tar(tmp_path / "a.tgz", {"._zeros": bytes(3_000_000)}), tmp_path / "into", "bytes come out")


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    many = {f"{number}.txt": b"" for number in range(6)}
    refusal(write_tar(tmp_path / "a.tgz", many), tmp_path / "into", "more than 5 members")
    refusal(write_zip(tmp_path / "a.zip", many), tmp_path / "into", "more than 5 members")


def test_a_tar_header_that_would_fill_the_memory_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tgz", {"n" * 2**21: b""})
    refusal(path, tmp_path / "into", "a header of 2,097,")


def test_an_encrypted_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.txt": b"secret"}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refusal(path, tmp_path / "into", "encrypted")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_tar_that_is_cut_off_is_refused(tmp_path, mode, share):
    noise = bytes((number * 7919 + number // 251) % 256 for number in range(100_000))
    path = write_tar(tmp_path / "a.tgz", {"a.bin": noise, "b.bin": noise[::-1]}, mode)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refusal(path, tmp_path / "into", "whole .zip, .tar or .tar.gz archive")


def test_a_tar_that_is_cut_off_between_two_members_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.bin": bytes(1024), "b.bin": bytes(1024)}, "w")
    for length in (512 + 1024, 512 + 1024 + 100):
        cut = tmp_path / f"{length}.tar"
        cut.write_bytes(path.read_bytes()[:length])
        refusal(cut, tmp_path / "into", "it ends too early")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_zip_that_is_cut_off_is_refused(tmp_path, share):
    path = write_zip(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refusal(path, tmp_path / "into", "whole .zip, .tar or .tar.gz archive")


def test_a_zip_with_a_wrong_checksum_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", compression=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"a red bird", b"a bad bird"))
    refusal(path, tmp_path / "into", "Bad CRC-32")


def test_a_tar_whose_next_member_would_lie_before_its_beginning_is_refused(tmp_path):
    """A size may be written as a negative number in base 256."""
    header = bytearray(tarfile.TarInfo("a.txt").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-(2**40) % 2**96).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    refusal(path, tmp_path / "into", "whole .zip, .tar or .tar.gz archive")


@pytest.mark.parametrize("name", ["captions.jsonl", "captions.CSV"])
def test_for_a_list_of_captions_the_folder_that_it_lies_in_is_asked_for(tmp_path, name):
    (tmp_path / name).write_bytes(b'{"file": "a.png", "captions": ["a red bird"]}\n')
    refusal(tmp_path / name, tmp_path / "into", "found a list; give the folder that it lies in")
    assert archives.unpack(write_tar(tmp_path / name, {"a.txt": b"a"}, "w"), tmp_path / "into", lambda _: None) == []


@pytest.mark.parametrize("content", [b"", b"not an archive at all, only a text" * 40, b"\x1f\x8b\x08garbage"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "a.tgz"
    path.write_bytes(content)
    refusal(path, tmp_path / "into", "whole .zip, .tar or .tar.gz archive")


def test_a_missing_archive_is_named(tmp_path):
    refusal(tmp_path / "missing.tgz", tmp_path / "into", "no such file")


def test_a_name_that_is_a_file_and_a_folder_is_refused(tmp_path):
    for members in ({"a": b"x", "a/b": b"x"}, {"a/b": b"x", "a": b"x"}):
        into = tmp_path / f"into-{next(iter(members)).replace('/', '')}"
        refusal(write_tar(tmp_path / "a.tgz", members), into, "is a file and a folder")


def test_a_name_that_is_too_long_for_the_disk_is_named(tmp_path):
    path = write_tar(tmp_path / "a.tgz", {"n" * 300: b"x"})
    with pytest.raises(InputError, match=re.escape("too long for the disk")):
        unpack(path, tmp_path / "into")


def test_a_full_disk_stays_an_error_of_the_disk_and_names_the_folder(tmp_path, monkeypatch):
    def full(self, num_bytes):
        if num_bytes == len(FILES["birds/a.txt"]):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives._Writer, "count", full)
    with pytest.raises(OSError, match="No space left") as caught:
        unpack(write_tar(tmp_path / "a.tgz"), tmp_path / "into")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "into" / "birds")


@pytest.mark.parametrize("depth", [65, 1500])
def test_a_path_that_is_very_deep_is_refused_and_makes_no_folder(tmp_path, depth):
    name = "a/" * (depth - 1) + "b.txt"
    refusal(write_tar(tmp_path / "a.tgz", {name: b"x"}), tmp_path / "into", f"lies {depth:,} folders deep")
    refusal(write_zip(tmp_path / "a.zip", {name: b"x"}), tmp_path / "into", f"lies {depth:,} folders deep")
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize("part", ["n", "./", "a/"])
def test_a_name_that_no_path_can_hold_is_refused_before_it_is_taken_apart(tmp_path, part):
    name = part * 5000
    refusal(write_tar(tmp_path / "a.tgz", {name: b"x"}), tmp_path / "into", "has a name of [0-9,]+ characters")
    refusal(write_zip(tmp_path / "a.zip", {name: b"x"}), tmp_path / "into", "has a name of [0-9,]+ characters")


def test_folders_count_as_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 100)
    deep = {f"{number}/{'a/' * 50}b.txt": b"" for number in range(3)}
    refusal(write_tar(tmp_path / "a.tgz", deep), tmp_path / "into", "more than 100 members and folders")
    assert sum(1 for _ in (tmp_path / "into").rglob("*")) <= 100


def test_a_small_archive_cannot_hold_very_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "HARMLESS_MEMBERS", 50)
    many = {f"{number}.txt": b"" for number in range(600)}
    refusal(write_tar(tmp_path / "a.tgz", many), tmp_path / "into", "members and folders")
    unpack(write_zip(tmp_path / "a.zip", many), tmp_path / "zip")  # whose list takes more room than that


def skipped(path, into):
    into.mkdir()
    lines = archives.unpack(path, into, lambda _: None)
    assert contents(into) == FILES
    return lines


@pytest.mark.parametrize("name", ["notes\\readme.txt", "birds/notes\\readme.txt", "\x07bell\\a"])
def test_a_backslash_in_a_name_costs_that_member_alone_and_a_line_says_which(tmp_path, name):
    for path in (
        write_tar(tmp_path / "a.tgz", {name: b"x"} | FILES),
        write_zip(tmp_path / "a.zip", {name: b"x"} | FILES),
    ):
        (line,) = skipped(path, tmp_path / path.suffix)
        assert "backslash" in line and name.removeprefix("\x07") in line
        assert line.isprintable()


@pytest.mark.parametrize("name", ["birds\\..\\..\\evil.txt", "\\evil.txt", "\\\\host\\share\\evil.txt", "c:evil.txt"])
def test_a_backslash_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    refusal(write_tar(tmp_path / "a.tgz", {name: b"x"}), tmp_path / "into", "leads out of its folder")
    refusal(write_zip(tmp_path / "a.zip", {name: b"x"}), tmp_path / "into", "leads out of its folder")


def test_members_without_a_name_are_skipped_and_told(tmp_path):
    zipped = tmp_path / "a.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for name, content in ({"": b"x", ".": b"x"} | FILES).items():
            with archive.open(zipfile.ZipInfo(name), "w") as member:
                member.write(content)
    tarred = write_tar(tmp_path / "a.tgz", {"": b"x", ".": b"x"} | FILES)
    for path in (zipped, tarred):
        lines = skipped(path, tmp_path / path.suffix)
        assert len(lines) == 2 and all("no name that a file can have" in line for line in lines)


def test_the_folder_itself_may_be_a_member(tmp_path):
    here = tarfile.TarInfo("./")
    here.type = tarfile.DIRTYPE
    assert skipped(write_tar(tmp_path / "a.tgz", {here: None} | FILES), tmp_path / "into") == []


@pytest.mark.parametrize("suffix", ["tgz", "zip"])
def test_a_pipe_in_an_archives_place_is_not_waited_for(tmp_path, suffix):
    os.mkfifo(tmp_path / f"a.{suffix}")
    refusal(tmp_path / f"a.{suffix}", tmp_path / "into", "expected a file, found a pipe")


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_archive_is_unpacked_or_refused_and_leaves_nothing_outside(tmp_path, seed, monkeypatch):
    monkeypatch.setattr(archives, "HARMLESS_BYTES", 10_000_000)
    draw = random.Random(seed)
    long = {f"{'deep/' * 30}{'n' * 120}.txt": b"x" * 700, "\u9e1f.txt": b"y"}
    sound = [
        write_tar(tmp_path / "plain.tar", FILES | long, "w").read_bytes(),
        write_tar(tmp_path / "packed.tgz", FILES | long).read_bytes(),
        write_zip(tmp_path / "stored.zip", FILES | long, zipfile.ZIP_STORED).read_bytes(),
        write_zip(tmp_path / "packed.zip", FILES | long).read_bytes(),
    ]
    path, into = tmp_path / "fuzzed", tmp_path / "room" / "into"
    for number in range(100):
        content = bytearray(draw.choice(sound))
        for _ in range(draw.choice((1, 1, 3, 10))):
            place = draw.randrange(len(content))
            content[place : place + draw.choice((0, 1, 1, 4))] = draw.randbytes(draw.choice((0, 1, 1, 4)))
        path.write_bytes(content)
        into.mkdir(parents=True)
        with contextlib.suppress(InputError):
            archives.unpack(path, into, lambda _: None)
        shutil.rmtree(into)
        assert list(into.parent.iterdir()) == [], number
