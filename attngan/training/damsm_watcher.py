"""What is looked at while the encoders train: a retrieval test after each epoch, whose best encoders are kept."""

from attngan.data.dataset import Dataset
from attngan.runtime import distributed
from attngan.runtime.console import say
from attngan.training.damsm_progress import DamsmProgress
from attngan.training.damsm_run import DamsmRun
from attngan.training.damsm_step import validate
from attngan.training.run_log import RunLog
from attngan.training.states import StateStore
from attngan.training.watcher import Watcher


class DamsmWatcher(Watcher):
    """Validates a run's epochs, logs them, and saves the state of every so many.

    Args:
        run: what is watched.
        log: gets the figures.
        store: keeps the states.
        test: held-out pictures.
        page: shows the run, in the first process; None in the others.
        total: steps of the whole run.
    """

    def __init__(
        self, run: DamsmRun, log: RunLog, store: StateStore, test: Dataset, page: DamsmProgress | None, *, total: int
    ):
        super().__init__(run, log, store, total=total)
        self.damsm, self.test, self.page = run, test, page

    def after_step(self) -> str | None:
        """End the epoch if this was its last step; return a short note then."""
        run, page = self.damsm, self.page
        if page is not None and (forecast := page.pace.forecast(run.step)):
            say(f"DAMSM: {forecast}")
        if run.step % run.steps_per_epoch:
            return None
        note = self._end_epoch()
        if page is not None:
            page.draw(self.store)
        return note

    def end(self) -> None:
        """Show the whole run."""
        if self.page is not None:
            self.page.draw(self.store, last=True)

    def _end_epoch(self) -> str | None:
        """Validate and log, unless the epoch went wrong; save the state if it is time; return a short note."""
        run = self.damsm
        epoch = run.step // run.steps_per_epoch
        is_snapshot = run.step == self.total or epoch % max(1, round(self.settings.every_epochs)) == 0
        losses = run.synchronize_losses()
        if problem := self.trouble(losses, thoroughly=is_snapshot):
            self.answer(problem)
            return None
        found = distributed.from_first(lambda: validate(run, self.test))
        run.keep_if_best({"epoch": float(epoch), **found})
        means = {name: total / run.steps_per_epoch for name, total in losses.items()}
        rate = run.optimizer.param_groups[0]["lr"]
        loss = sum(means.values())
        self.log.write(step=run.step, epoch=float(epoch), **found, **means, loss=loss, learning_rate=rate)
        if is_snapshot:
            self.save(good=True)
        return f"loss {loss:.2f}, R@1 {found['recall_at_1']:.1%}"
