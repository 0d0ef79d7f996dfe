"""How fast a training goes, what time is left, and what it costs."""

import datetime
import time

import torch

from attngan.runtime import acceleration
from attngan.training.run import TrainingRun

WARM_UP, COUNTED = 5, 20  # steps before a forecast, which the second ones are timed for


class Pace:
    """Counts the steps that this process did.

    Args:
        step: at which it begins.
        total: steps of the whole run.
        batch_size: pictures a step.
        price_per_hour: of the machine; 0: costs are not told.
        device: that trains.
    """

    def __init__(self, step: int, *, total: int, batch_size: int, price_per_hour: float, device: torch.device):
        self.step, self.total, self.batch_size, self.price_per_hour = step, total, batch_size, price_per_hour
        self.device = device
        self.num_done, self.started = 0, time.monotonic()
        self.is_told, self._warm = False, self.started

    @classmethod
    def of(cls, run: TrainingRun) -> "Pace":
        """Return the pace of a run, from where it is now."""
        return cls(
            run.step,
            total=run.schedule.total,
            batch_size=run.settings.batch_size,
            price_per_hour=run.config.training.price_per_hour,
            device=run.device,
        )

    def move(self, step: int) -> None:
        """Say at which step the run is; to go back is no progress."""
        self.num_done += max(0, step - self.step)
        self.step = step

    def text(self) -> str:
        """Return images a second, time left and cost as a sentence or two; nothing before the first step."""
        if not self.num_done:
            return ""
        seconds = (time.monotonic() - self.started) / self.num_done  # a step
        pace = f"{self.batch_size / seconds:,.0f} images/s"
        if self.step < self.total:
            pace += f", {datetime.timedelta(seconds=round(seconds * (self.total - self.step)))} left"
        pace += "."
        if self.price_per_hour:
            price = seconds / 3600 * self.price_per_hour
            pace += f" At {self.price_per_hour:g} an hour: {price * self.step:,.2f} so far, "
            pace += f"{price * self.total:,.2f} in all."
        return pace

    def forecast(self, step: int) -> str | None:
        """Return, once and after the first steps, what the whole run takes here."""
        self.move(step)
        if self.num_done <= WARM_UP:
            acceleration.wait(self.device)  # it may be several steps behind
            self._warm = time.monotonic()
        if self.is_told or self.num_done < WARM_UP + COUNTED:
            return None
        self.is_told = True
        acceleration.wait(self.device)
        seconds = (time.monotonic() - self._warm) / (self.num_done - WARM_UP) * self.total
        text = f"all {self.total:,} steps take about {datetime.timedelta(seconds=round(seconds))} here"
        if self.price_per_hour:
            text += f" and cost {seconds / 3600 * self.price_per_hour:,.2f}"
        return f"{text}."


class Timer:
    """Says when a number of seconds has passed since it last said so."""

    def __init__(self, every_seconds: float):
        self.every_seconds = every_seconds
        self.last = time.monotonic()

    def take_turn(self) -> bool:
        """Return whether the time has come, and start anew if so."""
        if time.monotonic() - self.last < self.every_seconds:
            return False
        self.last = time.monotonic()
        return True
