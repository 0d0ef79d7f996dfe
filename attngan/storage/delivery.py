"""A step's result on its way to where it belongs: put in its place here, or sent to cloud storage when it is whole.

A folder is complete when its manifest is there, so that is sent last.
"""

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from attngan.errors import Changed, InputError, TransientError
from attngan.runtime import distributed, scratch
from attngan.storage import artifacts, cloud, json_text, places, result_folder, uris

NOTE = f"{result_folder.UNFINISHED}/{artifacts.MANIFEST}"  # beside a result that is being delivered


@contextlib.contextmanager
def output(uri: str, *, kind: str | None, inputs: Iterable[str | None]) -> Iterator[Path]:
    """Give a local folder for a result; one for cloud storage is delivered when the block ends without an exception.

    Args:
        uri: where the result goes; what is local is looked at by the step, whose `result_folder` knows every link.
        kind: of the result; None for files that are no result folder.
        inputs: everything that is read for it, and other outputs.

    Raises:
        InputError: cloud storage cannot be reached, the result would replace something else there, or `uri` is an
            input, holds one or lies inside one.
    """
    if not uris.is_remote(uri):
        yield Path(uri)
        return
    uris.check_apart([uri], inputs)
    cloud.of(uri).check_reachable(uri)
    if kind is not None:
        _check_replaceable(uri, kind)
    with scratch.folder("out") as place:
        folder = place / "result"
        yield folder
        if kind is None:
            _deliver_files(folder, uri)
        else:
            deliver(folder, uri)


class Files:
    """Files that are no result, made one after the other: in a folder here, and where that belongs in cloud storage.

    Args:
        folder: where they are made.
        uri: where each belongs; None where that is the folder.
    """

    def __init__(self, folder: Path, uri: str | None = None):
        self.folder, self.uri = folder, uri

    def fetch(self, paths: Iterable[Path]) -> None:
        """Bring those of some files that were made before."""
        if self.uri is not None:
            wanted = {path.name for path in paths} & set(places.names(self.uri))
            with ThreadPoolExecutor(cloud.NUM_WORKERS) as pool:
                list(pool.map(lambda name: places.fetch(uris.join(self.uri, name), self.folder), wanted))

    def send(self, paths: Iterable[Path]) -> None:
        """Bring files to where they belong, in the place of older ones."""
        if self.uri is not None:
            places.copy([(path, path.name) for path in paths], self.uri)


@contextlib.contextmanager
def files(uri: str, *, inputs: Iterable[str | None]) -> Iterator[Files]:
    """Give a place for files that are no result; `output` says what the arguments are, and is raised."""
    if not uris.is_remote(uri):
        yield Files(Path(uri))
        return
    uris.check_apart([uri], inputs)
    cloud.of(uri).check_reachable(uri)
    with scratch.folder("out") as folder, places.told_as(uri, folder):
        yield Files(folder, uri)


@contextlib.contextmanager
def first_output(uri: str, *, kind: str, inputs: Iterable[str | None]) -> Iterator[Path]:
    """Give a folder for a result as `output` does; the first process of those that train alone writes it."""
    if distributed.is_first():
        with output(uri, kind=kind, inputs=inputs) as folder:
            yield folder
    else:
        yield Path(uri)


def first_result(folder: Path, kind: str, *, inputs: Iterable[Path | None]) -> contextlib.AbstractContextManager[Path]:
    """Give a place to make a training's result in, as `result_folder.result` does; the first process alone writes."""
    if distributed.is_first():
        return result_folder.result(folder, kind, inputs=inputs, is_watched=True)
    return contextlib.nullcontext(folder)


def deliver(folder: Path, uri: str) -> None:
    """Copy a result folder to cloud storage, its manifest last, so that a half-written result never looks complete.

    Only the files that its manifest names are sent. An older result's manifest is removed first, and its files last; a
    note says meanwhile whose files these are, in case that the delivery is cut short.
    """
    manifest, old = artifacts.read_manifest(folder), _own_files(uri)
    new = manifest["files"]
    note = json.dumps({**manifest, "files": old | new, "delivery": secrets.token_hex(8)}).encode()
    ours = _noted(uri, note)
    places.remove(uris.join(uri, artifacts.MANIFEST))
    places.copy([(folder / name, name) for name in new], uri)
    for name in old.keys() - new.keys():
        if result_folder.belongs(name, manifest["kind"]):
            places.remove(uris.join(uri, name))
    if places.read(uris.join(uri, NOTE))[1] != ours:
        raise _two_at_once(uri)
    places.copy([(folder / artifacts.MANIFEST, artifacts.MANIFEST)], uri)
    places.remove(uris.join(uri, NOTE))


def _noted(uri: str, note: bytes) -> Any:
    """Write the note of a delivery, and return its generation."""
    place = uris.join(uri, NOTE)
    try:
        return places.write(place, note, generation=places.read(place)[1])
    except Changed:
        raise _two_at_once(uri) from None


def _two_at_once(uri: str) -> TransientError:
    return TransientError(
        f"{uri}: another run delivers a result there at the same time; name another place for one of them, and run "
        "this command again."
    )


def _deliver_files(folder: Path, uri: str) -> None:
    """Copy files that are no result folder below `uri`, manifests among them last; what is there stays."""
    there = set(places.names(uri))
    new = [name for name in places.names(str(folder)) if name not in there]
    for name in set(places.names(str(folder))) & there:
        if places.read(uris.join(uri, name))[0] != (folder / name).read_bytes():
            raise InputError(f"{uris.join(uri, name)}: is there already, with other content; name another folder.")
    manifests = [name for name in new if name.rpartition("/")[2] == artifacts.MANIFEST]
    for names in ([name for name in new if name not in manifests], manifests):
        places.copy([(folder / name, name) for name in names], uri)


def _check_replaceable(uri: str, kind: str) -> None:
    """Make sure that a result can take its place in cloud storage, before it is made."""
    there, manifest = places.names(uri), _manifest(uri)
    if manifest is not None:
        result_folder.check_replaceable(manifest, uri, kind)
    elif artifacts.MANIFEST in there:
        raise result_folder.refusal(uri, artifacts.MANIFEST)
    name = result_folder.in_the_way(there, kind, _own_files(uri))
    if name is not None:
        raise result_folder.refusal(uri, name)


def _own_files(uri: str) -> dict[str, Any]:
    """Return what manifests say of the files in a folder: of its result, and of one whose delivery was cut short."""
    manifests = [manifest for manifest in (_manifest(uri), _manifest(uri, NOTE)) if manifest is not None]
    return {name: entry for manifest in manifests for name, entry in manifest["files"].items()}


def _manifest(uri: str, name: str = artifacts.MANIFEST) -> dict[str, Any] | None:
    """Return a manifest in a folder, None where there is none or one that attngan did not write."""
    content, _ = places.read(uris.join(uri, name))
    with contextlib.suppress(InputError):
        return json_text.parse(content, uri, artifacts.Manifest)
    return None
