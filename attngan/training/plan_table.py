"""What trainings are made of, as a table: time of each part and of all, cost, memory."""

import dataclasses
import datetime
import resource

import torch

from attngan.config.settings import Config
from attngan.runtime import acceleration, machine
from attngan.runtime.console import say


@dataclasses.dataclass(frozen=True)
class Part:
    """One kind of work.

    Attributes:
        name: of what is done.
        seconds: that one of it takes.
        number: how many there are in the whole schedule.
    """

    name: str
    seconds: float
    number: int

    @property
    def total(self) -> float:
        """Seconds of all of them."""
        return self.seconds * self.number


def tell(parts: list[Part], config: Config, *, price_per_hour: float | None = None) -> None:
    """Print the parts as a table: time of each and of all, cost, and the memory that was needed at the most.

    Args:
        parts: of the trainings.
        config: the schedule.
        price_per_hour: of the machine; that of the config when None.
    """
    price_per_hour = config.training.price_per_hour if price_per_hour is None else price_per_hour
    device = acceleration.set_up_device(config)
    precision = acceleration.choose_precision(config.precision, device)
    say(f"{device}, {torch.get_num_threads()} threads, {str(precision).removeprefix('torch.')}")
    say(f"{'':24}{'each':>12}{'number':>11}{'time':>19}{'cost' if price_per_hour else '':>12}")
    for part in (*parts, Part("all", sum(part.total for part in parts), 1)):
        each, number = ("", "") if part.name == "all" else (f"{part.seconds:.3f} s", f"{part.number:,}")
        cost = f"{part.total / 3600 * price_per_hour:,.2f}" if price_per_hour else ""
        say(f"{part.name:24}{each:>12}{number:>11}{_duration(part.total):>19}{cost:>12}".rstrip())
    used, available = _memory(device)
    say(f"memory: {used / 2**30:.1f} GiB at the most, of {available / 2**30:.1f} GiB")


def _memory(device: torch.device) -> tuple[int, int]:
    """Return bytes used at the most, and bytes that there are."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return used, machine.memory_bytes()


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
