"""What is done when a training goes wrong: go back to the last good state with lower rates, stop, or go on.

Good states are saved at fixed steps and all processes agree on what is wrong, so a run that was killed and goes on
ends as one that was not, also where it went back.
"""

import abc
from collections.abc import Mapping

from attngan.errors import InputError
from attngan.runtime import distributed
from attngan.runtime.console import say
from attngan.training import watchdog
from attngan.training.run import TrainingRun
from attngan.training.run_log import RunLog
from attngan.training.states import StateStore

SKIPPED = "skipped_updates"  # name of a figure


class Watcher(abc.ABC):
    """Saves a run's states, and answers when it goes wrong. A subclass says what it looks at.

    Args:
        run: what is watched.
        log: has its figures.
        store: keeps its states.
    """

    def __init__(self, run: TrainingRun, log: RunLog, store: StateStore):
        self.run, self.log, self.store = run, log, store
        self.settings = run.config.watch
        self._saved = (-1, -1)  # step and attempt

    def begin(self) -> None:
        """Keep the state of a run that has not begun: one that goes wrong at once goes back to it."""
        if self.run.step == 0:
            self.save(good=True)

    def is_over(self) -> bool:
        """Return whether all steps are done."""
        return self.run.step >= self.run.schedule.total

    @abc.abstractmethod
    def after_step(self) -> str | None:
        """Do what is due after a step: log, validate, draw, save, go back; return a short note for the bar."""

    def end(self) -> None:  # noqa: B027, most have nothing left
        """Do what is left when the run is over."""

    def save(self, *, good: bool = False) -> None:
        """Save the state, in the first process, unless it has just been saved at this step."""
        now = (self.run.step, self.run.attempt)
        if now == self._saved:
            return
        self._saved = now
        self.run.rows = self.log.rows
        if distributed.is_first():
            self.store.save(self.run.step, self.run.state(), good=good)

    def trouble(self, losses: Mapping[str, float], *, thoroughly: bool = False) -> str | None:
        """Return what is wrong: a loss that is not finite or, asked `thoroughly`, a weight; None if nothing is."""
        problem = watchdog.not_finite(losses)
        if thoroughly and not problem and not self.run.is_finite():
            problem = "a weight is not a finite number"
        return problem

    def skipped(self) -> dict[str, float]:
        """Return what a row of the log says of updates that were left out, since float16 overflowed in them."""
        return {SKIPPED: float(self.run.num_skipped())} if self.run.loss_scales() else {}

    def skipped_note(self) -> str:
        """Return what the bar says of them, if the last row of the log does."""
        count = self.log.rows[-1].get(SKIPPED) if self.log.rows else 0
        return f", {count:,.0f} updates skipped" if count else ""

    def save_or_answer(self) -> None:
        """Save the state, unless it is that of a run gone wrong: answer then."""
        if problem := self.trouble(self.run.synchronize_losses()):
            self.answer(problem)
        else:
            self.save()

    def answer(self, problem: str, *, can_ignore: bool = False) -> None:
        """Do what the setting says: go back, stop, or go on.

        Args:
            problem: in words.
            can_ignore: going on makes sense.

        Raises:
            InputError: it says stop, or the run has gone back often enough.
        """
        run, setting = self.run, self.settings.on_trouble
        where = f"step {run.step:,}: {problem}"
        if setting == "ignore" and can_ignore:
            self.tell(f"{where}; ignored (watch.on_trouble).")
            return
        if setting != "roll_back" or run.attempt >= self.settings.max_roll_backs:
            often = f" after going back {run.attempt} times" if run.attempt else ""
            advice = "lower the learning rates" + (", or set watch.on_trouble=ignore" if can_ignore else "")
            raise InputError(
                f"{where}; the run stopped{often}. Its last good state is kept in {self.store.uri}: {advice}, and run "
                "again."
            )
        self.store.settle()
        step = run.step
        try:
            run.go_back(self.store)
        except InputError as error:
            raise InputError(f"{where}; the run cannot go back: {error}") from None
        self.tell(f"{where}; back from step {step:,} to {run.step:,}, with {run.rate_factor:g} of the learning rate.")
        self.log.restart(run.rows)
        self.save(good=True)

    def tell(self, text: str) -> None:
        """Say what went wrong, and keep it for the progress page."""
        self.run.events.append({"step": self.run.step, "text": text})
        say(f"{self.run.name}: {text}")
