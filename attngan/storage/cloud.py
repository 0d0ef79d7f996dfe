"""One interface to every cloud storage, chosen by the scheme of a URI: `google_storage` and `s3_storage` have it.

They are imported where such a URI turns up, so that attngan works without their packages.
"""

import importlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar, cast

from attngan import errors
from attngan.errors import InputError, TransientError
from attngan.runtime import console
from attngan.storage import uris

MODULES = {"gs": ("google_storage", "gcs"), "s3": ("s3_storage", "s3"), "minio": ("s3_storage", "s3")}
NUM_WORKERS = 8
ATTEMPT_SECONDS = 60.0  # without a byte, until a request is given up
CONNECT_SECONDS = 10.0  # until a connection is given up
DEADLINE_SECONDS = 300.0  # for a request and its repetitions, about
PATIENCE_SECONDS = 5.0  # of a request that fails, until people are told that it is made again
MAX_READ = 2**28  # bytes of what is read at once: pointers, notes, logs
CHUNK_BYTES = 32 * 2**20  # larger objects are downloaded in parallel parts of this size
WRITER = "attngan-writer"  # metadata of a pointer: tells our own write from another's

Object = TypeVar("Object")  # one that lies in a storage, as its client describes it
Item = TypeVar("Item")  # a file or an object that is transferred
Generation = int | str  # of an object, whatever its storage tells versions apart by; 0 where there is none

FAULTS = {  # what keeps cloud storage from us, and what to do
    "away": "cloud storage does not answer ({}); check the network, then run it again.",
    "credentials": "no valid credentials ({}); {}.",
    "forbidden": "this account may not do that ({}); grant it access.",
    "missing": "not found ({}); check the bucket's name, or make it.",
    "damaged": "what arrived is not what was sent ({}); run the command again.",
    "refused": "cloud storage refused it ({}).",
}


class Cloud(Protocol):
    """What a cloud storage can do; every transfer is checked end to end, and tried again for some minutes.

    All raise InputError, one sentence, where the storage refuses, does not answer, or is not what `uri` says.
    """

    def fetch(self, uri: str, into: Path) -> Path:
        """Copy an object, or every object below a prefix, into a folder, and return where it lies there."""

    def contents(self, uri: str) -> dict[str, tuple[int, str]]:
        """Return size and checksum of every object below a prefix, by relative name; of a single object under ""."""

    def names(self, uri: str) -> list[str]:
        """Return the relative names of all objects below a prefix, sorted; nothing may be there."""

    def modified(self, uri: str) -> float:
        """Return when an object was written, in seconds since 1970."""

    def upload(self, files: Iterable[tuple[Path, str]], uri: str) -> None:
        """Copy local files below `uri`, each under the name given with it, in parallel."""

    def read(self, uri: str) -> tuple[bytes, Generation] | None:
        """Return the content of a small object and its generation, or None where there is none."""

    def write(self, uri: str, content: bytes, *, generation: Generation) -> Generation:
        """Write a small object if it still is of `generation` (0: if there is none), and return its new generation.

        Raises:
            Changed: somebody else has written it since.
        """

    def remove(self, uri: str) -> None:
        """Remove an object if it is there."""

    def check_reachable(self, uri: str) -> None:
        """Say in a sentence what would keep a result from being written below `uri`, as far as reading shows it."""


def of(uri: str) -> Cloud:
    """Return the storage of a URI, or say which package it needs."""
    module, extra = MODULES[uris.split(uri)[0]]
    try:
        return cast(Cloud, importlib.import_module(f"attngan.storage.{module}"))
    except ImportError:
        raise InputError(
            f"{uri}: its storage needs a package that is not installed; install the {extra} extra of attngan, or give "
            "a local path."
        ) from None


def placed(found: Iterable[tuple[str, Object]], uri: str, target: Path) -> list[tuple[Object, Path]]:
    """Return objects with the files that they become, whose folders are made.

    Args:
        found: the objects below `uri`, each with its relative name, which is "" where `uri` is the object itself.
        uri: where they lie.
        target: the folder, or the file, that is made of them.

    Raises:
        InputError: a name that no file in a folder can have.
    """
    pairs = []
    for name, each in found:
        if name and any(part in ("..", ".", "") for part in name.split("/")):
            raise InputError(f"{uri}: the object name {name!r} leads out of its folder; remove or rename that object.")
        pairs.append((each, target / name))
    for folder in {path.parent for _, path in pairs}:
        folder.mkdir(parents=True, exist_ok=True)
    return pairs


def for_each(transfer: Callable[[Item, threading.Event], object], items: Iterable[Item]) -> None:
    """Transfer many in parallel; after the first that fails, and after Ctrl-C, none begins any more.

    Args:
        transfer: gets one of them, and what is set when the others are to end; it need not be tried again then.
        items: what is transferred.
    """
    stopping = threading.Event()
    failed: list[BaseException] = []

    def run(item: Item) -> None:
        if stopping.is_set():
            return
        try:
            transfer(item, stopping)
        except BaseException as error:  # told to all here: this thread takes the next one at once
            failed.append(error)
            stopping.set()

    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        try:
            list(pool.map(run, items))
        finally:
            stopping.set()
    if failed:
        raise failed[0]  # the others may have failed as they were not tried again


def too_large(uri: str, size: int) -> InputError:
    """Return what to say of a file that is read at once, and is larger than any such file."""
    return InputError(f"{uri}: expected at most {MAX_READ:,} bytes, found {size:,}; remove it, or restore the file.")


def nothing_at(uri: str) -> TransientError:
    """Return what to say of a URI below which no object is."""
    return TransientError(f"{uri}: nothing is there; check the name, or run the step that writes it.")


def fault(kind: str, uri: str, error: Exception | str, *more: str) -> TransientError:
    """Return the sentence for one of `FAULTS`."""
    found = error if isinstance(error, str) else first_line(error)
    return TransientError(f"{uri}: {FAULTS[kind].format(found, *more)}")


def tell_away(host: str, start: float) -> None:
    """Say on standard error, once for each storage, that it is waited for.

    Args:
        host: of the storage.
        start: of the request that has failed and will be made again, `time.monotonic`.
    """
    if time.monotonic() - start < PATIENCE_SECONDS or host in _TOLD:
        return
    _TOLD.add(host)
    left = console.duration(DEADLINE_SECONDS)
    print(f"{host} does not answer; trying again, for about {left} at most ...", file=sys.stderr, flush=True)


_TOLD: set[str] = set()  # hosts


def first_line(error: Exception) -> str:
    """Return what an error says, without what is as good as a key: the query of a URL, the user in it."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", re.sub(r"\?\S*", "", errors.first_line(error)))[:200]
