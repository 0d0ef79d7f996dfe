"""Unpack a .zip or .tar (plain, gzip, bzip2, xz) that a stranger may have made: nothing leaves the folder, no bombs."""

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, BinaryIO

from attngan.data.sources import tar_members
from attngan.data.sources.source_files import is_extra, opened, shown
from attngan.errors import InputError

MAX_MEMBERS = 1_000_000  # with the folders that they lie in
HARMLESS_MEMBERS = 100_000  # which any archive may hold; beyond it ...
BYTES_PER_MEMBER = 50  # ... each takes so much of the archive
MAX_BYTES = 64 * 2**30  # unpacked
MAX_EXPANSION = 100  # times the archive's own size; pictures hardly shrink ...
HARMLESS_BYTES = 2**30  # ... and so much may come out of any archive
MAX_DEPTH = 64  # folders inside one another
MAX_NAME = 4096  # characters, with the folders: no path of Linux is longer
MAX_XZ_MEMORY = 2**28  # of its dictionary, which the file itself asks for; xz -9 makes one of 64 MiB
CHUNK = 2**20
LISTS = (".jsonl", ".json", ".csv", ".tsv", ".txt")  # how names end of what people give instead of an archive

Advance = Callable[[int], Any]

_BROKEN = (  # what the readers raise, fed with garbage
    *(tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, struct.error, NotImplementedError),
    *(ValueError, OverflowError, LookupError, RuntimeError, MemoryError),
)


def unpack(path: Path, into: Path, advance: Advance) -> list[str]:
    """Unpack an archive into an existing, empty folder.

    Args:
        path: a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file; its content counts, not its name.
        into: gets the archive's files.
        advance: told the number of bytes of the archive that were read since it was last called.

    Returns:
        A line for each member that was skipped since its name is that of no file here; what macOS adds is not told.

    Raises:
        InputError: not an archive or cut off, or a member is a link or device, leaves the folder, or there is absurdly
            much of it. What was unpacked until then stays in the folder.
    """
    if not os.path.exists(path):
        raise InputError(f"{shown(str(path))}: no such file or folder; check the path.")
    try:
        with opened(path) as raw:
            magic = raw.read(6)
            raw.seek(0)
            is_zip = magic[:4] in (b"PK\x03\x04", b"PK\x05\x06")
            writer = _Writer(path, into)
            _unpack_zip(raw, writer, advance) if is_zip else _unpack_tar(raw, magic, writer, advance)
            return writer.skipped
    except InputError:
        raise
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault; EINVAL is the archive's, whose next member lies where no file can reach
        if path.suffix.lower() in LISTS:
            raise InputError(
                f"{path}: expected a folder or an archive, found a list; give the folder that it lies in."
            ) from None
        short = "it takes too much memory" if isinstance(error, MemoryError) else "it ends too early"
        detail = shown(str(error))[:120] or short
        raise InputError(
            f"{path}: expected a folder or a whole .zip, .tar or .tar.gz archive, found something else ({detail})."
        ) from None


