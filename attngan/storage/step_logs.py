"""Why a step failed: what its log says, which KFP's launcher leaves below the pipeline root.

A log is there when a step ended by itself. Of a pod that was lost with its node there is none.
"""

import contextlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from attngan.errors import first_line, shown
from attngan.runtime import exit_status
from attngan.runtime.time_limit import within
from attngan.storage import places, uris

SECONDS = 30.0  # for the logs of a run; storage that does not answer would be asked for minutes
MOST = 400  # characters of a reason
LOG = re.compile(r"[^/]+/executor-logs(-\d+)?")
# How the last line of a step begins that attngan ended; a step repeats what the first of several nodes said.
SENTENCE = re.compile(r"(?:node 0 \| )?attngan: (?P<said>.+)")
# Sentences that name no mistake that lasts: memory ran out, one of several nodes was lost, the step was told to stop,
# or what `errors.is_lasting` says of its error.
LOSS = re.compile(
    r"process \d+ of \d+ was ended by |TrainJob \S+ failed |(stopped|interrupted); run the same command|"
    + exit_status.MAY_PASS
)


class Reason(NamedTuple):
    """Why a step failed.

    Args:
        text: for people.
        is_mistake: attngan itself refused to go on, so a retry would end in the same way.
    """

    text: str
    is_mistake: bool


class StepLogs:
    """The logs of a run.

    Args:
        folder: of the run, `<pipeline root>/<pipeline>/<run id>`; "" where the API does not tell the root.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self.before: dict[str, float] = {}  # logs of attempts before, and when they were written

    def reasons(self, steps: Iterable[str]) -> dict[str, Reason]:
        """Return why these steps failed; what keeps a log from us becomes its reason."""
        found = {step: Reason(f"{self._where(step)} cannot be read here: no answer in time.", False) for step in steps}

        def read() -> None:
            for step in list(found):
                found[step] = self._reason(step)

        within(SECONDS, read)
        return dict(found)

    def newest(self) -> dict[str, str]:
        """Return the log of the last attempt of every step that left one; the folder of the run is listed once."""
        found: dict[str, list[str]] = {}
        for name in places.names(self.folder):
            step, _, log = name.partition("/")
            if LOG.fullmatch(log):
                found.setdefault(step, []).append(uris.join(self.folder, name))
        return {step: _newest({uri: places.modified(uri) for uri in logs}) for step, logs in found.items()}

    def remember(self, steps: Iterable[str]) -> None:
        """Let the logs that are there now count no more, since the next attempt may leave none."""

        def look() -> None:
            for step in steps:
                with contextlib.suppress(Exception):  # then the same keeps them from us after the next attempt
                    self.before |= self._written(step)

        within(SECONDS, look)

    def _where(self, step: str) -> str:
        return f"its log below {uris.join(self.folder, step)}" if self.folder else "its log"

    def _reason(self, step: str) -> Reason:
        where = self._where(step)
        if not self.folder:
            return Reason(f"{where} cannot be read here: the API does not tell the run's pipeline root.", False)
        try:
            new = {uri: key for uri, key in self._written(step).items() if self.before.get(uri) != key}
            newest = _newest(new)
            text = places.read(newest)[0].decode(errors="replace") if newest else ""
        except Exception as error:  # whatever it is, it must not hide that the run failed
            return Reason(f"{where} cannot be read here: {shown(first_line(error), MOST)}", False)
        if not newest:
            return Reason(f"{where} is missing: its pod was lost, or never started.", False)
        return reason_in(text, newest)

    def _written(self, step: str) -> dict[str, float]:
        """Return the logs of all attempts of a step, and when each was written."""
        folder = uris.join(self.folder, step)
        logs = [uris.join(folder, name) for name in places.names(folder) if LOG.fullmatch(name)]
        return {uri: places.modified(uri) for uri in logs}


def _newest(written: dict[str, float]) -> str:
    """Return the log that was written last, "" where there is none."""
    return max(written, key=lambda uri: (written[uri], _attempt(uri)), default="")


def _attempt(uri: str) -> int:
    number = uri.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def reason_in(log: str, uri: str) -> Reason:
    """Return the reason that a log ends with."""
    lines = [line for line in log.splitlines() if line.strip()]
    said = [found["said"] for found in map(SENTENCE.match, lines) if found]
    mistakes = [sentence for sentence in said if not LOSS.match(sentence)]
    if mistakes:
        return Reason(shown(mistakes[-1], MOST), True)
    passing = [sentence for sentence in said if sentence.startswith(exit_status.MAY_PASS)]
    if said:  # that several nodes were given up says less than why one of them ended
        return Reason(shown((passing or said)[-1], MOST), False)
    last = f"its last line is: {shown(lines[-1], MOST)}" if lines else "it is empty"
    return Reason(f"its log {uri} has no sentence of attngan; {last}", False)
