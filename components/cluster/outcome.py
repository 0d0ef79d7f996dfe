"""What the API tells of a run as steps, and what of it can be believed once the run has ended.

It stores a run's state before the states of its tasks, leaves the step of a driver that failed, and all that never ran,
PENDING, and tells no reason: that is in the step's log.
"""

import dataclasses
import datetime
from typing import Any

from attngan.storage.step_logs import Reason

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
BUSY = ("RUNNING", "CANCELING")
NOT_RUN = "not run"


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


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        state: of the run.
        steps: each with its last state, and why it failed.
        was_terminated: somebody stopped the run; its state is FAILED then.
        reasons: why steps failed, by step.
    """

    state: str
    steps: list[Step]
    was_terminated: bool = False
    reasons: dict[str, Reason] = dataclasses.field(default_factory=dict)

    @property
    def is_lost(self) -> bool:
        """Whether the run failed, and no step names a mistake: a node was lost, memory ran out, or it may pass."""
        mistakes = [reason for reason in self.reasons.values() if reason.is_mistake]
        return self.state == "FAILED" and not self.was_terminated and not mistakes

    @property
    def found_nothing_new(self) -> bool:
        """Whether the run ended after its first step, since that found nothing to train on."""
        return self.state == "SUCCEEDED" and _only_first_ran(self.steps)

    def sentence(self) -> str:
        """Return what became of the run, without a full stop."""
        if self.was_terminated:
            return f"the run was terminated, and ended as {self.state}"
        if self.found_nothing_new:
            return f"the run SUCCEEDED; {self.steps[0].name} found nothing new to train on, and the champion stays"
        if self.state == "SUCCEEDED":
            return "the run SUCCEEDED"
        return f"the run ended as {self.state}" + (f" at {next(iter(self.reasons))}" if self.reasons else "")


def steps_of(run: Any, names: list[str]) -> list[Step]:
    """Return the steps with these names as a run has them now."""
    tasks = (run.run_details and run.run_details.task_details) or []
    named = {task.display_name: task for task in sorted(tasks, key=_started)}  # of several of a name, the last
    return [_step(name, named.get(name), named.get(f"{name}-driver")) for name in names]


def is_settled(state: str, steps: list[Step]) -> bool:
    """Return whether the states of the steps can be those of the end of a run that ended in this state."""
    if any(step.state in BUSY for step in steps):
        return False
    if state == "SUCCEEDED":
        return all(step.state in ENDED for step in steps) or _only_first_ran(steps)
    return state != "FAILED" or any(step.state == "FAILED" for step in steps)


def was_terminated(run: Any) -> bool:
    """Return whether the last that a run did before its end was to be cancelled."""
    states = [entry.state for entry in run.state_history or []]
    return next((state for state in reversed(states) if state not in ENDED), None) == "CANCELING"


def suspects(steps: list[Step]) -> list[str]:
    """Return the steps whose logs may say why a run failed: those that failed, or else those that seem to run on."""
    failed = [step.name for step in steps if step.state == "FAILED"]
    return failed or [step.name for step in steps if step.state in BUSY]


def final(steps: list[Step], reasons: dict[str, Reason]) -> list[Step]:
    """Return the steps as they are after the end, with the reasons of those that failed."""
    return [
        dataclasses.replace(
            step,
            state=step.state if step.state in (*ENDED, *BUSY) else NOT_RUN,
            message=" ".join(filter(None, [step.message, reasons[step.name].text if step.name in reasons else ""])),
        )
        for step in steps
    ]


def _step(name: str, task: Any, driver: Any) -> Step:
    if driver is not None and driver.state == "FAILED" and (task is None or task.state not in ENDED):
        return Step(name, "FAILED", _seconds(driver), "its driver failed;")
    if task is None:
        return Step(name)
    return Step(name, task.state or "PENDING", _seconds(task))


def _only_first_ran(steps: list[Step]) -> bool:
    first, *others = steps
    return first.state == "SUCCEEDED" and not any(step.state in ("SUCCEEDED", "FAILED", *BUSY) for step in others)


def _started(task: Any) -> float:
    start = moment(task.start_time)
    return start.timestamp() if start else 0.0


def _seconds(task: Any) -> float | None:
    start, end = moment(task.start_time), moment(task.end_time)
    if start is None:
        return None
    return max(0.0, ((end or datetime.datetime.now(datetime.UTC)) - start).total_seconds())


def _duration(seconds: int) -> str:
    """Return hours, minutes and seconds; a training takes days, and hours tell them apart better in a column."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def moment(told: datetime.datetime | None) -> datetime.datetime | None:
    """Return a moment, None for the API's way of saying that it has not come: a date before 1971."""
    return told if told and told.year > 1970 else None
