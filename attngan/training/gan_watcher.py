"""Watching the adversarial training: at every snapshot figures, a verdict, pictures, and a state to go back to."""

from collections.abc import Callable
from typing import TypeVar

from attngan.runtime import acceleration, distributed
from attngan.runtime.console import say
from attngan.training import watchdog
from attngan.training.gan_run import GanRun
from attngan.training.run_log import RunLog
from attngan.training.snapshot_metrics import SnapshotMetrics
from attngan.training.snapshots import Snapshots
from attngan.training.states import StateStore
from attngan.training.watcher import Watcher

Drawn = TypeVar("Drawn")


class GanWatcher(Watcher):
    """Logs a run's figures, and takes its snapshots.

    Args:
        run: what is watched.
        log: gets the figures.
        store: keeps the states.
        figures: measure the run's pictures.
        snapshots: draw them, in the first process; None in the others.
    """

    def __init__(
        self,
        run: GanRun,
        log: RunLog,
        store: StateStore,
        figures: SnapshotMetrics,
        snapshots: Snapshots | None,
    ):
        super().__init__(run, log, store)
        self.gan, self.figures, self.snapshots = run, figures, snapshots

    def begin(self) -> None:
        """Judge the best so far as the next ones will be judged; keep the state of a run that has not begun."""
        self._judge_anew()
        super().begin()

    def is_over(self) -> bool:
        """Return whether all steps are done, or no snapshot was better for too long."""
        return super().is_over() or bool(0 < self.settings.patience <= self.gan.num_since_best)

    def end(self) -> None:
        """Say why the training ends before its last step, if it does."""
        run = self.gan
        if run.step < run.schedule.total:
            say(
                f"generator: the last {run.num_since_best} snapshots are no better than that of step "
                f"{run.best['step']:,}; training ends after step {run.step:,} (watch.patience)."
            )

    def after_step(self) -> str | None:
        """Log the figures if this is a step for it, take a snapshot if it is one for that; return a short note."""
        run = self.gan
        if self.snapshots is not None and (forecast := self.snapshots.pace.forecast(run.step)):
            say(f"generator: {forecast}")
        is_snapshot = run.schedule.is_look(run.step)
        if not is_snapshot and run.step % run.config.training.log_every_steps:
            return None
        figures = run.take_mean_losses()
        if problem := self.trouble(figures, thoroughly=is_snapshot):
            self.answer(problem)
            return None
        if is_snapshot:
            figures |= distributed.from_first(lambda: self._with_room(self.figures.measure))
        self.log.write(step=run.step, epoch=run.step / run.schedule.steps_per_epoch, **figures, **self.skipped())
        if is_snapshot:
            self._take_snapshot()
        return f"D {figures['discriminator']:.2f}, G {figures['generator']:.2f}{self.skipped_note()}"

    def answer(self, problem: str, *, can_ignore: bool = False) -> None:
        """Do what the setting says; where the run goes back, pictures from after that step go too."""
        step = self.gan.step
        super().answer(problem, can_ignore=can_ignore)
        if self.gan.step < step:
            self._judge_anew()  # the state may be from before the settings changed
            if self.snapshots is not None:
                self.snapshots.forget_after(self.gan.step)

    def _judge_anew(self) -> None:
        """Measure the best so far once more if the state's figures were measured otherwise: they do not compare."""
        run, now = self.gan, self.figures.judged_by
        if run.best and run.judged_by != now:
            before = run.judged_by
            changes = [f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name]]
            average = {name: tensor.clone() for name, tensor in run.generator_ema.state_dict().items()}
            run.generator_ema.load_state_dict(run.best_weights)
            figures = distributed.from_first(lambda: self._with_room(self.figures.measure))
            run.generator_ema.load_state_dict(average)
            others = {name: value for name, value in run.best.items() if not name.startswith("kid_")}
            run.best, run.num_since_best = {**others, **figures}, 0
            step = f"the best so far, that of step {run.best['step']:,},"
            self.tell(f"snapshots are judged in another way now ({', '.join(changes)}): {step} is measured anew.")
        run.judged_by = now

    def _take_snapshot(self) -> None:
        problem = self._problem()
        if not problem:
            self.gan.keep_if_best(self.log.rows[-1], self.figures.metric)
        if self.snapshots is not None:
            self._with_room(self.snapshots.draw)
        if problem:
            self.answer(problem, can_ignore=True)
        if not problem or self.settings.on_trouble == "ignore":
            self.save(good=not problem)
        if self.snapshots is not None:
            self.snapshots.show(self.store)

    def _with_room(self, draw: Callable[[], Drawn]) -> Drawn:
        """Draw beside what a step has left in the memory, or in its place."""
        return acceleration.with_room(draw, self.gan.make_room, self.gan.device, "a snapshot's pictures")

    def _problem(self) -> str | None:
        """Return what is wrong with the figures since the last snapshot; the last row is this one's."""
        rows = self.log.rows
        snapshots = [number for number, row in enumerate(rows) if "variety" in row]
        since = snapshots[-2] + 1 if len(snapshots) > 1 else 0
        varieties = [rows[number]["variety"] for number in snapshots]
        return watchdog.saturated(rows[since:], self.gan.config.resolutions) or watchdog.collapsed(varieties)
