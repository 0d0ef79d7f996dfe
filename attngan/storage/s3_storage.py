"""S3, as `cloud.Cloud` describes it, and whatever speaks S3: MinIO, SeaweedFS, Ceph. The only module that knows it.

Endpoint, region and credentials are those of the environment that every tool for S3 reads (`AWS_ENDPOINT_URL`,
`AWS_REGION`, `AWS_ACCESS_KEY_ID`, profiles, roles), and in a pod of Kubeflow Pipelines those of its launcher.

What is uploaded carries its sha256, with which every download is compared; of what others stored, the checksum that the
storage keeps is. Every request is tried again for some minutes.
"""

import contextlib
import functools
import hashlib
import itertools
import os
import random
import re
import secrets
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore import exceptions as boto
from botocore.config import Config
from s3transfer.exceptions import RetriesExceededError

from attngan.errors import Changed, InputError
from attngan.storage import cloud, kfp_launcher, uris
from attngan.storage.cloud import NUM_WORKERS, WRITER, Generation

Value = TypeVar("Value")
ATTEMPTS = 12  # of a request; waits between them grow to LONGEST_WAIT
LONGEST_WAIT = 20.0  # seconds
DEADLINE_SECONDS = cloud.DEADLINE_SECONDS  # after which an answer that breaks off is not asked for again
SHA256 = "sha256"  # metadata of what we upload
MD5 = re.compile(r"[0-9a-f]{32}")  # an entity tag that is the content's MD5: of an object that came in one part
AMAZON = re.compile(r"\.amazonaws\.com(\.cn)?(:|/|$)")  # an endpoint that is not another store's
BROKEN_OFF = (boto.HTTPClientError, boto.IncompleteReadError)  # an answer that ends too early: asked for again
FORBIDDEN = ("AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "403")
CREDENTIALS = (
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
    *("AuthorizationHeaderMalformed", "RequestTimeTooSkewed", "InvalidClientTokenId"),
)
AWAY = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException")
HOW = (  # to give credentials
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; and AWS_ENDPOINT_URL where it is not Amazon's"
)


def fetch(uri: str, into: Path) -> Path:
    """Copy an object, or every object below a prefix, into a folder, and return where it lies there."""
    with _explained(uri):
        client, bucket, name = _split(uri)
        target = into / (PurePosixPath(name).name or bucket)
        pairs = cloud.placed(_found(client, bucket, name, uri), uri, target)
        small = [pair for pair in pairs if pair[0]["Size"] <= cloud.CHUNK_BYTES]
        cloud.for_each(lambda pair, stopping: _again(lambda: _download(client, bucket, *pair), stopping), small)
        for each, path in pairs:
            if each["Size"] > cloud.CHUNK_BYTES:
                _download_in_parts(client, bucket, each, path)
    return target


def contents(uri: str) -> dict[str, tuple[int, str]]:
    """Return size and entity tag of every object below a prefix, by relative name; of a single object under ""."""
    with _explained(uri):
        return {name: (each["Size"], each["ETag"].strip('"')) for name, each in _found(*_split(uri), uri)}


def names(uri: str) -> list[str]:
    """Return the relative names of all objects below a prefix, sorted; nothing may be there."""
    with _explained(uri):
        client, bucket, name = _split(uri)
        prefix = f"{name}/" if name else ""
        return sorted(each["Key"].removeprefix(prefix) for each in _below(client, bucket, prefix))


def modified(uri: str) -> float:
    """Return when an object was written, in seconds since 1970."""
    with _explained(uri):
        client, bucket, name = _split(uri)
        if (found := _head(client, bucket, name)) is None:
            raise cloud.nothing_at(uri)
        return found["LastModified"].timestamp()


def upload(files: Iterable[tuple[Path, str]], uri: str) -> None:
    """Copy local files below `uri`, each under the name given with it, in parallel."""
    with _explained(uri):
        client, bucket, prefix = _split(uri)
        with create_transfer_manager(client, _transfers()) as manager:
            sent = []
            for path, name in files:
                extra = {"Metadata": {SHA256: _digest(path, SHA256)}}
                sent.append(manager.upload(str(path), bucket, f"{prefix}/{name}".lstrip("/"), extra_args=extra))
            for each in sent:
                each.result()


def read(uri: str) -> tuple[bytes, Generation] | None:
    """Return the content of a small object and its generation, or None where there is none."""
    with _explained(uri):
        client, bucket, name = _split(uri)

        def get() -> tuple[bytes, Generation] | None:
            try:
                answer = client.get_object(Bucket=bucket, Key=name)
            except boto.ClientError as error:
                if _is_no_key(error):
                    return None
                raise
            if answer["ContentLength"] > cloud.MAX_READ:
                raise cloud.too_large(uri, answer["ContentLength"])
            content = answer["Body"].read()
            _check(answer, lambda kind: hashlib.new(kind, content).hexdigest(), len(content))
            return content, answer["ETag"]

        return _again(get)


def write(uri: str, content: bytes, *, generation: Generation) -> Generation:
    """Write a small object if it still is of `generation` (0: if there is none), and return its new generation.

    Raises:
        Changed: somebody else has written it since.
    """
    with _explained(uri):
        client, bucket, name = _split(uri)
        _check_refuses(client, bucket, PurePosixPath(name).parent)
        writer = secrets.token_hex(8)
        metadata = {WRITER: writer, SHA256: hashlib.sha256(content).hexdigest()}
        condition = {"IfMatch": str(generation)} if generation else {"IfNoneMatch": "*"}
        for attempt in range(ATTEMPTS):
            try:
                answer = client.put_object(Bucket=bucket, Key=name, Body=content, Metadata=metadata, **condition)
                return answer["ETag"]
            except boto.ClientError as error:
                code, status = _code(error)
                if code == "ConditionalRequestConflict" or (status == 409 and attempt < ATTEMPTS - 1):
                    _wait(attempt)  # two at once: which of them came first is not known yet
                elif status == 412 or _is_no_key(error):
                    now = _head(client, bucket, name)
                    if now is not None and now["Metadata"].get(WRITER) == writer:
                        return now["ETag"]  # ours: only the answer to the first attempt was lost
                    raise Changed(uri) from None
                else:
                    raise
        raise Changed(uri)


def remove(uri: str) -> None:
    """Remove an object if it is there."""
    with _explained(uri):
        client, bucket, name = _split(uri)
        client.delete_object(Bucket=bucket, Key=name)


def check_reachable(uri: str) -> None:
    """Say in a sentence what would keep a result from being written below `uri`, as far as reading shows it."""
    with _explained(uri):
        client, bucket, name = _split(uri)
        client.list_objects_v2(Bucket=bucket, Prefix=f"{name}/", MaxKeys=1)


def _split(uri: str) -> tuple[Any, str, str]:
    scheme, bucket, name = uris.split(uri)
    store = kfp_launcher.store(scheme, bucket, name)
    client = _client(store, os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))
    if scheme == "minio" and AMAZON.search(client.meta.endpoint_url):
        raise InputError(
            f"{uri}: where this store is was not said; set AWS_ENDPOINT_URL, such as http://localhost:9000."
        )
    return client, bucket, name


