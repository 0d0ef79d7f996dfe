"""Inputs and results of several processes that train one model: fetched once a node, written by the first process."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist

from attngan.runtime import distributed
from attngan.storage import places
from attngan.storage.result_folder import result


@contextlib.contextmanager
def node_input(uri: str | None) -> Iterator[Path | None]:
    """Give an input as `places.local_input` does, once for all processes of a node; it is gone when all have left."""
    if distributed.world_size() == 1 or uri is None or not places.is_remote(uri):
        with places.local_input(uri) as path:
            yield path
        return
    node = os.environ.get("GROUP_RANK", "0")
    with contextlib.ExitStack() as stack:
        fetches = os.environ["LOCAL_RANK"] == "0"
        path = str(stack.enter_context(places.local_input(uri))) if fetches else None
        told: list[Any] = [None] * distributed.world_size()
        dist.all_gather_object(told, (node, path))
        yield next(Path(path) for where, path in told if path and where == node)
        dist.all_gather_object(told, None)  # nobody reads any more


@contextlib.contextmanager
def first_output(uri: str, *, kind: str, inputs: Iterable[str | None]) -> Iterator[Path]:
    """Give a folder for a result as `places.output` does; the first process alone writes and delivers it."""
    if distributed.is_first():
        with places.output(uri, kind=kind, inputs=inputs) as folder:
            yield folder
    else:
        yield Path(uri)


def first_result(folder: Path, kind: str, *, inputs: Iterable[Path | None]) -> contextlib.AbstractContextManager[Path]:
    """Give a place to make a training's result in, as `result_folder.result` does; the first process alone writes."""
    if distributed.is_first():
        return result(folder, kind, inputs=inputs, is_watched=True)
    return contextlib.nullcontext(folder)
