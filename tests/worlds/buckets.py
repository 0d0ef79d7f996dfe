"""A bucket of a cloud storage as a test sees it from outside: what others put there, and what lies there."""

import datetime
from typing import Any, Protocol

import pytest
from storage_server import Proxy

NAME = "pictures"

slow_in_clouds = pytest.mark.parametrize(
    "root",
    ["local", pytest.param("gs", marks=pytest.mark.slow), pytest.param("s3", marks=pytest.mark.slow)],
    indirect=True,
)


class Bucket(Protocol):
    """A bucket.

    Attributes:
        uri: of the bucket.
        proxy: before its storage; it can inject faults, and keeps the requests.
    """

    uri: str
    proxy: Proxy

    def put(self, name: str, content: bytes) -> None:
        """Put an object there, as others do."""

    def content(self, name: str) -> bytes:
        """Return what an object holds."""

    def updated(self, name: str) -> datetime.datetime:
        """Return when an object was written."""

    def names(self) -> set[str]:
        """Return the names of all objects."""

    def damage(self, name: str, content: bytes) -> None:
        """Let an object hold something else than was stored."""


class GoogleBucket:
    """One of gcp-storage-emulator."""

    uri = f"gs://{NAME}"

    def __init__(self, bucket: Any, proxy: Proxy):
        self.bucket = bucket
        self.proxy = proxy

    def put(self, name: str, content: bytes) -> None:
        self.bucket.blob(name).upload_from_string(content)

    def content(self, name: str) -> bytes:
        return self.bucket.blob(name).download_as_bytes()

    def updated(self, name: str) -> datetime.datetime:
        return self.bucket.get_blob(name).updated

    def names(self) -> set[str]:
        return {blob.name for blob in self.bucket.list_blobs()}

    def damage(self, name: str, content: bytes) -> None:
        stored = self.proxy.emulator._storage._store._files
        assert f"{NAME}/{name}" in stored
        stored[f"{NAME}/{name}"] = content


class S3Bucket:
    """One of a store that speaks S3."""

    uri = f"s3://{NAME}"

    def __init__(self, client: Any, proxy: Proxy):
        self.client = client
        self.proxy = proxy

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=NAME, Key=name, Body=content)

    def content(self, name: str) -> bytes:
        return self.client.get_object(Bucket=NAME, Key=name)["Body"].read()

    def updated(self, name: str) -> datetime.datetime:
        return self.client.head_object(Bucket=NAME, Key=name)["LastModified"]

    def names(self) -> set[str]:
        return {each["Key"] for each in self.client.list_objects_v2(Bucket=NAME).get("Contents", ())}

    def damage(self, name: str, content: bytes) -> None:
        metadata = self.client.head_object(Bucket=NAME, Key=name)["Metadata"]
        self.client.put_object(Bucket=NAME, Key=name, Body=content, Metadata=metadata)
