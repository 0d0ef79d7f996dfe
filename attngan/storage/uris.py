"""What a place is called: a local path, or the URI of cloud storage. Nothing here looks whether it is there."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from attngan.errors import InputError, shown

SCHEMES = ("gs", "s3", "minio")  # of cloud storage: Google's, S3, and Kubeflow's name for a store that speaks S3
FORMS = "gs://BUCKET/NAME, s3://BUCKET/NAME or minio://BUCKET/NAME"
_REMOTE = re.compile(f"({'|'.join(SCHEMES)})://")
_OTHER_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")


def is_remote(uri: str | Path) -> bool:
    """Return whether `uri` names cloud storage.

    Raises:
        InputError: it is written as a URI, and attngan knows no such storage.
    """
    text = str(uri)
    if _REMOTE.match(text):
        return True
    if _OTHER_SCHEME.match(text):
        raise InputError(f"{shown(text)}: expected a local path, {FORMS}; put ./ before a local one.")
    return False


def split(uri: str) -> tuple[str, str, str]:
    """Return scheme, bucket and name of a URI in cloud storage; the name of a whole bucket is "".

    Raises:
        InputError: there is no bucket, or the name has a part that leads to another one.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, name = rest.partition("/")
    if not bucket:
        raise InputError(f"{shown(uri)}: expected {scheme}://BUCKET/NAME, found no bucket.")
    name = name.strip("/")
    if {".", ".."} & set(name.split("/")) or not uri.isprintable():
        raise InputError(
            f"{shown(uri)}: expected {scheme}://BUCKET/NAME of characters that print, found . or .. between slashes, "
            "or others; rename it."
        )
    return scheme, bucket, name


def check_output(place: str, what: str, *, is_local: bool = False) -> None:
    """Refuse what can name no place for a result: nothing at all, a URI without a bucket; with `is_local`, any URI.

    Args:
        place: as it was typed.
        what: it is, such as `--out`.
        is_local: it has to be on this machine.
    """
    if not place.strip():
        raise InputError(f"{what}: expected a folder for the result, found an empty name; name one.")
    if is_remote(place):
        if is_local:
            raise InputError(f"{what} {shown(place)}: expected a local path, found cloud storage; give a local one.")
        split(place)


def join(uri: str | Path, *names: str) -> str:
    """Return the URI or path of something below a folder."""
    return "/".join([str(uri).rstrip("/"), *names])


def check_apart(outputs: Sequence[str | Path], inputs: Iterable[str | Path | None]) -> None:
    """Refuse an output that is an input or another output, holds one, or lies inside one; links are followed.

    Args:
        outputs: local paths or URIs.
        inputs: the same; None for what is not given.
    """
    given = [each for each in inputs if each is not None and str(each)]
    for number, output in enumerate(outputs):
        is_remote(output)  # or no place at all
        for what, others in (("input", given), ("output", outputs[:number])):
            for other in others:
                if relation := relation_of(output, other):
                    if relation == "is" and what == "output":
                        raise InputError(
                            f"{shown(str(output))}: two results would lie in this folder; name two places."
                        )
                    place, near = shown(str(output)), shown(str(other))
                    raise InputError(f"{place}: {relation} the {what} {near}; name another place for the result.")


def relation_of(output: str | Path, other: str | Path) -> str | None:
    """Return how an output meets another place, "is", "lies inside" or "holds"; None where they are apart."""
    ours, theirs = _parts(output), _parts(other)
    if _is_same(ours, theirs):
        return "is"
    if any(_is_same(above, theirs) for above in ours.parents):
        return "lies inside"
    return "holds" if any(_is_same(ours, above) for above in theirs.parents) else None


def _parts(place: str | Path) -> Path | PurePosixPath:
    """Return a place as a path of which the parents are known: local ones with every link followed."""
    if is_remote(place):
        scheme, _, rest = str(place).partition("://")
        return PurePosixPath("gs" if scheme == "gs" else "s3", rest)  # minio:// may be what s3:// is
    try:
        return Path(os.path.realpath(place))
    except ValueError:  # a name that no file can have
        raise InputError(f"{shown(str(place))}: no such file or folder; check the path.") from None


def _is_same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False  # one is local, the other is not
    if one == other or not isinstance(one, Path):
        return one == other
    try:
        return one.samefile(other)  # a folder that is mounted twice
    except OSError:
        return False
