"""Google Cloud Storage, as `cloud.Cloud` describes it: the only module that knows it.

Every transfer is checked by crc32c, and every request is tried again until a deadline.
"""

import base64
import contextlib
import functools
import os
import secrets
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import google_crc32c
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud import storage
from google.cloud.storage import Blob, Bucket
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import exceptions as http

from attngan.errors import Changed, InputError
from attngan.storage import cloud, uris
from attngan.storage.cloud import WRITER, Generation

DEADLINE_SECONDS = cloud.DEADLINE_SECONDS


def fetch(uri: str, into: Path) -> Path:
    """Copy an object, or every object below a prefix, into the folder `into`, and return where it lies there."""
    with _explained(uri):
        bucket, name = _split(uri)
        target = into / (PurePosixPath(name).name or bucket.name)
        _download(cloud.placed(_found(bucket, name, uri), uri, target))
    return target


def contents(uri: str) -> dict[str, tuple[int, str]]:
    """Return size and crc32c of every object below a prefix, by relative name; of a single object under ""."""
    with _explained(uri):
        return {name: (blob.size, blob.crc32c) for name, blob in _found(*_split(uri), uri)}


def names(uri: str) -> list[str]:
    """Return the relative names of all objects below a prefix, sorted; nothing may be there."""
    with _explained(uri):
        bucket, name = _split(uri)
        prefix = f"{name}/" if name else ""
        return sorted(blob.name.removeprefix(prefix) for blob in _below(bucket, prefix))


def modified(uri: str) -> float:
    """Return when an object was written, in seconds since 1970."""
    with _explained(uri):
        ((_, blob),) = _found(*_split(uri), uri)
        return blob.updated.timestamp()


def upload(files: Iterable[tuple[Path, str]], uri: str) -> None:
    """Copy local files below `uri`, each under the name given with it, in parallel."""
    with _explained(uri):
        bucket, prefix = _split(uri)

        def send(file: tuple[Path, str], stopping: threading.Event) -> None:
            blob = bucket.blob(f"{prefix}/{file[1]}".lstrip("/"))
            blob.upload_from_filename(str(file[0]), checksum="crc32c", timeout=_timeout(), retry=_retry(stopping))

        cloud.for_each(send, files)


def read(uri: str) -> tuple[bytes, Generation] | None:
    """Return the content of a small object and its generation, or None where there is none."""
    with _explained(uri):
        bucket, name = _split(uri)
        while (blob := bucket.get_blob(name, timeout=_timeout(), retry=_retry())) is not None:
            generation = blob.generation  # the download may forget it
            if blob.size > cloud.MAX_READ:
                raise cloud.too_large(uri, blob.size)
            with contextlib.suppress(api.NotFound):  # replaced just now: look again
                content = blob.download_as_bytes(checksum="crc32c", timeout=_timeout(), retry=_retry())
                return content, generation
        return None


def write(uri: str, content: bytes, *, generation: Generation) -> Generation:
    """Write a small object if it still is of `generation` (0: if there is none), and return its new generation.

    Raises:
        Changed: somebody else has written it since.
    """
    with _explained(uri):
        bucket, name = _split(uri)
        blob = bucket.blob(name)
        blob.metadata = {WRITER: secrets.token_hex(8)}
        try:
            blob.upload_from_string(
                content,
                if_generation_match=generation,
                checksum="crc32c",
                timeout=_timeout(),
                retry=_retry(),
            )
        except api.PreconditionFailed:
            now = bucket.get_blob(name, timeout=_timeout(), retry=_retry())
            if now is not None and (now.metadata or {}).get(WRITER) == blob.metadata[WRITER]:
                return now.generation  # ours: only the answer to the first attempt was lost
            raise Changed(uri) from None
        return blob.generation


def remove(uri: str) -> None:
    """Remove an object if it is there."""
    with _explained(uri):
        bucket, name = _split(uri)
        with contextlib.suppress(api.NotFound):
            bucket.blob(name).delete(timeout=_timeout(), retry=_retry())


def check_reachable(uri: str) -> None:
    """Say in a sentence what would keep a result from being written below `uri`, as far as reading shows it."""
    with _explained(uri):
        bucket, name = _split(uri)
        next(iter(_below(bucket, f"{name}/", max_results=1)), None)


def _split(uri: str) -> tuple[Bucket, str]:
    _, bucket, name = uris.split(uri)
    try:
        return _client(os.environ.get("STORAGE_EMULATOR_HOST")).bucket(bucket), name
    except ValueError as error:
        raise InputError(f"{uri}: {bucket!r} cannot be a bucket's name ({error}).") from None


