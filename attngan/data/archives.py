"""Unpack a .zip or .tar (plain, gzip, bzip2, xz) that a stranger may have made: nothing leaves the folder, no bombs."""

import contextlib
import errno
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any

from attngan.errors import InputError

MAX_MEMBERS = 1_000_000
MAX_BYTES = 64 * 2**30  # unpacked
MAX_EXPANSION = 100  # times the archive's own size; pictures hardly shrink ...
HARMLESS_BYTES = 2**30  # ... and so much may come out of any archive
MAX_HEADER_BYTES = 2**20  # of a tar member's long name and the like, which tarfile reads into memory
CHUNK = 2**20

Advance = Callable[[int], Any]

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, LZMAError, NotImplementedError, ValueError)
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def unpack(path: Path, into: Path, advance: Advance) -> None:
    """Unpack an archive into an existing, empty folder.

    Args:
        path: a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file; its content counts, not its name.
        into: gets the archive's files.
        advance: told the number of bytes of the archive that were read since it was last called.

    Raises:
        InputError: not an archive or cut off, or a member is a link or device, leaves the folder, or there is absurdly
            much of it. What was unpacked until then stays in the folder.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; check the path.")
    try:
        with path.open("rb") as raw:
            magic = raw.read(4)
            raw.seek(0)
            is_zip = magic in (b"PK\x03\x04", b"PK\x05\x06")
            (_unpack_zip if is_zip else _unpack_tar)(raw, _Writer(path, into), advance)
    except InputError:
        raise
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault; EINVAL is the archive's, whose next member lies where no file can reach
        detail = " ".join(str(error).split())[:120] or "it ends too early"
        raise InputError(
            f"{path}: expected a folder or a whole .zip, .tar or .tar.gz archive, found something else ({detail})."
        ) from None


class _Writer:
    """Writes members below a folder, and refuses what no honest archive of pictures holds."""

    def __init__(self, archive: Path, into: Path):
        self.archive, self.into = archive, into
        self.num_members = self.num_bytes = 0
        self.max_bytes = min(MAX_BYTES, max(HARMLESS_BYTES, MAX_EXPANSION * archive.stat().st_size))

    def target(self, name: str) -> Path | None:
        """Return where a member goes; None for what macOS adds."""
        self.num_members += 1
        if self.num_members > MAX_MEMBERS:
            raise self.refused(f"it holds more than {MAX_MEMBERS:,} members")
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name or "\0" in name or ":" in name.partition("/")[0]:
            raise self.refused(f"the member {name[:200]!r} leads out of its folder")
        is_extra = "__MACOSX" in place.parts or place.name.startswith("._")
        return None if is_extra else self.into / place

    def folder(self, target: Path) -> None:
        """Make a folder, and those above it."""
        try:
            with _named(target):
                target.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self.refused(f"{target.name!r} is a file and a folder") from None

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
            raise self.refused(f"{target.name!r} is a file and a folder") from None

    def count(self, num_bytes: int) -> None:
        """Add to what really came out; what headers say may be a lie."""
        self.num_bytes += num_bytes
        if self.num_bytes > self.max_bytes:
            raise self.refused(f"more than {self.max_bytes:,} bytes come out of it")

    def refused(self, reason: str) -> InputError:
        """Return the error for an archive that nobody should unpack."""
        return InputError(f"{self.archive}: not unpacked, since {reason}; make the archive again without that.")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the place in a full disk's error, and refuse names that are too long for the disk."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{path.name[:80]}...: this name in the archive is too long for the disk.") from None
        if error.errno is not None and error.filename is None:
            error.filename = str(path.parent)
        raise


def _unpack_zip(raw: IO[bytes], writer: _Writer, advance: Advance) -> None:
    with zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            target = writer.target(member.filename)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise writer.refused(f"the member {member.filename[:200]!r} is a link or device")
            if member.flag_bits & 1:
                raise writer.refused(f"the member {member.filename[:200]!r} is encrypted")
            if target is not None and member.is_dir():
                writer.folder(target)
            elif target is not None:
                with archive.open(member) as content:
                    writer.file(target, content)
            advance(member.compress_size)


def _unpack_tar(raw: IO[bytes], writer: _Writer, advance: Advance) -> None:
    told = 0

    def tell() -> None:
        nonlocal told
        position = raw.tell()
        if position > told:
            advance(position - told)
            told = position

    with tarfile.open(fileobj=raw, mode="r:*", tarinfo=_Member) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # tarfile keeps every member it has seen
            target = writer.target(member.name)
            if not member.isdir() and not member.isreg():
                raise writer.refused(f"the member {member.name[:200]!r} is a link or device")
            if target is None:
                writer.count(member.size)
            elif member.isdir():
                writer.folder(target)
            else:
                content = archive.extractfile(member)
                assert content is not None, "a regular member has content"
                writer.file(target, content, tell)
        _check_end(archive)
        tell()


class _Member(tarfile.TarInfo):
    """A member whose extended headers may not fill the memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def _check_end(archive: tarfile.TarFile) -> None:
    """Look for the empty block that ends every tar; tarfile takes a cut or garbled header for the end too."""
    stream = archive.fileobj
    assert stream is not None, "the archive is open"
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends too early")