@functools.cache
def _client(store: kfp_launcher.Store | None, endpoint: str | None) -> Any:
    """Return the client, for what the launcher says or, where it says nothing, for what boto3 reads itself."""
    told = store.as_arguments() if store else {"endpoint_url": endpoint}
    options = {
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
        "connect_timeout": min(cloud.CONNECT_SECONDS, cloud.ATTEMPT_SECONDS),
        "read_timeout": cloud.ATTEMPT_SECONDS,
        "max_pool_connections": 2 * NUM_WORKERS,
    }
    client = _session().client("s3", **told, config=Config(**options))
    if store or not AMAZON.search(client.meta.endpoint_url):  # of the arguments, or of a profile
        is_host = store is not None and not store.by_path  # other stores have no host name for each bucket
        style = {"addressing_style": "virtual" if is_host else "path"}
        client = _session().client("s3", **told, config=Config(**options, s3=style))
    client.meta.events.register("before-call.s3", _note_start)
    client.meta.events.register("needs-retry.s3", _tell_away)
    return client


def _note_start(context: dict[str, Any], **_: Any) -> None:
    context["start"] = time.monotonic()


def _tell_away(request_dict: dict[str, Any], response: Any, **_: Any) -> None:
    """Hear of each attempt how it ended."""
    if response is None or response[0].status_code >= 500:
        cloud.tell_away(urllib.parse.urlsplit(request_dict["url"]).netloc, request_dict["context"]["start"])


@functools.cache
def _session() -> boto3.session.Session:
    return boto3.session.Session()


def _found(client: Any, bucket: str, name: str, uri: str) -> list[tuple[str, Any]]:
    """Return the object `name` as "", or every object below it by relative name."""
    if name and (head := _head(client, bucket, name)) is not None:
        return [("", {"Key": name, "Size": head["ContentLength"], "ETag": head["ETag"]})]
    prefix = f"{name}/" if name else ""
    found = [(each["Key"].removeprefix(prefix), each) for each in _below(client, bucket, prefix)]
    if not found:
        raise cloud.nothing_at(uri)
    return found


def _head(client: Any, bucket: str, name: str) -> Any:
    """Return what the storage keeps of an object beside its content, None where there is none."""
    try:
        return client.head_object(Bucket=bucket, Key=name)
    except boto.ClientError as error:
        if _code(error)[1] == 404:
            return None
        raise


def _below(client: Any, bucket: str, prefix: str) -> Iterable[Any]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return (each for page in pages for each in page.get("Contents", ()) if not each["Key"].endswith("/"))


def _download(client: Any, bucket: str, found: Any, path: Path) -> None:
    answer = client.get_object(Bucket=bucket, Key=found["Key"])
    with path.open("wb") as to:
        for part in answer["Body"].iter_chunks(2**20):
            to.write(part)
    _check(answer, functools.partial(_digest, path), path.stat().st_size)


