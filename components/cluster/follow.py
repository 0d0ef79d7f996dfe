"""Following a run to its end, step by step.

kfp's own `wait_for_run_completion` never ends for a cancelled run, and ends at the first lost connection.
"""

import dataclasses
import datetime
import time
from typing import TYPE_CHECKING, Any

from attngan.errors import InputError
from components.cluster import client as api
from components.cluster.options import Connection
from components.cluster.runs import Run

if TYPE_CHECKING:
    from kfp import Client

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
POLL_SECONDS = (1.0, 10.0)  # at first, and at most
LOST_SECONDS = 3600.0  # how long the API may stay silent


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of a run as the API tells it."""

    name: str
    state: str = "WAITING"
    seconds: float | None = None
    message: str = ""

    def line(self, width: int) -> str:
        """Return the step as a row of a table."""
        took = "" if self.seconds is None else _duration(round(self.seconds))
        return f"{self.name:{width}}  {self.state:9}  {took:>8}  {self.message}".rstrip()


def follow(connection: Connection, client: "Client", run: Run, *, timeout: float | None = None) -> str:
    """Show the steps of a run until it ends; return its last state.

    Args:
        connection: to connect again when a token has expired.
        client: from `submit`.
        run: what to follow.
        timeout: seconds to wait, None for as long as it takes.

    Raises:
        InputError: the run had not ended in time, is gone, or cannot be asked for any more; it goes on.
        KeyboardInterrupt: with what to tell the person: the run goes on.
    """
    from rich.console import Console

    watch = _Watch(connection, client, run, _Screen(run.steps, Console()))
    try:
        with watch.screen:
            return watch.until_ended(timeout)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"no longer following; the run goes on: {run.link}",)
        raise


class _Watch:
    """Asks for a run again and again, through lost connections and expired tokens."""

    def __init__(self, connection: Connection, client: "Client", run: Run, screen: "_Screen"):
        self.connection = connection
        self.client = client
        self.run = run
        self.screen = screen

    def until_ended(self, timeout: float | None) -> str:
        start = answered = time.monotonic()
        pause, limit = POLL_SECONDS
        while True:
            try:
                found = self._ask()
            except api.Unreachable as lost:
                if time.monotonic() - answered > LOST_SECONDS:
                    raise InputError(f"{lost} The run goes on: {self.run.link}") from lost
                self.screen.say(f"{lost} Asking again; the run goes on.")
            else:
                answered = time.monotonic()
                self.screen.show(steps_of(found, self.run.steps))
                if found.state in ENDED:
                    return found.state
            left = float("inf") if timeout is None else start + timeout - time.monotonic()
            if left <= 0:
                raise InputError(f"the run had not ended after {timeout:g} seconds; it goes on: {self.run.link}")
            time.sleep(min(pause, left))
            pause = min(limit, pause * 1.5)

    def _ask(self) -> Any:
        """Return the run; with credentials read anew if the API no longer accepts these."""
        from kfp_server_api import ApiException

        try:
            found = self._get()
        except ApiException as error:
            if error.status not in (401, 403):
                with api.explained(self.connection):
                    raise
            found = None
        if found is None or found.run_id != self.run.run_id:  # a login page reads as a run without a name
            found = self._get_anew()
        return found

    def _get(self) -> Any:
        from urllib3.exceptions import HTTPError

        try:
            return self.client.get_run(self.run.run_id)
        except HTTPError:
            with api.explained(self.connection):
                raise

    def _get_anew(self) -> Any:
        self.screen.say("the API no longer accepts this client; reading the credentials again.")
        try:
            self.client = api.connect(self.connection)
            with api.explained(self.connection):
                found = self.client.get_run(self.run.run_id)
        except api.Unreachable:
            raise
        except InputError as error:
            raise InputError(f"{error} The run goes on: {self.run.link}") from error
        if found.run_id != self.run.run_id:
            raise InputError(
                f"{self.connection.host}: no word of the run {self.run.run_id}; it goes on: {self.run.link}"
            )
        return found


class _Screen:
    """The steps of a run: a table in place on a terminal, elsewhere a line for each change."""

    def __init__(self, names: list[str], console: Any):
        from rich.live import Live

        self.console = console
        self.width = max(map(len, names), default=0)
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self.steps = [Step(name) for name in names]
        self.said = ""

    def __enter__(self) -> "_Screen":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()
            return
        for step in self.steps:
            self._print(step.line(self.width))

    def show(self, steps: list[Step]) -> None:
        from rich.text import Text

        if self.live:
            self.live.update(Text("\n".join(step.line(self.width) for step in steps)), refresh=True)
        else:
            before = {step.name: step.state for step in self.steps}
            for step in steps:
                if before.get(step.name) != step.state:
                    self._print(f"{datetime.datetime.now():%H:%M:%S}  {step.line(self.width)}")
        self.steps = steps
        self.said = ""

    def say(self, sentence: str) -> None:
        """Say something once, until the API answers again."""
        if sentence != self.said:
            self._print(sentence)
        self.said = sentence

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def steps_of(run: Any, names: list[str]) -> list[Step]:
    """Return the steps with these names as a run has them now."""
    tasks = (run.run_details and run.run_details.task_details) or []
    named = {task.display_name: task for task in tasks}
    by_id = {key: task for task in tasks for key in (task.task_id, task.pod_name) if key}
    steps = []
    for name in names:
        task, driver = named.get(name), named.get(f"{name}-driver")
        if task is None and (driver is None or driver.state != "FAILED"):
            steps.append(Step(name))
            continue
        chosen = task or driver
        children = [by_id.get(child.task_id or child.pod_name) for child in chosen.child_tasks or []]
        message = next(filter(None, (_message(one) for one in (chosen, *children, driver) if one)), "")
        steps.append(Step(name, chosen.state or "PENDING", _seconds(chosen), message))
    return steps


def _message(task: Any) -> str:
    """Return why a task failed: its own word, or the last in its history."""
    errors = [task.error, *(entry.error for entry in reversed(task.state_history or []))]
    texts = [error.message for error in errors if error and error.message]
    return " ".join(texts[0].split())[:300] if texts else ""


def _seconds(task: Any) -> float | None:
    start, end = _moment(task.start_time), _moment(task.end_time)
    if start is None:
        return None
    return max(0.0, ((end or datetime.datetime.now(datetime.UTC)) - start).total_seconds())


def _duration(seconds: int) -> str:
    """Return hours, minutes and seconds; a training takes days, and hours tell them apart better in a column."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _moment(moment: datetime.datetime | None) -> datetime.datetime | None:
    """Return a moment, None for the API's way of saying that it has not come: a date before 1971."""
    return moment if moment and moment.year > 1970 else None
