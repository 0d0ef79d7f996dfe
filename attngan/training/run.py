"""What both trainings hold: a position, figures so far, what went wrong; and their state, to go on from or back to."""

import abc
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attngan import seeding
from attngan.config.settings import Config
from attngan.runtime import acceleration, distributed
from attngan.runtime.compilation import Compilation
from attngan.runtime.console import say
from attngan.runtime.loss_scale import LossScale
from attngan.runtime.step_graph import Step, StepGraph
from attngan.training import states
from attngan.training.learner import Learner
from attngan.training.schedule import Schedule
from attngan.training.states import StateStore


class TrainingRun(abc.ABC):
    """A run at its first step; `resume` moves it on to its last saved one. A subclass says what it is made of.

    Args:
        name: for messages.
        config: the run's settings.
        device: where everything lives.
        num_losses: how many a step returns.
        cuda_graph: whether steps are recorded: "auto", "on" or "off".
        compiles: the same, whether they are compiled.
    """

    section: str  # of the settings
    look_figure: str  # that the log has of steps after which the run is looked at, and of no others
    schedule: Schedule
    period: int = 1  # steps, until all kinds of them have been taken and they come round again
    remembered: tuple[str, ...] = (
        "rows",
        "attempt",
        "events",
        "start_from",
    )  # attributes that the state holds as they are

    def __init__(
        self, name: str, config: Config, device: torch.device, num_losses: int, *, cuda_graph: str, compiles: str
    ):
        self.name, self.config, self.device = name, config, device
        self.precision = acceleration.choose_precision(config.precision, device)
        self.recorder = acceleration.choose_recorder(cuda_graph, device)
        self.graphs: dict[str, StepGraph] = {}  # of each kind of step, where steps are recorded
        self.compute = Compilation(compiles, device, is_recorded=self.recorder is not None, name=name)
        self.step = 0
        self.loss_sums = torch.zeros(num_losses, device=device)  # since they were last logged
        self.rows: list[dict[str, float]] = []
        self.attempt = 0  # how often the run went back
        self.events: list[dict[str, int | str]] = []  # what went wrong: step, text
        self.start_from = ""  # fingerprint of the model whose weights it began with
        self._spent_before: float | None = 0.0  # seconds, of the processes before; None: one of them did not say
        self._began = time.monotonic()

    @abc.abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """Return all networks whose weights change, by name."""

    @abc.abstractmethod
    def learners(self) -> dict[str, Learner]:
        """Return what is trained, by the names of the optimizers."""

    @abc.abstractmethod
    def set_learning_rates(self) -> None:
        """Give every optimizer the rate that belongs to this step and attempt."""

    @abc.abstractmethod
    def synchronize_losses(self) -> dict[str, float]:
        """Make sums of losses the same in all processes, and return them by name."""

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimizers by name."""
        return {name: learner.optimizer for name, learner in self.learners().items()}

    def loss_scales(self) -> dict[str, LossScale]:
        """Return the scales of losses by name, none where nothing computes in float16."""
        scales = {f"loss scale of {name}": learner.scale for name, learner in self.learners().items()}
        return {name: scale for name, scale in scales.items() if scale is not None}

    def num_skipped(self) -> int:
        """Return how many updates were left out since their gradients overflowed."""
        return round(sum(scale.num_skipped.item() for scale in self.loss_scales().values()))

    def new_loss_scale(self) -> LossScale | None:
        """Return a scale for a loss where one is needed."""
        return LossScale(self.device) if self.precision == torch.float16 else None

    def perform(self, update: Step, *inputs: Tensor, kind: str = "") -> dict[str, Tensor]:
        """Take a step: as it is, or repeat the record of one of its kind; first decide, as soon as can be, how."""
        if self.compute.begins(self.schedule.total - self.step, period=self.period):
            self.forget_records()
        if self.recorder is None:
            return update(*inputs)
        if kind not in self.graphs:
            self.graphs[kind] = StepGraph(update, self.recorder, self.free_gradients)
        return self.graphs[kind](*inputs, may_record=self.compute.is_decided)

    def forget_records(self) -> None:
        """Let steps be recorded anew."""
        for graph in self.graphs.values():
            graph.forget()

    def free_gradients(self) -> None:
        """Free the gradients, which every step makes anew."""
        for optimizer in self.optimizers().values():
            optimizer.zero_grad(set_to_none=True)

    def make_room(self) -> None:
        """Free all memory that the next step takes again: gradients, and the record of a step."""
        self.free_gradients()
        self.forget_records()

    def try_out(self) -> None:
        """Make ready for a step on another number of pictures, to see whether they fit: as it is, never recorded."""
        self.make_room()
        self.recorder = None
        self.compute.stop()

    @property
    def settings(self) -> Any:
        """The settings of this training alone."""
        return getattr(self.config, self.section)

    @property
    def spent(self) -> float | None:
        """How many seconds the training took so far, in all its processes one after the other; None: not known."""
        return None if self._spent_before is None else self._spent_before + time.monotonic() - self._began

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Let networks compute in the run's precision inside the block."""
        return acceleration.autocast(self.device, self.precision)

    @property
    def seed(self) -> int:
        """Of all that is random from here: having gone back, the run meets other batches and other noise."""
        return seeding.seed_for(self.config.seed, "attempt", self.attempt) if self.attempt else self.config.seed

    @property
    def rate_factor(self) -> float:
        """By how much the learning rates are lower for having gone back."""
        return self.config.watch.learning_rate_factor**self.attempt

    def is_finite(self) -> bool:
        """Return whether all weights and statistics are finite numbers."""
        tensors = [each for network in self.networks().values() for each in network.state_dict().values()]
        floats = [each for each in tensors if each.is_floating_point()]
        return bool(torch.stack(torch._foreach_norm(floats)).isfinite().all())

    def state(self) -> dict[str, Any]:
        """Return everything that shapes the rest of the run; random states follow from seed and step."""
        parts = {**self.networks(), **self.optimizers(), **self.loss_scales()}
        remembered = {name: getattr(self, name) for name in self.remembered}
        own = {"loss_sums": self.loss_sums, "spent": self.spent}
        return {**{name: part.state_dict() for name, part in parts.items()}, **own, **remembered}

    def resume(self, store: StateStore) -> StateStore:
        """Go on from the newest state in `store`, if there is one, and return where the run keeps its states.

        That is `store`, or, where more steps were taken there than are asked for now, a folder for runs of this length
        alone. It begins with the last good state of `store` through which such a run comes too, if one is kept.

        Raises:
            InputError: a state cannot be read or used.
        """
        saved, why, where = store.load(), "", ""
        taken = distributed.from_first(lambda: saved["step"] if saved is not None and self._is_beyond(saved) else None)
        if taken is not None:
            total, longer = self.schedule.total, store
            why = f"{self.schedule.setting} asks for {total:,} steps, and {longer.uri} has taken {taken:,}: "
            where, store = " in a folder of its own", longer.of_length(total)
            saved = store.load() or self._begin_with(longer, store)
        if saved is None:
            say(f"{self.name}: {why}starts from the beginning{where}; state for resuming in {store.uri}")
            return store
        self._restore(saved, store)
        then, now = saved.get("revision", "unknown"), store.revision
        other = "" if then == now else f"; saved by another revision of attngan, {then}, this is {now}"
        say(f"{self.name}: {why}goes on after step {self.step:,}{where} ({store.uri}){other}")
        return store

    def _begin_with(self, longer: StateStore, store: StateStore) -> dict[str, Any] | None:
        """Take over and return the last good state of a longer run through which this one comes too, if one is kept."""
        saved = longer.last_good(at_most=self.schedule.total, fits=self._comes_through)
        if saved is not None and distributed.is_first():
            store.take_over(longer, saved)
        return saved

    def _is_beyond(self, saved: Mapping[str, Any]) -> bool:
        """Return whether a state is of more steps than are asked for; with the last one the run is looked at too."""
        total = self.schedule.total
        return saved["step"] > total or (saved["step"] == total and total not in self._looks(saved))

    def _comes_through(self, saved: Mapping[str, Any]) -> bool:
        """Return whether a run of this length comes through a state: it went not back, and all looks are its own."""
        is_own = all(self.schedule.is_look(step) for step in self._looks(saved))
        return is_own and saved["step"] > 0 and not saved.get("attempt") and not self._is_beyond(saved)

    def _looks(self, saved: Mapping[str, Any]) -> list[float]:
        """Return after which steps the run of a state was looked at."""
        return [row["step"] for row in saved.get("rows", []) if self.look_figure in row]

    def go_back(self, store: StateStore) -> None:
        """Go on from the newest good state in `store`, with lower learning rates."""
        attempt, events, spent = self.attempt + 1, self.events, self.spent
        self._restore(store.load(good=True) or {}, store)
        self.attempt, self.events, self._spent_before = attempt, events, spent
        self.set_learning_rates()

    def _restore(self, saved: dict[str, Any], store: StateStore) -> None:
        for name, part in {**self.networks(), **self.optimizers()}.items():
            states.restore(part, saved.get(name), name=name, where=store.uri)
        for name, scale in self.loss_scales().items():
            if name in saved:  # not in a state of another precision
                states.restore(scale, saved[name], name=name, where=store.uri)
        for optimizer in self.optimizers().values():
            for group in optimizer.param_groups:
                group["capturable"] = self.recorder is not None  # whatever the run did that the state is of
        self.forget_records()  # they are of the optimizers' state before
        self.step = saved["step"]
        self.loss_sums = saved["loss_sums"].to(self.device)
        for name in self.remembered:
            setattr(self, name, saved.get(name, getattr(self, name)))
        spent = saved.get("spent")  # older states do not say
        self._spent_before, self._began = spent if isinstance(spent, float) else None, time.monotonic()