class _Writer:
    """Writes members below a folder, and refuses what no honest archive of pictures holds."""

    def __init__(self, archive: Path, into: Path):
        self.archive, self.into = archive, into
        self.num_members = self.num_bytes = 0
        size = archive.stat().st_size
        self.max_bytes = min(MAX_BYTES, max(HARMLESS_BYTES, MAX_EXPANSION * size))
        self.max_members = min(MAX_MEMBERS, max(HARMLESS_MEMBERS, size // BYTES_PER_MEMBER))
        self.skipped: list[str] = []
        self.folders = {into}  # which are there

    def target(self, name: str, *, is_folder: bool) -> Path | None:
        """Return where a member goes; None for what is skipped."""
        self._count_member()
        if len(name) > MAX_NAME:
            raise self.refused(f"the member '{shown(name)[:80]}...' has a name of {len(name):,} characters")
        place, elsewhere = PurePosixPath(name), PureWindowsPath(name)
        if place.is_absolute() or elsewhere.drive or elsewhere.root or ".." in elsewhere.parts:
            raise self.refused(f"the member '{shown(name)}' leads out of its folder")
        if len(place.parts) > MAX_DEPTH:
            raise self.refused(
                f"the member '{shown(name)[:80]}' lies {len(place.parts):,} folders deep, more than {MAX_DEPTH}"
            )
        if is_extra(place) or (is_folder and not place.parts):
            return None
        if not place.parts or "\\" in name or "\0" in name:
            why = "the name has a backslash" if "\\" in name else "it has no name that a file can have"
            self.skipped.append(f"the member '{shown(name)}' is skipped: {why}")
            return None
        return self.into / place

    def folder(self, target: Path) -> None:
        """Make a folder, and those above it."""
        missing = []
        while target not in self.folders:
            missing.append(target)
            target = target.parent
        for each in reversed(missing):
            self._count_member()
            try:
                with _named(each):
                    each.mkdir(exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise self.refused(f"'{shown(each.name)}' is a file and a folder") from None
            self.folders.add(each)

    def file(self, target: Path, content: IO[bytes], on_chunk: Callable[[], None] = lambda: None) -> None:
        """Copy a member's content."""
        self.folder(target.parent)
        try:
            with _named(target), target.open("wb") as handle:
                while chunk := content.read(CHUNK):
                    self.count(len(chunk))
                    handle.write(chunk)
                    on_chunk()
        except IsADirectoryError:
            raise self.refused(f"'{shown(target.name)}' is a file and a folder") from None

    def count(self, num_bytes: int) -> None:
        """Add to what really came out; what headers say may be a lie."""
        self.num_bytes += num_bytes
        if self.num_bytes > self.max_bytes:
            raise self.refused(f"more than {self.max_bytes:,} bytes come out of it")

    def refused(self, reason: str) -> InputError:
        """Return the error for an archive that nobody should unpack."""
        return InputError(f"{self.archive}: not unpacked, since {reason}; make the archive again without that.")

    def _count_member(self) -> None:
        self.num_members += 1
        if self.num_members > self.max_members:
            raise self.refused(f"it holds more than {self.max_members:,} members and folders")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the place in a full disk's error, and refuse names that are too long for the disk."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(
                f"{shown(path.name)[:80]}...: this name in the archive is too long for the disk."
            ) from None
        if error.errno == errno.EILSEQ:
            raise InputError(f"{shown(path.name)[:80]}: the disk takes no such name as this in the archive.") from None
        if error.errno is not None and error.filename is None:
            error.filename = str(path.parent)
        raise


def _unpack_zip(raw: BinaryIO, writer: _Writer, advance: Advance) -> None:
    with zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            is_folder = member.filename.endswith("/")
            target = writer.target(member.filename, is_folder=is_folder)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise writer.refused(f"the member '{shown(member.filename)}' is a link or device")
            if member.flag_bits & 1:
                raise writer.refused(f"the member '{shown(member.filename)}' is encrypted")
            if target is not None and is_folder:
                writer.folder(target)
            elif target is not None:
                with archive.open(member) as content:
                    writer.file(target, content)
            advance(member.compress_size)


def _unpack_tar(raw: BinaryIO, magic: bytes, writer: _Writer, advance: Advance) -> None:
    told = 0

    def tell() -> None:
        nonlocal told
        position = raw.tell()
        if position > told:
            advance(position - told)
            told = position

    with _decompressed(raw, magic) as stream:
        for member in tar_members.read(stream, writer.count):
            target = writer.target(member.name, is_folder=member.is_folder)
            if member.is_folder and target is not None:
                writer.folder(target)
            elif member.content is None and not member.is_folder:
                raise writer.refused(f"the member '{shown(member.name)}' is a link or device")
            elif member.content is not None and target is not None:
                writer.file(target, member.content, tell)
        tell()


@contextlib.contextmanager
def _decompressed(raw: BinaryIO, magic: bytes) -> Iterator[IO[bytes]]:
    if magic.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=raw) as stream:
            yield stream
    elif magic.startswith(b"BZh"):
        with bz2.BZ2File(raw) as stream:
            yield stream
    elif magic.startswith((b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
        yield io.BufferedReader(_Xz(raw))
    else:
        yield raw


class _Xz(io.RawIOBase):
    """Reads what .xz files hold, one after the other, within a bound on the memory that they may ask for."""

    def __init__(self, raw: BinaryIO):
        self._raw, self._decoder = raw, lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            packed = b""
            if self._decoder.eof:
                packed = (self._decoder.unused_data or self._raw.read(CHUNK)).lstrip(b"\0")  # one may be padded
                if not packed:
                    return 0
                self._decoder = lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)
            elif self._decoder.needs_input and not (packed := self._raw.read(CHUNK)):
                raise EOFError("it ends too early")
            chunk = self._decoder.decompress(packed, len(buffer))
            if chunk:
                buffer[: len(chunk)] = chunk
                return len(chunk)
