"""Schedules as people look at them: when each fires, what became of its last runs, and how old the champion is."""

import dataclasses
import datetime
import itertools
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attngan.errors import first_line, shown
from attngan.runtime.time_limit import within
from attngan.storage import run_ending, uris
from attngan.storage.champion import ModelFolder
from components.cluster import crontab, outcome, schedules
from components.cluster.schedules import Schedule

if TYPE_CHECKING:
    from rich.console import Console

SECONDS = 60.0  # for all that storage is asked
WIDE = 140  # columns of a terminal: with fewer a schedule is a paragraph
WIDEST = 36  # columns for the champion
TIMES = 3  # that a schedule fires next
LATE = "storage did not answer in time"
LONGEST = 160  # characters of what is said of a run


@dataclasses.dataclass
class Run:
    """A run of a schedule: when, its state, and what became of it."""

    time: str
    state: str
    text: str = ""

    def line(self) -> str:
        """Return the run as a line."""
        return f"{self.time}  {self.state:9}  {self.text}".rstrip()


@dataclasses.dataclass
class Row:
    """What is shown of a schedule."""

    name: str
    when: str
    state: str
    next: list[str]
    runs: list[Run]
    champion: str
    version: str


def rows_of(found: list[Schedule], pipeline: str, zone: datetime.tzinfo, time_zone: str) -> list[Row]:
    """Return what is to be shown of schedules; what storage does not tell in time is said to be so.

    Args:
        found: the schedules.
        pipeline: name of the pipeline, and so of the folder of its runs.
        zone: the scheduler's time zone.
        time_zone: its name.
    """
    now = datetime.datetime.now(zone)
    rows = [_row(each, now, time_zone) for each in found]

    def ask() -> None:
        champions: dict[str, str] = {}
        for row, each in zip(rows, found, strict=True):
            model_uri, root = _places(each)
            if model_uri:
                champions[model_uri] = champions.get(model_uri) or _champion(model_uri)
                row.champion = champions[model_uri]
            for run, told in zip(row.runs, each.runs, strict=True):
                if root and told.state in outcome.ENDED:
                    run.text = _became(told, uris.join(root, pipeline, told.run_id))

    within(SECONDS, ask)
    return rows


def show(rows: list[Row], time_zone: str, console: "Console | None" = None) -> None:
    """Print schedules: as a table on a wide terminal, elsewhere as a paragraph each."""
    from rich.console import Console

    console = console or Console()
    if console.is_terminal and console.width >= WIDE:
        console.print(_table(rows, time_zone))
        return
    width = console.width if console.is_terminal else None
    text = "\n\n".join("\n".join(_paragraph(row, time_zone, width)) for row in rows)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _table(rows: list[Row], time_zone: str) -> Any:
    """Return a table in which a schedule has several lines, one for each run that is told of, or time that comes."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for name in ("SCHEDULE", f"NEXT ({time_zone})", "LAST RUNS", "STATE", "WHAT BECAME OF THEM"):
        table.add_column(name, overflow="fold", no_wrap=name == "STATE")
    table.add_column("CHAMPION", overflow="fold", max_width=WIDEST)
    for row in rows:
        runs = [(run.time, run.state, run.text) for run in row.runs] or [("none yet", "", "")]
        lines = itertools.zip_longest([row.name, row.when, row.state], row.next or ["-"], runs, [row.champion])
        for about, time, run, champion in lines:
            table.add_row(*(Text(cell or "") for cell in (about, time, *(run or ("", "", "")), champion)))
        table.add_section()
    return table


def _paragraph(row: Row, time_zone: str, width: int | None) -> Iterator[str]:
    """Return a schedule as lines, broken where a terminal would break them."""
    yield f"{row.name}: {row.when}, {row.state}"
    parts = [
        ("next", f"{', '.join(row.next)} ({time_zone})" if row.next else "-"),
        *(("" if number else "runs", line) for number, line in enumerate(map(Run.line, row.runs))),
        ("champion", row.champion),
        ("version", row.version),
    ]
    for label, text in parts:
        line = f"  {label:10}{text}"
        indent = " " * 12
        yield from textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) if width else [line]


def _row(schedule: Schedule, now: datetime.datetime, time_zone: str) -> Row:
    """Return what the API tells."""
    one = schedule.recurring_run
    trigger = one.trigger
    cron = (trigger.cron_schedule.cron if trigger and trigger.cron_schedule else "") or ""
    seconds = trigger.periodic_schedule.interval_second if trigger and trigger.periodic_schedule else "?"
    enabled = schedules.is_enabled(one)
    model_uri, root = _places(schedule)
    changed = outcome.moment(one.updated_at) or outcome.moment(one.created_at)
    return Row(
        name=one.display_name,
        when=crontab.in_words(cron, time_zone) if cron else f"every {seconds} seconds",
        state="enabled" if enabled else "paused",
        next=[_time(each, now) for each in crontab.next_times(cron, now, count=TIMES)] if enabled and cron else [],
        runs=[_run(run, now, has_logs=bool(root)) for run in schedule.runs],
        champion=LATE if model_uri else "-",
        version=f"{schedule.version or '-'}" + (f", changed {_time(changed, now)}" if changed else ""),
    )


def _run(run: Any, now: datetime.datetime, *, has_logs: bool) -> Run:
    time = outcome.moment(run.scheduled_at) or outcome.moment(run.created_at)
    text = LATE if has_logs and run.state in outcome.ENDED else ""
    return Run(_time(time, now) if time else "-", run.state or "PENDING", text)


def _places(schedule: Schedule) -> tuple[str, str]:
    """Return the model folder and the pipeline root of a schedule of ours, "" for what the API does not tell."""
    given = schedule.recurring_run.runtime_config
    if not schedule.is_ours or not given:
        return "", ""
    model_uri = (given.parameters or {}).get("model_uri")
    return (model_uri if isinstance(model_uri, str) else ""), given.pipeline_root or ""


def _became(run: Any, folder: str) -> str:
    """Return what became of a run that has ended, the figure that decided included."""
    if outcome.was_terminated(run):
        return "terminated"
    ending = run_ending.ending_of(folder, has_succeeded=run.state == "SUCCEEDED")
    parts = [ending.title, "" if ending.verdict == "nothing new" else ending.detail]
    return shown(": ".join(filter(None, parts)), LONGEST)


def _champion(model_uri: str) -> str:
    try:
        champion = ModelFolder(model_uri).champion
        if champion is None:
            return "none yet"
        made = datetime.datetime.fromisoformat(champion["promoted"]) if "promoted" in champion else None
        age = f"{_age(datetime.datetime.now(datetime.UTC) - made)} old" if made else "of unknown age"
        return f"{age}, {champion['model']}"
    except Exception as error:  # whatever it is, the other schedules are shown
        return f"cannot be read: {shown(first_line(error), LONGEST)}"


def _age(age: datetime.timedelta) -> str:
    """Return a length of time in its largest unit."""
    minutes = max(0, int(age.total_seconds() // 60))
    for size, unit in ((24 * 60, "day"), (60, "hour"), (1, "minute")):
        if count := minutes // size:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "a moment"


def _time(moment: datetime.datetime, now: datetime.datetime) -> str:
    """Return a moment in the scheduler's time zone; to the minute, which is what a schedule has."""
    return f"{moment.astimezone(now.tzinfo):%a %Y-%m-%d %H:%M}"
