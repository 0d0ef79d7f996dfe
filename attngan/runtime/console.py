"""What a running step tells people: lines and progress bars."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_EVERY_SECONDS = 15.0  # of progress, where the output is a file or a cluster's log


def say(message: str) -> None:
    """Print one line to the console, above a progress bar if there is one."""
    _console().print(message, markup=False, highlight=False, soft_wrap=True)


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
    if _console().is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(),
        )
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=_console()) as bar:
            task = bar.add_task(name, total=total, completed=start, note="")

            def advance(count: int, note: str | None = None) -> None:
                bar.update(task, advance=count, **({} if note is None else {"note": note}))

            yield advance
    else:
        lines = _Lines(name, total, unit, start)
        yield lines.advance
        lines.close()


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
        say(f"{self.name}: {share}, {rate:,.0f} {self.unit}/s, {left:,.0f} s left {self.note}".rstrip())


class _Rate(ProgressColumn):
    """Units a second."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(
            f"{task.speed:,.0f} {self.unit}/s" if task.speed else f"- {self.unit}/s", style="progress.data.speed"
        )


def _console() -> Console:
    global _CONSOLE
    if _CONSOLE is None or _CONSOLE.file is not sys.stdout:
        _CONSOLE = Console(file=sys.stdout)
    return _CONSOLE


_CONSOLE: Console | None = None
