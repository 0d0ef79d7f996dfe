"""Rows of numbers, one for each picture, written down while they are made: memory stays flat, a killed run goes on."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from attngan.metrics.distribution import Rows
from attngan.runtime import scratch
from attngan.runtime.console import progress
from attngan.storage import artifacts, places, uris

Made = dict[str, Tensor]  # name -> (B, D), float32 or bool
PART = 500  # rows kept at a time


class RowStore:
    """Makes tables part by part; parts that an earlier run kept are read, not made.

    Args:
        uri: folder for the parts, local or in cloud storage.
        scratch: local folder for parts on their way to cloud storage.
    """

    def __init__(self, uri: str, scratch: Path):
        self.uri, self.scratch = uri, scratch
        self._kept = set(places.names(uri))

    def table(self, name: str, count: int, batch_size: int, make: Callable[[range], Made]) -> dict[str, Rows]:
        """Return a table of `count` rows.

        Args:
            name: of the table.
            count: rows.
            batch_size: pictures looked at together.
            make: gives the rows of some numbers; the same numbers give the same rows.
        """
        columns: Made = {}
        with progress(name, total=count, unit="images") as advance:
            for start in range(0, count, PART):
                numbers = range(start, min(start + PART, count))
                part = f"{name}-{start:07d}.safetensors"
                made = self._read(part)
                if made is None:
                    made = _in_batches(numbers, batch_size, make, advance)
                    self._keep(part, made)
                else:
                    advance(len(numbers))
                for column, rows in made.items():
                    if column not in columns:
                        columns[column] = scratch.mapped_zeros(
                            (count, *rows.shape[1:]), rows.dtype, f"{name}: {column}"
                        )
                    columns[column][numbers.start : numbers.stop] = rows
        return {column: Rows(rows) for column, rows in columns.items()}

    def clear(self) -> None:
        """Remove the parts, once nobody needs to go on from them."""
        for part in self._kept:
            places.remove(uris.join(self.uri, part))
        if not uris.is_remote(self.uri):
            with contextlib.suppress(OSError):  # not empty: others keep something there
                Path(self.uri).rmdir()
                Path(self.uri).parent.rmdir()

    def _keep(self, part: str, made: Made) -> None:
        folder = self.scratch if uris.is_remote(self.uri) else Path(self.uri)
        folder.mkdir(parents=True, exist_ok=True)
        with artifacts.atomic_file(folder / part) as handle:
            handle.write(safetensors.torch.save(made))
        if uris.is_remote(self.uri):
            places.send(folder / part, uris.join(self.uri, part))
        self._kept.add(part)

    def _read(self, part: str) -> Made | None:
        if part not in self._kept:
            return None
        with places.local_input(uris.join(self.uri, part)) as path:
            try:
                return safetensors.torch.load_file(path)
            except safetensors.SafetensorError:
                return None  # damaged: made again


def _in_batches(numbers: range, batch_size: int, make: Callable[[range], Made], advance: Callable[[int], None]) -> Made:
    batches = []
    for start in range(0, len(numbers), batch_size):
        batch = numbers[start : start + batch_size]
        batches.append({column: rows.cpu() for column, rows in make(batch).items()})
        advance(len(batch))
    return {column: torch.cat([batch[column] for batch in batches]).contiguous() for column in batches[0]}


@contextlib.contextmanager
def open_store(root: str, key: Any) -> Iterator[RowStore]:
    """Open the store of one evaluation below `root`, and clear it when the block ends well.

    Args:
        root: folder for the state of many runs, local or in cloud storage.
        key: what shapes the rows, as JSON can hold it.
    """
    with scratch.folder("rows") as folder:
        store = RowStore(places.keyed(root, "evaluate", key), folder)
        yield store
        store.clear()
