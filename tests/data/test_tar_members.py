"""What the headers of a tar may claim, and what that may cost."""

import gzip
import io
import os
import tarfile
import time

import pytest
from test_archives import contents, refusal, unpack

from attngan.data.sources import archives


def header(kind=tarfile.REGTYPE, name="a.txt", size=0, **fields):
    """One block, with a right checksum."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    for start, content in fields.items():
        place = int(start.removeprefix("at"))
        block[place : place + len(content)] = content
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def described(kind, content):
    """An extended header with its content."""
    return header(kind, "described", len(content)) + content + bytes(-len(content) % 512)


def record(key, value):
    """A line of a pax header, whose length counts itself."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    length += len(str(length)) - len(str(len(rest)))
    return b"%d%s" % (length, rest)


def write_blocks(path, *blocks, opener=open):
    with opener(path, "wb") as file:
        file.writelines([*blocks, bytes(1024)])
    return path


CHAINS = {
    "long name": described(tarfile.GNUTYPE_LONGNAME, b"name\0"),
    "long link": described(tarfile.GNUTYPE_LONGLINK, b"name\0"),
    "pax": described(tarfile.XHDTYPE, record(b"path", b"name")),
    "global pax": described(tarfile.XGLTYPE, record(b"comment", b"name")),
    "solaris pax": described(tarfile.SOLARIS_XHDTYPE, record(b"path", b"name")),
}


@pytest.mark.parametrize("kind", CHAINS)
def test_a_chain_of_headers_before_one_member_is_refused(tmp_path, kind):
    path = write_blocks(tmp_path / "a.tgz", *[CHAINS[kind]] * 20_000, header(), opener=gzip.open)
    refusal(path, tmp_path / "into", "more than 16 headers before one member")


def test_headers_that_are_large_together_are_refused(tmp_path):
    half = described(tarfile.GNUTYPE_LONGNAME, b"n" * 600_000)
    refusal(write_blocks(tmp_path / "a.tar", half, half, header()), tmp_path / "into", "a header of 1,200,000 bytes")


def test_headers_count_towards_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "HARMLESS_BYTES", 2_000_000)
    blocks = [described(tarfile.GNUTYPE_LONGLINK, b"n" * 900_000) + header(name=f"{n}.txt") for n in range(3)]
    refusal(write_blocks(tmp_path / "a.tgz", *blocks, opener=gzip.open), tmp_path / "into", "bytes come out of it")


@pytest.mark.parametrize(
    "content",
    [b"1" * 1_000_000, b"2 " * 500_000 + b"=", b"10 path=ab\n" * 3, b"5 a\n\n", b"-5 a=b\n", b"9" * 5000 + b" a=b"],
)
def test_a_pax_header_that_cannot_be_read_is_refused_at_once(tmp_path, content):
    path = write_blocks(tmp_path / "a.tar", described(tarfile.XHDTYPE, content), header())
    refusal(path, tmp_path / "into", "an extended header")


SPARSE = {
    "old": [header(tarfile.GNUTYPE_SPARSE, at482=b"\1"), *[b"00000000001\0" * 42 + b"\1" + bytes(7)] * 20_000],
    "0.0": [
        described(tarfile.XHDTYPE, record(b"GNU.sparse.size", b"9") + record(b"GNU.sparse.offset", b"1") * 9),
        header(),
    ],
    "0.1": [described(tarfile.XHDTYPE, record(b"GNU.sparse.map", b"1," * 9 + b"1")), header()],
    "1.0": [
        described(tarfile.XHDTYPE, record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0")),
        header(size=512),
        b"9999999\n" + b"1\n" * 252,
    ],
}


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_files_are_refused_before_their_map_is_read(tmp_path, kind):
    path = write_blocks(tmp_path / "a.tgz", *SPARSE[kind], opener=gzip.open)
    refusal(path, tmp_path / "into", "the sparse file 'a.txt'")


@pytest.mark.parametrize("mode", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_other_alphabets_come_out_whole(tmp_path, mode):
    files = {
        f"{'deep/' * 30}{'n' * 200}.txt": b"x",
        "\u9e1f/\U0001f426.txt": b"y",
        "birds/12:30.txt": b"z",
        "12:30": b"",
    }
    with tarfile.open(tmp_path / "a.tar", "w", format=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5
            archive.addfile(info, io.BytesIO(content))
    unpack(tmp_path / "a.tar", tmp_path / "into")
    assert contents(tmp_path / "into") == files


def test_a_name_that_is_no_utf_8_comes_out_with_its_bytes(tmp_path):
    path = write_blocks(tmp_path / "a.tar", header(name="b.txt", at0=b"\xff"))
    unpack(path, tmp_path / "into")
    assert [os.fsencode(each.name) for each in (tmp_path / "into").iterdir()] == [b"\xff.txt"]


def test_a_size_that_a_pax_header_gives_rules(tmp_path):
    content = b"0123456789" * 60
    blocks = [described(tarfile.XHDTYPE, record(b"size", b"600")), header(), content + bytes(424), header(name="b.txt")]
    unpack(write_blocks(tmp_path / "a.tar", *blocks), tmp_path / "into")
    assert contents(tmp_path / "into") == {"a.txt": content, "b.txt": b""}


def test_what_a_global_header_says_is_not_copied_for_every_member(tmp_path):
    content = b"".join(record(b"key%d" % number, b"x") for number in range(60_000))
    blocks = [described(tarfile.XGLTYPE, content + record(b"path", b"all")), *[header(name="a.txt")] * 20_000]
    start = time.process_time()
    unpack(write_blocks(tmp_path / "a.tgz", *blocks, opener=gzip.open), tmp_path / "into")
    assert time.process_time() - start < 20  # a copy each takes minutes
    assert contents(tmp_path / "into") == {"a.txt": b""}


def test_a_global_header_of_sparse_files_is_refused(tmp_path):
    blocks = [described(tarfile.XGLTYPE, record(b"GNU.sparse.major", b"1")), header()]
    refusal(write_blocks(tmp_path / "a.tar", *blocks), tmp_path / "into", "the sparse file 'a.txt'")