def _download_in_parts(client: Any, bucket: str, found: Any, path: Path) -> None:
    with create_transfer_manager(client, _transfers()) as manager:
        manager.download(bucket, found["Key"], str(path)).result()
    head = client.head_object(Bucket=bucket, Key=found["Key"])
    _check(head, functools.partial(_digest, path), path.stat().st_size)


def _check(answer: Any, digest: Callable[[str], str], size: int) -> None:
    """Refuse content that is not what was stored: ours has its sha256 beside it, most other objects their MD5."""
    told, tag = answer["Metadata"].get(SHA256), answer["ETag"].strip('"')
    is_same = size == answer["ContentLength"]
    if told:
        is_same &= digest(SHA256) == told
    elif MD5.fullmatch(tag) and answer.get("ServerSideEncryption", "AES256") == "AES256":
        is_same &= digest("md5") == tag
    if not is_same:
        raise boto.FlexibleChecksumError(error_msg="it does not have its checksum")


def _check_refuses(client: Any, bucket: str, folder: PurePosixPath) -> None:
    """Make sure that the storage compares before it writes: others would lose what two runs write at once."""
    if (client, bucket) in _REFUSES:
        return
    probe = {"Bucket": bucket, "Key": str(folder / f".attngan-{secrets.token_hex(8)}")}
    try:
        client.put_object(**probe, Body=b"", IfMatch=f'"{"0" * 32}"')  # which no object can be
    except boto.ClientError as error:
        status = _code(error)[1]
        if status == 412 or _is_no_key(error):
            _REFUSES.add((client, bucket))
            return
        if status != 501:
            raise
    else:
        client.delete_object(**probe)
    raise InputError(
        f"the bucket {bucket}: this store writes without comparing (If-Match), so two runs would overwrite each "
        "other's state; use a newer version of it, or another store."
    )


_REFUSES: set[tuple[Any, str]] = set()  # buckets that are known to compare


def _transfers() -> TransferConfig:
    return TransferConfig(
        multipart_threshold=cloud.CHUNK_BYTES,
        multipart_chunksize=cloud.CHUNK_BYTES,
        max_concurrency=NUM_WORKERS,
        num_download_attempts=ATTEMPTS,
    )


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, kind).hexdigest()


def _again(call: Callable[[], Value], stopping: threading.Event | None = None) -> Value:
    """Return what a call returns; one whose answer breaks off in the middle is made again, while it is wanted."""
    start = time.monotonic()
    for attempt in itertools.count():
        try:
            return call()
        except BROKEN_OFF:
            is_unwanted = stopping is not None and stopping.is_set()
            if is_unwanted or time.monotonic() - start > DEADLINE_SECONDS:
                raise
            _wait(attempt)
    raise AssertionError("a count has no end")


def _wait(attempt: int) -> None:
    time.sleep(min(LONGEST_WAIT, random.random() * 2 ** min(attempt, 10)))


def _is_no_key(error: boto.ClientError) -> bool:
    """Return whether an object is not there; where the answer broke off, it has no code."""
    code, status = _code(error)
    return status == 404 and code != "NoSuchBucket"


def _code(error: boto.ClientError) -> tuple[str, int]:
    """Return the code of an answer that is an error, and its HTTP status."""
    return error.response["Error"].get("Code", ""), error.response["ResponseMetadata"].get("HTTPStatusCode", 0)


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Say in one sentence what keeps cloud storage from us."""
    try:
        yield
    except boto.FlexibleChecksumError as error:
        raise cloud.fault("damaged", uri, "checksum") from error
    except boto.ParamValidationError as error:
        bucket = uris.split(uri)[1]
        raise InputError(f"{uri}: {bucket!r} cannot be a bucket's name, or this no object's; rename it.") from error
    except boto.ClientError as error:
        code, status = _code(error)
        if code in CREDENTIALS:
            raise cloud.fault("credentials", uri, error, HOW) from error
        kinds = {403: "forbidden", 401: "forbidden", 404: "missing", 429: "away"}
        is_away = status >= 500 or code in AWAY
        kind = "away" if is_away else "forbidden" if code in FORBIDDEN else kinds.get(status, "refused")
        raise cloud.fault(kind, uri, error) from error
    except (
        *(
            boto.NoCredentialsError,
            boto.PartialCredentialsError,
            boto.CredentialRetrievalError,
            boto.TokenRetrievalError,
        ),
        *(boto.ProfileNotFound, boto.UnauthorizedSSOTokenError, boto.SSOTokenLoadError),
    ) as error:
        raise cloud.fault("credentials", uri, error, HOW) from error
    except RetriesExceededError as error:
        raise cloud.fault("away", uri, error.last_exception) from error
    except boto.BotoCoreError as error:
        raise cloud.fault("away", uri, error) from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{uri}: {cloud.first_line(error)}; correct AWS_ENDPOINT_URL.") from error
