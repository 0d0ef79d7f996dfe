"""Following a run to its end, step by step, and on through retries where a node was lost.

kfp's own `wait_for_run_completion` never ends for a cancelled run, and ends at the first lost connection.
"""

import datetime
import time
from typing import TYPE_CHECKING, Any

from attngan.errors import InputError
from components.cluster import client as api
from components.cluster import outcome, runs
from components.cluster.options import Connection
from components.cluster.outcome import Outcome, Step

if TYPE_CHECKING:
    from kfp import Client

POLL_SECONDS = (1.0, 10.0)  # at first, and at most
SETTLE_SECONDS = 20.0  # for the states of the steps to follow the run's own
LOST_SECONDS = 3600.0  # how long the API may stay silent
REFUSED_SECONDS = 120.0  # how long it may answer a retry with an error of its own, such as pods that still end


def follow(
    connection: Connection, client: "Client", run: runs.Run, *, timeout: float | None = None, retries: int = 0
) -> Outcome:
    """Show the steps of a run until it ends; have it retried where a node was lost.

    Args:
        connection: to connect again when a token has expired.
        client: from `submit` or `find`.
        run: what to follow.
        timeout: seconds to wait, None for as long as it takes.
        retries: how often to ask for a retry at most.

    Raises:
        InputError: the run had not ended in time, is gone, or cannot be asked for any more; it goes on.
        KeyboardInterrupt: with what to tell the person: the run goes on.
    """
    watch = _Watch(connection, client, run, timeout)
    try:
        ended = watch.attempt()
        for number in range(1, retries + 1):
            if not ended.is_lost or not watch.retry(ended, f"{number} of {retries}"):
                break
            ended = watch.attempt()
    except KeyboardInterrupt as interrupt:
        what = f"the run ended as {watch.state}" if watch.state in outcome.ENDED else "the run goes on"
        interrupt.args = (f"no longer following; {what}: {run.link}",)
        raise
    return ended


class _Watch:
    """Asks for a run again and again, through lost connections and expired tokens."""

    def __init__(self, connection: Connection, client: "Client", run: runs.Run, timeout: float | None):
        self.connection = connection
        self.client = client
        self.run = run
        self.timeout = timeout
        self.start = time.monotonic()
        self.state = ""
        self.is_cancelled = False
        self.screen = _Screen(run.steps)

    def attempt(self) -> Outcome:
        """Follow the run to its end and find out why it failed."""
        self.screen = _Screen(self.run.steps)
        self.is_cancelled = False
        with self.screen:
            found = self._settled(self._ended())
            steps = self._steps(found)
            was_terminated = self.is_cancelled or outcome.was_terminated(found)
            is_failed = found.state == "FAILED" and not was_terminated
            reasons = self.run.logs.reasons(outcome.suspects(steps) if is_failed else [])
            ended = Outcome(found.state, outcome.final(steps, reasons), was_terminated, reasons)
            self.screen.end(ended.steps)
        return ended

    def retry(self, ended: Outcome, count: str) -> bool:
        """Ask for a retry of the run, and return whether there is one."""
        self.screen.say(f"no step names a mistake that would be made again; the run is retried ({count})")
        self.run.logs.remember(ended.reasons)
        start = time.monotonic()
        while True:
            try:
                runs.retry(self.client, self.run, self.connection)
                return True
            except InputError as refused:
                if self._runs_again():  # only the answer was lost
                    return True
                if not isinstance(refused, api.Unreachable) or time.monotonic() - start > REFUSED_SECONDS:
                    self.screen.say(f"not retried: {refused}")
                    return False
            time.sleep(POLL_SECONDS[1])

    def _ended(self) -> Any:
        """Return the run once it has ended."""
        answered = time.monotonic()
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
                self.state = found.state
                self.is_cancelled |= found.state == "CANCELING"
                self.screen.show(self._steps(found))
                if found.state in outcome.ENDED:
                    return found
            left = float("inf") if self.timeout is None else self.start + self.timeout - time.monotonic()
            if left <= 0:
                raise InputError(f"the run had not ended after {self.timeout:g} seconds; it goes on: {self.run.link}")
            time.sleep(min(pause, left))
            pause = min(limit, pause * 1.5)

    def _settled(self, found: Any) -> Any:
        """Ask again until the states of the steps fit the run's, which is stored before them; for seconds at most."""
        end = time.monotonic() + SETTLE_SECONDS
        while not outcome.is_settled(found.state, self._steps(found)) and time.monotonic() < end:
            time.sleep(POLL_SECONDS[0])
            try:
                again = self._ask()
            except InputError:  # that it has ended is known
                break
            if again.state in outcome.ENDED:
                found = again
        return found

    def _runs_again(self) -> bool:
        try:
            return self._ask().state not in outcome.ENDED
        except InputError:
            return False

    def _steps(self, found: Any) -> list[Step]:
        return outcome.steps_of(found, self.run.steps)

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

    def __init__(self, names: list[str], console: Any = None):
        from rich.console import Console
        from rich.live import Live

        self.console = console = console or Console()
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

    def end(self, steps: list[Step]) -> None:
        """Take the steps as they are in the end."""
        from rich.text import Text

        self.steps = steps
        if self.live:
            self.live.update(Text("\n".join(step.line(self.width) for step in steps)), refresh=True)

    def say(self, sentence: str) -> None:
        """Say something once, until the API answers again."""
        if sentence != self.said:
            self._print(sentence)
        self.said = sentence

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
