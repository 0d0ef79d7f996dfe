"""How a run of the pipeline ended, as the logs of its own steps tell: what was decided, or which step failed and why.

The logs are the run's own. The history of the model folder is that of all runs, and Kubeflow's API gives no reason.
"""

import re
from typing import Any, NamedTuple

from attngan.errors import first_line, shown
from attngan.runtime.time_limit import within
from attngan.storage import places
from attngan.storage.champion import ModelFolder
from attngan.storage.step_logs import MOST, StepLogs, reason_in

SECONDS = 30.0  # to wait for storage, which would be asked for minutes if it did not answer
# Tasks in order, as their logs are named: the six steps, which have detect-changes before them, and those of a sweep.
STEPS = ("preprocess", "pretrain-damsm", "train-generator", "evaluate", "export-samples", "publish")
RUN = ("detect-changes", *STEPS)
SWEEP = ("detect-changes", "preprocess", "sweep-encoders", "sweep-member", "sweep-table", "publish")
# What KFP's executor says last, when a step is done.
DONE = re.compile(r"^\[KFP Executor [^]]*\]: (Wrote executor output file|Did not write output file)", re.MULTILINE)
# What the two steps print that decide, and what it is called.
DECISIONS = {
    "publish": {"promoted": r"promoted[: ].*", "kept": r"not promoted: .*"},
    "detect-changes": {"nothing new": r"nothing to train: .*"},
}
RECENT = 20  # decisions of the history that are looked at for figures


class Ending(NamedTuple):
    """How a run ended.

    Args:
        verdict: "promoted", "kept", "nothing new" or "failed"; "succeeded" where no log tells what was decided.
        reason: why, in a sentence of attngan where there is one; "" where nothing is known.
        step: the step that failed, if it is known.
    """

    verdict: str
    reason: str = ""
    step: str = ""

    @property
    def title(self) -> str:
        """The verdict in a few words."""
        return f"{self.verdict} at {self.step}" if self.step else self.verdict

    @property
    def detail(self) -> str:
        """What there is to say beside the title."""
        return self.reason.removeprefix("promoted: ").removeprefix("not promoted: ")


def ending_of(folder: str, *, has_succeeded: bool) -> Ending:
    """Return how a run ended that is over; what keeps its logs from us becomes the reason.

    Args:
        folder: of the run, `<pipeline root>/<pipeline>/<run id>`.
        has_succeeded: what Kubeflow says; where a decision is in the logs, that counts.
    """
    verdict = "succeeded" if has_succeeded else "failed"
    found = Ending(verdict, f"its logs below {folder} cannot be read here: no answer in time.")

    def read() -> None:
        nonlocal found
        try:
            found = _read(folder, verdict)
        except Exception as error:  # whatever it is, how the run ended is known without it
            found = Ending(verdict, f"its logs below {folder} cannot be read here: {shown(first_line(error), MOST)}")

    within(SECONDS, read)
    return found


def figures_of(model_uri: str, reason: str) -> dict[str, Any]:
    """Return what a decision on a model was made from, by its reason: metric, challenger's and champion's value.

    Raises:
        InputError: the model folder cannot be read.
    """
    folder = ModelFolder(model_uri)
    for name in reversed(folder.decisions()[-RECENT:]):
        decision = folder.decision(name)
        if decision.get("reason") == reason:
            return {key: decision.get(key) for key in ("metric", "challenger", "champion")}
    return {}


def _read(folder: str, verdict: str) -> Ending:
    logs = StepLogs(folder).newest()
    for step, decisions in DECISIONS.items():
        text = _text(logs[step]) if step in logs else ""
        for decided, sentence in decisions.items() if DONE.search(text) else ():
            if said := re.findall(f"^{sentence}$", text, re.MULTILINE):
                return Ending(decided, shown(said[-1], MOST))
    return Ending(verdict) if verdict == "succeeded" else _failure(folder, logs)


def _failure(folder: str, logs: dict[str, str]) -> Ending:
    """Return which step failed: the last that left a log, or, where that one is done, the next, whose pod left none."""
    lost = "its pod was lost, or never started, or the run was terminated."
    steps = max(RUN, SWEEP, key=lambda names: len(logs.keys() & {*names}))
    last = next((step for step in reversed(steps) if step in logs), "")
    if not last:
        return Ending("failed", f"no step left a log below {folder}: {lost}")
    text = _text(logs[last])
    if DONE.search(text):
        return Ending("failed", f"the step after {last} left no log: {lost}")
    return Ending("failed", reason_in(text, logs[last]).text, last)


def _text(uri: str) -> str:
    return places.read(uri)[0].decode(errors="replace")
