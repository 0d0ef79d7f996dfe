"""Experiment trackers (MLflow, Weights & Biases): they get what a step logs, beside it, and never stop it.

A thread for each tracker sends what is new. One that does not answer is tried again later. Which rows its run has is
asked before any are sent: after an outage or a resume none is missing and none is there twice.
"""

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attngan.config.settings import Config
from attngan.errors import shown
from attngan.runtime.console import say
from attngan.storage import artifacts, uris
from attngan.training.tracker_service import File, Row, Service

PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 120.0  # between tries of a tracker that does not answer
END_SECONDS, STOP_SECONDS = 20.0, 5.0  # that a step waits for a tracker at its end, and when it was told to stop
BYTES_A_SECOND = 2e6  # of large files, for which it waits longer
MAX_BYTES = 64e6  # of pictures and pages that wait to be sent
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "WANDB_API_KEY")
SIGNS = {
    "Connection refused": "connection refused",
    "closed connection": "it broke the connection off",
    "Connection aborted": "it broke the connection off",
    "resolve": "no such host name",
    "timed out": "no answer in time",
    "error code 401": "it refuses the credentials",
    "error code 403": "it refuses the credentials",
}


class Sender(threading.Thread):
    """Sends to one tracker whatever is new."""

    def __init__(self, service: Service):
        super().__init__(name=service.title, daemon=True)
        self.service = service
        self.rows: list[Row] = []  # that wait
        self.num_rows = 0  # of the whole run
        self.files: dict[str, File] = {}
        self.facts: dict[str, str] = {}
        self.num_dropped = 0
        self.reason = ""  # of the last failure, unless something was sent since
        self._has_failed_before = False
        self._changed = threading.Condition()
        self._must_connect, self._is_over, self._has_failed = True, False, False

    def add(self, *, rows: list[Row] = (), files: Mapping[str, File] = {}, facts: Mapping[str, str] = {}) -> None:
        """Take over what is to be sent; of a file that waits the newest is."""
        with self._changed:
            self.rows += rows
            self.num_rows += len(rows)
            self.facts |= facts
            for name, content in files.items():
                self.files.pop(name, None)
                self.files[name] = content
            contents = {name: content for name, content in self.files.items() if isinstance(content, bytes)}
            while sum(map(len, contents.values())) > MAX_BYTES and len(contents) > 1:
                oldest = next(iter(contents))
                del self.files[oldest], contents[oldest]
                self.num_dropped += 1
            self._changed.notify()

    def restart(self, rows: list[Row]) -> None:
        """Have the run hold these rows: which of them it has is asked anew."""
        with self._changed:
            self.rows, self.num_rows, self._must_connect = list(rows), len(rows), True
            self._changed.notify()

    def finish(self, *, failed: bool, seconds: float) -> None:
        """Wait until all is sent, no longer than that and what large files take; say what is lost."""
        with self._changed:
            self._is_over, self._has_failed = True, failed
            seconds += sum(map(_size, self.files.values())) / BYTES_A_SECOND
            self._changed.notify()
        self.join(seconds)
        if self.is_alive() or self.reason:
            rows, files = len(self.rows), len(self.files) + self.num_dropped
            lost = [f"{rows:,} of {self.num_rows:,} rows of figures"] * bool(rows) + [f"{files} files"] * bool(files)
            what = " and ".join(lost) or "that the step is over"
            why = self.reason or "no answer in time"
            say(f"{self.where}: not sent: {what} ({why}); the step's own folder has everything.")

    @property
    def where(self) -> str:
        """The tracker, as messages call it."""
        return f"{self.service.title} ({shown(_without_secrets(self.service.place))})"

    def run(self) -> None:
        """Send what is new, until the step is over and all is sent, or it is over and the tracker does not answer."""
        pause = 0.0
        while True:
            with self._changed:
                if pause:
                    self._changed.wait_for(lambda: self._is_over, pause)
                else:
                    self._changed.wait_for(lambda: self._is_over or self._has_news())
                is_over = self._is_over
            try:
                self._send()
                if is_over:
                    self.service.end(failed=self._has_failed)
                self.reason, pause = "", 0.0
            except Exception as error:  # whatever a client raises: a tracker stops no training
                self._must_connect = True
                if not self._has_failed_before and not is_over:
                    say(f"{self.where}: {_reason(error)}; the step goes on, and what is missing is sent later.")
                self._has_failed_before = True
                self.reason, pause = _reason(error), min(pause * 2 or PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
            if is_over:
                return

    def _has_news(self) -> bool:
        return bool(self.rows or self.files or self.facts or self._must_connect)

    def _send(self) -> None:
        """Send what waits; what is sent waits no longer."""
        while self._has_news():
            if self._must_connect:
                self._must_connect = False
                self.service.connect()
            with self._changed:
                rows, facts, file = list(self.rows), dict(self.facts), next(iter(self.files.items()), None)
            if facts:
                self.service.send_facts(facts)
            if missing := self.service.missing(rows):
                self.service.send_rows(missing)
            if file:
                self.service.send_file(*file)
            with self._changed:
                self.facts = {name: fact for name, fact in self.facts.items() if facts.get(name) != fact}
                if not self._must_connect:  # else the rows are others
                    del self.rows[: len(rows)]
                if file and self.files.get(file[0]) is file[1]:
                    del self.files[file[0]]


class Trackers:
    """What a step tells trackers; without any, nothing."""

    def __init__(self, kind: str, senders: list[Sender]):
        self.kind, self.senders = kind, senders

    def row(self, row: Row) -> None:
        """Send figures of a step."""
        for sender in self.senders:
            sender.add(rows=[row])

    def restart(self, rows: list[Row]) -> None:
        """Have a run hold these rows, whatever was sent before; what a tracker cannot forget stays beside them."""
        for sender in self.senders:
            sender.restart(rows)

    def file(self, name: str, content: File) -> None:
        """Send a file's content, or a folder that stays there until the step is over."""
        for sender in self.senders:
            sender.add(files={f"{self.kind}/{name}": content})

    def facts(self, **facts: str) -> None:
        """Send the fingerprints of what the step is made from, or has made."""
        for sender in self.senders:
            sender.add(facts=facts)


@contextlib.contextmanager
def opened(kind: str, config: Config, key: Any, *, is_first: bool = True) -> Iterator[Trackers]:
    """Give the trackers that the environment names, and let them finish when the block ends.

    Args:
        kind: of the result that the step makes, such as "generator".
        config: settings of the step.
        key: what its run is known by, as JSON can hold it: a step that goes on has the same.
        is_first: this is the first of the processes that share the step; the others track nothing.
    """
    digest = artifacts.fingerprint([kind, key])[:32]
    services = [found for each in (_mlflow, _wandb) if is_first and (found := each(kind, digest, config))]
    senders = [Sender(service) for service in services]
    for sender in senders:
        sender.start()
    try:
        yield Trackers(kind, senders)
    finally:
        error = sys.exc_info()[1]
        stops = isinstance(error, KeyboardInterrupt | SystemExit)
        limit = time.monotonic() + (STOP_SECONDS if stops else END_SECONDS)
        for sender in senders:
            sender.finish(failed=error is not None, seconds=max(0.0, limit - time.monotonic()))


def absolute(place: str | Path) -> str:
    """Return what tells a folder from those of the same name elsewhere on this machine."""
    return str(place) if uris.is_remote(str(place)) else os.path.realpath(place)


def _mlflow(kind: str, key: str, config: Config) -> Service | None:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    from attngan.training import mlflow_run

    if mlflow_run.is_installed():
        return mlflow_run.MlflowRun(kind, key, config)
    say("MLFLOW_TRACKING_URI is set, but MLflow's client is not installed: nothing is sent there (attngan[mlflow]).")
    return None


def _wandb(kind: str, key: str, config: Config) -> Service | None:
    given = [name for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT") if os.environ.get(name)]
    if not given or os.environ.get("WANDB_MODE") == "disabled":
        return None
    from attngan.training import wandb_run

    if wandb_run.is_installed():
        return wandb_run.WandbRun(kind, key, config)
    say(f"{given[0]} is set, but wandb is not installed: nothing is sent there (attngan[wandb]).")
    return None


def _size(content: File) -> int:
    if isinstance(content, bytes):
        return len(content)
    return sum(path.stat().st_size for path in content.rglob("*") if path.is_file())


def _without_secrets(text: str) -> str:
    """Return a text without the user and password of a URI, and without keys of the environment."""
    for name in SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "...")
    return re.sub(r"//\S*@", "//", text)


def _reason(error: BaseException) -> str:
    """Return why a tracker was not reached, in a few words without secrets."""
    text = _without_secrets(f"{type(error).__name__}: {error}")
    return next((words for sign, words in SIGNS.items() if sign in text), shown(text))
