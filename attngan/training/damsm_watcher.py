"""What is looked at while the encoders train: a retrieval test after each epoch; the best encoders are kept."""

from attngan.data.dataset import Dataset
from attngan.runtime import distributed
from attngan.runtime.console import say
from attngan.training.damsm_progress import DamsmProgress
from attngan.training.damsm_run import DamsmRun
from attngan.training.damsm_validation import validate
from attngan.training.run_log import RunLog
from attngan.training.states import StateStore
from attngan.training.watcher import Watcher


class DamsmWatcher(Watcher):
    """Validates a run, logs its figures, and saves the state of every so many.

    Args:
        run: what is watched.
        log: gets the figures.
        store: keeps the states.
        test: held-out pictures.
        page: shows the run, in the first process; None in the others.
    """

    def __init__(self, run: DamsmRun, log: RunLog, store: StateStore, test: Dataset, page: DamsmProgress | None):
        super().__init__(run, log, store)
        self.damsm, self.test, self.page = run, test, page

    def after_step(self) -> str | None:
        """Validate if this is a step for it; return a short note then."""
        run, page = self.damsm, self.page
        if page is not None and (forecast := page.pace.forecast(run.step)):
            say(f"DAMSM: {forecast}")
        if not run.schedule.is_look(run.step):
            return None
        note = self._validate()
        if page is not None:
            page.draw(self.store)
        return note

    def end(self) -> None:
        """Show the whole run."""
        if self.page is not None:
            self.page.draw(self.store, last=True)

    def _validate(self) -> str | None:
        """Validate and log, unless the run went wrong; save the state if it is time; return a short note."""
        run, schedule = self.damsm, self.damsm.schedule
        epoch = run.step / schedule.steps_per_epoch
        is_state = schedule.is_state(run.step)
        losses = run.synchronize_losses()
        if problem := self.trouble(losses, thoroughly=is_state):
            self.answer(problem)
            return None
        found = distributed.from_first(lambda: validate(run, self.test))
        run.keep_if_best({"epoch": epoch, **found})
        num_summed = (run.step - 1) % schedule.interval + 1
        means = {name: total / num_summed for name, total in losses.items()}
        rate = run.optimizer.param_groups[0]["lr"]
        loss = sum(means.values())
        self.log.write(step=run.step, epoch=epoch, **found, **means, loss=loss, learning_rate=rate, **self.skipped())
        if is_state:
            self.save(good=True)
        return f"loss {loss:.2f}, R@1 {found['recall_at_1']:.1%}{self.skipped_note()}"
