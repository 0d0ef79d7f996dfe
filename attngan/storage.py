"""Cloud storage: `gs://` folders fetched before a step and delivered after it; local paths pass through.

The only file that knows Google Cloud, and it imports it only when a `gs://` URI turns up.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, overload

from attngan.errors import InputError

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

SCHEME = "gs://"
MANIFEST = "manifest.json"  # sent last: a folder without it is not complete
NUM_WORKERS = 8
ATTEMPT_SECONDS = 60
DEADLINE_SECONDS = 120


def is_remote(uri: str | Path) -> bool:
    """Return whether `uri` names cloud storage."""
    return str(uri).startswith(SCHEME)


def local_only(uri: str, what: str) -> Path:
    """Return the path of a local folder that is changed in place, refusing cloud storage."""
    if is_remote(uri):
        raise InputError(f"{uri}: {what} is changed in place and must be a local or mounted folder; give its path.")
    return Path(uri)


def fetch(uri: str, into: Path) -> Path:
    """Copy an object, or every object below a prefix, into the folder `into`, each checked by crc32c.

    Returns:
        The file or folder, named like the last part of `uri`.
    """
    with _explained(uri):
        bucket, name = _open(uri)
        target = into / (PurePosixPath(name).name or bucket.name)
        blob = bucket.get_blob(name) if name else None
        if blob is not None:
            pairs = [(blob, target)]
        else:
            prefix = f"{name}/" if name else ""
            blobs = [found for found in bucket.list_blobs(prefix=prefix) if not found.name.endswith("/")]
            pairs = [(found, target / _safe(found.name.removeprefix(prefix), uri)) for found in blobs]
        if not pairs:
            raise InputError(f"{uri}: nothing is there; check the name, or run the step that writes it.")
        for folder in {path.parent for _, path in pairs}:
            folder.mkdir(parents=True, exist_ok=True)
        _download(pairs)
    return target


def deliver(folder: Path, uri: str) -> None:
    """Copy a folder below `uri`, its manifest last, so that a half-written result never looks complete.

    Where there is a manifest, only the files it names are sent, and an older manifest at `uri` is removed first.
    """
    names = _names(folder)
    with _explained(uri):
        bucket, prefix = _open(uri)
        prefix = f"{prefix}/" if prefix else ""
        stale = bucket.get_blob(prefix + MANIFEST)
        if stale is not None:
            stale.delete(timeout=ATTEMPT_SECONDS)
        _upload([(folder / name, bucket.blob(prefix + name)) for name in names if name != MANIFEST])
        _upload([(folder / name, bucket.blob(prefix + name)) for name in names if name == MANIFEST])


@overload
def local_input(uri: str) -> contextlib.AbstractContextManager[Path]: ...
@overload
def local_input(uri: None) -> contextlib.AbstractContextManager[None]: ...
@overload
def local_input(uri: str | None) -> contextlib.AbstractContextManager[Path | None]: ...
@contextlib.contextmanager
def local_input(uri: str | None) -> Iterator[Path | None]:
    """Give an input as a local path while the block runs; None stays None."""
    if uri is None or not is_remote(uri):
        yield None if uri is None else Path(uri)
        return
    with tempfile.TemporaryDirectory(prefix="attngan-in-") as scratch:
        yield fetch(uri, Path(scratch))


@contextlib.contextmanager
def output(uri: str) -> Iterator[Path]:
    """Give a local folder for a result; one for cloud storage is delivered when the block ends without an exception."""
    if not is_remote(uri):
        yield Path(uri)
        return
    with _explained(uri):
        _open(uri)
    with tempfile.TemporaryDirectory(prefix="attngan-out-") as scratch:
        folder = Path(scratch) / "result"
        yield folder
        deliver(folder, uri)


def _names(folder: Path) -> list[str]:
    if (folder / MANIFEST).is_file():
        return [*json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"], MANIFEST]
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _open(uri: str) -> tuple["Bucket", str]:
    """Return the bucket, which is known to exist, and the object name of a `gs://` URI."""
    bucket_name, _, name = uri.removeprefix(SCHEME).partition("/")
    if not bucket_name:
        raise InputError(f"{uri}: expected gs://BUCKET/NAME, found no bucket.")
    try:
        from google.cloud import storage
    except ImportError:
        raise InputError(
            f"{uri}: cloud storage needs google-cloud-storage; install the gcs extra of attngan, or give a local path."
        ) from None
    bucket = storage.Client(project=None).bucket(bucket_name)
    if not bucket.exists(timeout=ATTEMPT_SECONDS, retry=_retry()):
        raise InputError(f"{uri}: there is no bucket {bucket_name}; check its name, or make it.")
    return bucket, name.strip("/")


def _retry():
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(DEADLINE_SECONDS)


def _safe(name: str, uri: str) -> str:
    if any(part in ("..", "") for part in name.split("/")):
        raise InputError(f"{uri}: the object name {name!r} leads out of its folder; remove or rename that object.")
    return name


def _download(pairs: list) -> None:
    from google.cloud.storage import transfer_manager

    transfer_manager.download_many(
        [(blob, str(path)) for blob, path in pairs],
        download_kwargs={"checksum": "crc32c", "timeout": ATTEMPT_SECONDS, "retry": _retry()},
        worker_type=transfer_manager.THREAD,
        max_workers=NUM_WORKERS,
        raise_exception=True,
    )


def _upload(pairs: list) -> None:
    from google.cloud.storage import transfer_manager

    transfer_manager.upload_many(
        [(str(path), blob) for path, blob in pairs],
        upload_kwargs={"checksum": "crc32c", "timeout": ATTEMPT_SECONDS, "retry": _retry()},
        worker_type=transfer_manager.THREAD,
        max_workers=NUM_WORKERS,
        raise_exception=True,
    )


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Say in one sentence what keeps cloud storage from us."""
    try:
        from google.api_core import exceptions as api
        from google.auth import exceptions as auth
        from google.cloud.storage.exceptions import DataCorruption
        from requests import exceptions as http
    except ImportError:
        yield  # _open says that it is not installed
        return
    try:
        yield
    except auth.TransportError as error:
        raise InputError(f"{uri}: no connection to cloud storage ({_first_line(error)}); check the network.") from error
    except auth.GoogleAuthError as error:
        raise InputError(
            f"{uri}: no valid Google Cloud credentials ({_first_line(error)}); "
            "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS."
        ) from error
    except (api.Forbidden, api.Unauthorized) as error:
        raise InputError(f"{uri}: this account may not do that ({_first_line(error)}); grant it access.") from error
    except api.NotFound as error:
        raise InputError(f"{uri}: not found ({_first_line(error)}); check the name.") from error
    except DataCorruption as error:
        raise InputError(f"{uri}: what arrived is not what is stored (crc32c); run the command again.") from error
    except (http.ConnectionError, http.Timeout, api.RetryError, api.ServerError) as error:
        raise InputError(
            f"{uri}: cloud storage does not answer ({_first_line(error)}); check the network, then run it again."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