@functools.cache
def _client(emulator: str | None) -> storage.Client:
    """Return the client, which reads the environment itself: credentials, and where an emulator is."""
    return storage.Client(project=None)


def _found(bucket: Bucket, name: str, uri: str) -> list[tuple[str, Blob]]:
    """Return the object `name` as "", or every object below it by relative name."""
    blob = bucket.get_blob(name, timeout=_timeout(), retry=_retry()) if name else None
    if blob is not None:
        return [("", blob)]
    prefix = f"{name}/" if name else ""
    found = [(below.name.removeprefix(prefix), below) for below in _below(bucket, prefix)]
    if not found:
        raise cloud.nothing_at(uri)
    return found


def _below(bucket: Bucket, prefix: str, max_results: int | None = None) -> Iterable[Blob]:
    listed = bucket.list_blobs(prefix=prefix, max_results=max_results, timeout=_timeout(), retry=_retry())
    return (blob for blob in listed if not blob.name.endswith("/"))  # a console marks folders so


def _download(pairs: list[tuple[Blob, Path]]) -> None:
    known = {path: (blob.size, blob.crc32c) for blob, path in pairs}  # a download may forget them
    parts: list[tuple[Blob, Path, range | None]] = []
    for blob, path in pairs:
        if blob.size <= cloud.CHUNK_BYTES:
            parts.append((blob, path, None))
            continue
        path.write_bytes(b"")
        starts = range(0, blob.size, cloud.CHUNK_BYTES)
        parts += [(blob, path, range(start, min(start + cloud.CHUNK_BYTES, blob.size))) for start in starts]
    cloud.for_each(_download_part, parts)
    for path, (size, checksum) in known.items():
        if path.stat().st_size != size:
            raise DataCorruption(None, f"{path.name}: {path.stat().st_size} of {size} bytes")
        if size > cloud.CHUNK_BYTES and _crc32c(path) != checksum:
            raise DataCorruption(None, f"{path.name}: it does not have its checksum")


def _download_part(part: tuple[Blob, Path, range | None], stopping: threading.Event) -> None:
    """Write some bytes of a large object into its file, which is checked later; or a small one, checked at once."""
    blob, path, numbers = part
    options = {"timeout": _timeout(), "retry": _retry(stopping)}
    if numbers is None:
        blob.download_to_filename(str(path), checksum="crc32c", **options)
        return
    with path.open("r+b") as to:
        to.seek(numbers.start)
        blob.download_to_file(to, start=numbers.start, end=numbers.stop - 1, checksum=None, **options)


def _crc32c(path: Path) -> str:
    """Return a file's checksum as the storage writes it."""
    checksum = google_crc32c.Checksum()
    with path.open("rb") as content:
        while block := content.read(2**20):
            checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()


def _timeout() -> tuple[float, float]:
    """Return how long a connection, and then an answer, is waited for in seconds."""
    return min(cloud.CONNECT_SECONDS, cloud.ATTEMPT_SECONDS), cloud.ATTEMPT_SECONDS


def _retry(stopping: threading.Event | None = None):
    """Return the rule by which a request that begins now is made again, unless its result is no longer wanted."""
    start, is_passing = time.monotonic(), DEFAULT_RETRY._predicate
    host = urllib.parse.urlsplit(os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com").netloc

    def passes(error: Exception) -> bool:
        if not is_passing(error) or (stopping is not None and stopping.is_set()):
            return False
        cloud.tell_away(host, start)
        return True

    return DEFAULT_RETRY.with_timeout(DEADLINE_SECONDS).with_predicate(passes)


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Say in one sentence what keeps cloud storage from us."""
    try:
        yield
    except auth.TransportError as error:
        raise cloud.fault("away", uri, error) from error
    except auth.GoogleAuthError as error:
        how = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
        raise cloud.fault("credentials", uri, error, how) from error
    except (api.Forbidden, api.Unauthorized) as error:
        raise cloud.fault("forbidden", uri, error) from error
    except api.NotFound as error:
        raise cloud.fault("missing", uri, error) from error
    except DataCorruption as error:
        raise cloud.fault("damaged", uri, "crc32c") from error
    except (http.RequestException, api.RetryError, api.ServerError, api.TooManyRequests, InvalidResponse) as error:
        raise cloud.fault("away", uri, error) from error
    except api.GoogleAPICallError as error:
        raise cloud.fault("refused", uri, error) from error
