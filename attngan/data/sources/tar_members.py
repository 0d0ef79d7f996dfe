"""The members of a tar, one after the other: each costs a bounded time and memory, whatever its headers claim.

Python's tarfile calls itself for every header that describes the next one, and reads sparse maps of any length.
"""

import dataclasses
import io
import tarfile
from collections.abc import Callable, Iterator
from typing import IO

MAX_HEADER_BYTES = 2**20  # of all that describe one member: its long name and the like
MAX_HEADERS = 16  # before one member; no program writes more than four
CHUNK = 2**20
SPARSE = b"GNU.sparse."  # keys that begin so are those of a file with holes

_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


@dataclasses.dataclass
class Member:
    """One file or folder.

    Attributes:
        name: as the tar has it; bytes that are no UTF-8 as Python's file names have them.
        is_folder: it is one.
        content: of a file, to be read before the next member is asked for; None for folders, links and devices.
    """

    name: str
    is_folder: bool
    content: IO[bytes] | None


def read(stream: IO[bytes], count: Callable[[int], None]) -> Iterator[Member]:
    """Give the members of a tar up to the empty block that ends it.

    Args:
        stream: the tar, not compressed.
        count: told of every number of bytes that is read beside the members' content.

    Raises:
        tarfile.TarError: it ends too early, is damaged, or holds what no archive of pictures does.
    """
    everywhere: dict[bytes, bytes] = {}  # of all members after a global header, whose names and sizes are their own
    while True:
        described, num_headers, num_bytes = dict(everywhere), 0, 0
        while (header := _header(stream, count)) is not None and header.type in (*_PAX, *_LONG):
            num_headers, num_bytes = num_headers + 1, num_bytes + header.size
            if num_bytes > MAX_HEADER_BYTES:
                raise tarfile.ReadError(f"a header of {num_bytes:,} bytes")
            if num_headers > MAX_HEADERS:
                raise tarfile.ReadError(f"more than {MAX_HEADERS} headers before one member")
            content = _exactly(stream, header.size, count)
            _skip(stream, -header.size % tarfile.BLOCKSIZE, count)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                described[b"path"] = content.partition(b"\0")[0]
            elif header.type == tarfile.XGLTYPE:
                everywhere |= {key: value for key, value in _records(content).items() if key == SPARSE}
                described |= everywhere
            elif header.type in _PAX:
                described |= _records(content)
        if header is None:
            return
        yield from _member(stream, header, described, count)


def _member(
    stream: IO[bytes], header: tarfile.TarInfo, described: dict[bytes, bytes], count: Callable[[int], None]
) -> Iterator[Member]:
    name = header.name
    if b"path" in described:
        name = described[b"path"].decode("utf-8", "surrogateescape")
    if header.type == tarfile.GNUTYPE_SPARSE or SPARSE in described:
        raise tarfile.ReadError(f"the sparse file {name[:80]!r}")
    if header.type == tarfile.DIRTYPE:
        yield Member(name, True, None)
    elif header.type not in _FILES:
        yield Member(name, False, None)
    else:
        size = _number(described[b"size"]) if b"size" in described else header.size
        content = _Content(stream, size)
        yield Member(name, False, io.BufferedReader(content))
        while chunk := content.read(CHUNK):  # what nobody wanted
            count(len(chunk))
        _skip(stream, -size % tarfile.BLOCKSIZE, count)


class _Content(io.RawIOBase):
    """The next so many bytes of a stream."""

    def __init__(self, stream: IO[bytes], size: int):
        self._stream, self._left = stream, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._left)
        chunk = self._stream.read(wanted)
        if not chunk and wanted:
            raise tarfile.ReadError("it ends too early")
        buffer[: len(chunk)] = chunk
        self._left -= len(chunk)
        return len(chunk)


def _header(stream: IO[bytes], count: Callable[[int], None]) -> tarfile.TarInfo | None:
    """Return the next header, None for the empty block that ends every tar."""
    block = _exactly(stream, tarfile.BLOCKSIZE, count)
    if block == bytes(tarfile.BLOCKSIZE):
        return None
    header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    if header.size < 0:
        raise tarfile.ReadError("a size below zero")
    return header


def _records(content: bytes) -> dict[bytes, bytes]:
    """Return what matters of an extended header (POSIX.1-2001): lines of LENGTH KEY=VALUE, one after the other."""
    records, start = {}, 0
    while start < len(content) and content[start]:
        space = content.find(b" ", start, start + 10)
        end = start + _number(content[start:space]) if space > start else 0
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if end <= space or content[end - 1 : end] != b"\n" or not equals:
            raise tarfile.ReadError("an extended header that cannot be read")
        if key in (b"path", b"size"):
            records[key] = value
        elif key.startswith(SPARSE):
            records[SPARSE] = value
        start = end
    return records


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise tarfile.ReadError("an extended header without a number where one belongs")
    return int(digits)


def _exactly(stream: IO[bytes], size: int, count: Callable[[int], None]) -> bytes:
    count(size)
    content = stream.read(size)
    if len(content) != size:
        raise tarfile.ReadError("it ends too early")
    return content


def _skip(stream: IO[bytes], size: int, count: Callable[[int], None]) -> None:
    """Pass over what fills the last block; nothing may follow a last member that fills it not."""
    count(len(stream.read(size)))
