"""The files of a source, as a person or a stranger named them: opened if they are plain files, else told what they are.

Every reader of pictures, captions, lists and archives opens its files here, so that none waits for a pipe or a device.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

from attngan import errors
from attngan.errors import InputError
from attngan.storage import places

MAX_TEXT_BYTES = 2**30  # of a list or a caption file; the captions of CUB-200-2011 have 7 MB in all
MAX_LINE_BYTES = 2**20  # of a list or a caption file: what is said of one picture, far more than anybody writes
MAX_LINES = 5_000_000  # of a list or a caption file: all of them are held in memory
CHUNK = 2**20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8
SHOWN = 300  # characters of a path or the like
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")  # how names of picture files end
EXTRA = "what macOS adds beside a picture is none"
FEW_LINES = 1  # that are not UTF-8, in a list that may be all the same
NOT_UTF8 = "expected text in UTF-8, found other bytes; save it as UTF-8"

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Unreadable(InputError):
    """A file that cannot be read.

    Attributes:
        reason: why, without the file's name.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{shown(str(path))}: {reason}.")
        self.reason = reason


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a plain file for the block.

    Raises:
        Unreadable: it is not there, no plain file, not for this user, or no disk can hold its name.
    """
    descriptor = None
    try:
        _check_plain(path, os.stat(path).st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that took the file's place is not waited for
    except FileNotFoundError:
        pass  # refused below: a fault of the disk as its context would be taken for one that may pass
    except UnicodeEncodeError:
        raise Unreadable(path, "its name cannot be written in this system's encoding") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise Unreadable(path, "no file can have this name") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Unreadable(path, "its name is too long for a disk") from None
        raise Unreadable(path, f"cannot be read ({error.strerror})") from None
    if descriptor is None:
        raise Unreadable(path, "no such file")
    with os.fdopen(descriptor, "rb") as file:
        _check_plain(path, os.fstat(descriptor).st_mode)
        yield file


def content_of(path: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """Return a text file's bytes without the byte order mark of UTF-8.

    Raises:
        Unreadable: see `opened`; or there is far too much of it.
    """
    content = start_of(path, most + 1)
    if len(content) > most:
        raise Unreadable(path, f"more than {most:,} bytes, which is no list and no captions")
    return content.removeprefix(BYTE_ORDER_MARK)


def start_of(path: Path, most: int) -> bytes:
    """Return a file's first bytes.

    Raises:
        Unreadable: see `opened`.
    """
    with opened(path) as file:
        try:
            return file.read(most)
        except OSError as error:
            raise Unreadable(path, f"cannot be read ({error.strerror})") from None


def lines_in_bytes(path: Path) -> list[bytes]:
    """Return a text file's lines without their ends, or the byte order mark of UTF-8; what is no UTF-8 stays as it is.

    Raises:
        Unreadable: see `opened`; or it has far too many bytes or lines, or one line has.
    """
    content = content_of(path).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    num_lines = content.count(b"\n") + (not content.endswith(b"\n"))
    if num_lines > MAX_LINES:
        raise Unreadable(path, f"expected at most {MAX_LINES:,} lines, found {num_lines:,}; shorten it")
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_BYTES:
            raise Unreadable(
                path, f"line {number}: expected at most {MAX_LINE_BYTES:,} bytes, found {len(line):,}; shorten it"
            )
    return lines


def list_lines(path: Path, advice: str) -> list[bytes]:
    """Return the lines of a list as `lines_in_bytes` does; single ones that are no UTF-8 stay as they are.

    Args:
        path: of the list.
        advice: what to do with one that is of another encoding as a whole.

    Raises:
        Unreadable: see `lines_in_bytes`; or most of the lines that ASCII cannot say are not UTF-8.
    """
    lines = lines_in_bytes(path)
    beyond_ascii = [line for line in lines if not line.isascii()]
    num_wrong = sum(not is_utf8(line.decode(errors="surrogateescape")) for line in beyond_ascii)
    if num_wrong > max(FEW_LINES, len(beyond_ascii) // 2):
        raise Unreadable(path, f"expected UTF-8, found other bytes; {advice}")
    return lines


def lines_of(path: Path) -> list[str]:
    """Return a text file's lines without their ends; other separators of Unicode do not end a line.

    Raises:
        Unreadable: see `opened`; or a line is not UTF-8.
    """
    lines = []
    for number, line in enumerate(lines_in_bytes(path), start=1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError:
            raise Unreadable(path, f"line {number}: {NOT_UTF8}") from None
    return lines


def shown(text: str) -> str:
    """Return text of a stranger as one short line that any terminal and any file can take."""
    return errors.shown(text, SHOWN)


def is_extra(name: PurePath) -> bool:
    """Return whether macOS adds a file of this name, relative to the source, beside the files of people."""
    return "__MACOSX" in name.parts or name.name.startswith("._") or name.name == ".DS_Store"


def leads_out(file: str) -> bool:
    """Return whether a relative path of a list would leave the folder it belongs to."""
    path = PurePosixPath(file)
    return path.is_absolute() or ".." in path.parts or "\\" in file or "\0" in file or not path.parts


def pictures_below(folder: Path) -> Iterator[PurePath]:
    """Give the names of all picture files in a folder at any depth, relative to it; links to folders are followed."""
    for path in places.paths_below(folder):
        name = path.relative_to(folder)
        if name.suffix.lower() in PICTURES and not is_extra(name):
            yield name


def is_utf8(name: str) -> bool:
    """Return whether text can be written down: names of files may have bytes that are no UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def entries_of(folder: Path) -> list[Path]:
    """Return what is in a folder, in order, without what macOS adds; nothing where it cannot be read."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(folder / name for name in names if not is_extra(PurePath(name)))


def is_there(path: Path) -> bool:
    """Return whether there is anything of this name, be it a pipe or a broken link; no name is too strange to ask."""
    return os.path.lexists(path)


def _check_plain(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise Unreadable(path, f"expected a file, found {_KINDS.get(stat.S_IFMT(mode), 'something else')}")
