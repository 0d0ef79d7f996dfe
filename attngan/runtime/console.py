"""What a running step tells people: lines and progress bars."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.constrain import Constrain
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

LINE_EVERY_SECONDS = 15.0  # of progress, where the output is a file or a cluster's log
TOLD_AT_THE_END = "ATTNGAN_TOLD_AT_THE_END"  # environment of a step: what comes of it is said when all are done
NARROW = 70  # columns of a terminal: with fewer, a bar goes without its rate


def say(message: str) -> None:
    """Print one line to the console, above a progress bar if there is one."""
    if _IS_SILENT or (_SAID is not None and message in _SAID):
        return
    if _SAID is not None:
        _SAID.add(message)
    _console().print(message, markup=False, highlight=False, soft_wrap=True)


def say_result(message: str) -> None:
    """Print one line of what came of a step; where all steps are taken together, their end says it."""
    if _SAID is None and TOLD_AT_THE_END not in os.environ:
        say(message)


def say_from_signal(message: str) -> None:
    """Print one line from a signal's handler: past Rich, whose locks may be held; a bar is drawn anew below it."""
    erase = "\r\x1b[2K" if os.isatty(1) and _console().is_interactive else "\n"
    os.write(1, f"{erase}{message}\n".encode())


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Say nothing, and show no progress, in the block."""
    global _IS_SILENT
    before, _IS_SILENT = _IS_SILENT, True
    try:
        yield
    finally:
        _IS_SILENT = before


@contextlib.contextmanager
def once() -> Iterator[None]:
    """Say each line once in the block, whatever steps have it to say, and no results: those are said after it."""
    global _SAID
    before, _SAID = _SAID, set()
    try:
        yield
    finally:
        _SAID = before


@contextlib.contextmanager
def stage(title: str) -> Iterator[None]:
    """Name a part of a longer piece of work; on a terminal the bars in it leave no line, where it is done."""
    global _IN_STAGE
    say(f"== {title} ==")
    before, _IN_STAGE = _IN_STAGE, True
    try:
        yield
    finally:
        _IN_STAGE = before


def duration(seconds: float) -> str:
    """Return a length of time in words, rounded up to minutes: "a minute", "36 minutes", "2 h 10 min"."""
    hours, minutes = divmod(max(1, math.ceil(seconds / 60)), 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return "a minute" if minutes == 1 else f"{minutes} minutes"


@contextlib.contextmanager
def progress(name: str, *, total: int, unit: str, start: int = 0) -> Iterator[Callable[..., None]]:
    """Show how far a long piece of work is, its rate and the time left.

    On a terminal it is a bar; elsewhere a line every 15 seconds.

    Args:
        name: what is being done.
        total: how many units there are.
        unit: plural noun of what is counted ("images").
        start: units that an earlier run did.

    Yields:
        advance(count, note=""): says that `count` more units are done; the note stands behind the bar.
    """
    if _IS_SILENT:
        yield lambda count, note=None: None
    elif _console().is_terminal:
        whole = Column(no_wrap=True)  # where there is little room, the bar alone is shorter
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(table_column=whole),
            *(() if _console().width < NARROW else (_Rate(unit, table_column=whole),)),
            TimeRemainingColumn(table_column=whole),
            TextColumn("{task.fields[note]}"),
        )
        with _Bar(*columns, console=_console(), transient=_IN_STAGE) as bar:
            task = bar.add_task(name, total=total, completed=start, note="")

            def advance(count: int, note: str | None = None) -> None:
                bar.update(task, advance=count, **({} if note is None else {"note": note}))

            yield advance
    else:
        lines = _Lines(name, total, unit, start)
        yield lines.advance
        lines.close()


class _Bar(Progress):
    """Progress in one row, with room behind it for a terminal's "^C", which would else begin another row."""

    def get_renderable(self) -> Constrain:
        return Constrain(super().get_renderable(), _console().width - len("^C"))


class _Lines:
    """Progress where no terminal is: a line now and then, each whole by itself."""

    def __init__(self, name: str, total: int, unit: str, start: int):
        self.name, self.total, self.unit, self.done, self.note = name, total, unit, start, ""
        self.first_done = start
        self.first_time = self.last_line = time.monotonic()

    def advance(self, count: int, note: str | None = None) -> None:
        self.done += count
        self.note = self.note if note is None else note
        if time.monotonic() - self.last_line >= LINE_EVERY_SECONDS:
            self._print()

    def close(self) -> None:
        if self.done > self.first_done:
            self._print()

    def _print(self) -> None:
        self.last_line = time.monotonic()
        rate = (self.done - self.first_done) / max(self.last_line - self.first_time, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        share = f"{self.done:,}/{self.total:,} {self.unit} ({100 * self.done / max(self.total, 1):.0f} %)"
        what = f"{duration(left)} left" if self.done < self.total else "done"
        note = f"; {self.note}" if self.note else ""
        say(f"{self.name}: {share}, {rate:,.0f} {self.unit}/s, {what}{note}")


class _Rate(ProgressColumn):
    """Units a second."""

    def __init__(self, unit: str, *, table_column: Column):
        super().__init__(table_column)
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(
            f"{task.speed:,.0f} {self.unit}/s" if task.speed else f"- {self.unit}/s", style="progress.data.speed"
        )


def _console() -> Console:
    global _CONSOLE
    file = getattr(sys.stdout, "rich_proxied_file", sys.stdout)  # a bar stands in for it, and knows the console
    if _CONSOLE is None or _CONSOLE.file is not file:
        _CONSOLE = Console(file=file)
    return _CONSOLE


_CONSOLE: Console | None = None
_IS_SILENT = _IN_STAGE = False
_SAID: set[str] | None = None  # the lines of `once`
