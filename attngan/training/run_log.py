"""The metrics of a training by step: `metrics.jsonl`, TensorBoard events, and the trackers that there are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
from PIL import Image

from attngan.pages import pictures
from attngan.training.trackers import Trackers

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Figures by step, in `metrics.jsonl` (one object a line), as TensorBoard events, and in trackers.

    Args:
        folder: gets `metrics.jsonl` and `tensorboard/`, both written anew; None keeps the figures in `rows` only, as
            processes beside the first do.
        rows: the figures of an earlier run that this one goes on from.
        trackers: get the figures, pictures and pages too.
    """

    def __init__(self, folder: Path | None, rows: list[dict[str, float]], trackers: Trackers | None = None):
        self.rows: list[dict[str, float]] = []
        self.path = folder / "metrics.jsonl" if folder else None
        self.trackers = trackers or Trackers("", [])
        self._events: SummaryWriter | None = None
        self.restart(rows)

    def restart(self, rows: list[dict[str, float]]) -> None:
        """Write everything anew, with these figures as the ones so far."""
        self.rows = []
        if self.path is None:
            self.rows += rows
            return
        from torch.utils.tensorboard import SummaryWriter

        if self._events is not None:
            self._events.close()
        self.path.write_text("", encoding="utf-8")
        for old in (self.path.parent / "tensorboard").glob("events.*"):
            old.unlink()
        self._events = SummaryWriter(str(self.path.parent / "tensorboard"))
        for row in rows:
            self._write(**row)
        self.trackers.restart(rows)

    def write(self, step: int, **figures: float) -> None:
        """Keep the figures of one step."""
        self.trackers.row(self._write(step, **figures))

    def _write(self, step: int, **figures: float) -> dict[str, float]:
        row = {"step": step, **{name: round(value, 6) for name, value in figures.items()}}
        self.rows.append(row)
        if self.path is None or self._events is None:
            return row
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
        for name, value in figures.items():
            self._events.add_scalar(name, value, step)
        return row

    def picture(self, step: int, name: str, picture: Image.Image) -> None:
        """Keep a picture of one step, for TensorBoard and trackers."""
        if self._events is not None:
            self._events.add_image(name, numpy.asarray(picture), step, dataformats="HWC")
        if self.trackers.senders:
            self.trackers.file(f"{name}/step-{step:07d}.png", pictures.to_png(picture, is_quick=True))

    def page(self, path: Path) -> None:
        """Give a page as it is now to trackers."""
        if self.trackers.senders:
            self.trackers.file(path.name, path.read_bytes())

    def close(self) -> list[str]:
        """Finish the event file, and return the names of all files written."""
        if self.path is None or self._events is None:
            return []
        self._events.close()
        events = (self.path.parent / "tensorboard").glob("events.*")
        return [self.path.name, *(f"tensorboard/{path.name}" for path in events)]
