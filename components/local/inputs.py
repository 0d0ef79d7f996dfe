"""Where a step's inputs come from: local folders, cloud storage kept in a cache, or the outputs of a cluster run."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from attngan.errors import InputError
from attngan.storage import places, uris
from attngan.storage.artifacts import MANIFEST

PIPELINE = "attngan"  # its name on a cluster, and so a folder below the pipeline root


def named(texts: Iterable[str], known: Iterable[str], step: str) -> dict[str, str]:
    """Return the inputs that a person gave as NAME=PATH, by name."""
    names = ", ".join(known)
    given: dict[str, str] = {}
    for text in texts:
        name, equals, uri = text.partition("=")
        if not equals or not uri:
            raise InputError(f"--input {text}: expected NAME=PATH, with one of the names {names}.")
        if name not in known:
            raise InputError(f"--input {text}: {step} has no input {name}; its inputs are {names}.")
        if name in given:
            raise InputError(f"--input {text}: {name} is given twice; give it once.")
        given[name] = uri
    return given


def of_run(run_id: str, pipeline_root: str, wanted: Iterable[str]) -> dict[str, str]:
    """Return where the complete outputs of a cluster run are, by name, as far as they are wanted and there.

    A run leaves them at `<pipeline root>/<pipeline>/<run id>/<task>/<uuid>/<output>`; a task that ran several times has
    several uuids.
    """
    if bool(run_id) != bool(pipeline_root):
        raise InputError("--from-run RUN_ID and --pipeline-root need each other; give both.")
    if not run_id:
        return {}
    folder = uris.join(pipeline_root, PIPELINE, run_id)
    names = places.names(folder)
    if not names:  # and which runs are there, only the names of all their objects would tell
        raise InputError(
            f"--from-run {run_id}: nothing is at {folder}; give the ID that submit prints, which is in the "
            "address of the run's page too, and the run's own --pipeline-root."
        )
    task_of = producers()
    found: dict[str, str] = {}
    for output in wanted:
        complete = [
            f"{folder}/{name.removesuffix(f'/{MANIFEST}')}"
            for name in names
            if PurePosixPath(name).match(f"{task_of.get(output)}/*/{output}/{MANIFEST}")
        ]
        if complete:
            found[output] = max(complete, key=lambda place: places.modified(f"{place}/{MANIFEST}"))
    return found


def producers() -> dict[str, str]:
    """Return the task that writes each folder which steps pass on, by the folder's name."""
    import components

    return {
        output: name.replace("_", "-")
        for name in components.__all__
        for output in getattr(components, name).component_spec.outputs or {}
    }


def default_cache() -> Path:
    """Return the folder for what was downloaded, where the system keeps such things."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attngan"


def place(uri: str, cache: Path) -> Path:
    """Return where an input is, or where it will be once it was downloaded; other contents have another place."""
    if not uris.is_remote(uri):
        path = Path(uri).expanduser().resolve()
        if not path.exists():
            raise InputError(f"{uri}: no such file or folder; check the path, or run the step that writes it.")
        return path
    scheme, bucket, name = uris.split(uri)
    parts = [scheme, bucket, *name.split("/")]
    if "" in parts:
        raise InputError(f"{uri}: expected {scheme}://BUCKET/NAME without empty parts; rename it.")
    return cache.joinpath(*parts, places.fingerprint(uri)[:16], parts[-1])


def local(uri: str, cache: Path | None = None) -> Path:
    """Return an input as a local path, downloading it unless the cache has it; what is there is complete."""
    cache = cache or default_cache()
    target = place(uri, cache)
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as scratch:
        print(f"downloading {uri}", flush=True)
        draft = Path(scratch) / "whole"
        draft.mkdir()
        places.fetch(uri, draft)
        if place(uri, cache) != target:
            raise InputError(f"{uri}: it was changed while it was downloaded; run the command again.")
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(target.parent)
        except OSError:
            if not target.exists():  # otherwise another command was faster
                raise
    return target
