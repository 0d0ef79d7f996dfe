"""How long a training is, and how often it is looked at, in steps: the settings say epochs, which depend on the set."""

import dataclasses

from attngan.config.settings import Config, Damsm, Training


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Of one training.

    Attributes:
        steps_per_epoch: what does not fill a batch is left out.
        total: steps of the whole training.
        interval: steps from one look to the next: a validation of the encoders, a snapshot of the generator.
        state_every: steps from one good state, which a run goes back to, to the next: whole intervals.
        setting: that says how long it is.
    """

    steps_per_epoch: int
    total: int
    interval: int
    state_every: int
    setting: str

    @property
    def num_looks(self) -> int:
        """How often the training is looked at; the last time after its last step."""
        return -(-self.total // self.interval)

    def is_look(self, step: int) -> bool:
        """Return whether the training is looked at after so many steps."""
        return step % self.interval == 0 or step == self.total

    @property
    def num_states(self) -> int:
        """How many good states are saved; the last one after the last step."""
        return -(-self.total // self.state_every)

    def is_state(self, step: int) -> bool:
        """Return whether the look after so many steps saves a good state."""
        return step % self.state_every == 0 or step == self.total


def of_encoders(config: Config, num_pictures: int) -> Schedule:
    """Return the schedule of the encoders' training on so many pictures."""
    return _schedule("damsm", config, num_pictures, config.damsm.validate_every_epochs)


def of_generator(config: Config, num_pictures: int) -> Schedule:
    """Return the schedule of the generator's training on so many pictures."""
    return _schedule("training", config, num_pictures, config.watch.every_epochs)


def _schedule(section: str, config: Config, num_pictures: int, look_every_epochs: float) -> Schedule:
    settings: Damsm | Training = getattr(config, section)
    steps_per_epoch = num_pictures // settings.batch_size
    interval = max(1, round(look_every_epochs * steps_per_epoch))
    return Schedule(
        steps_per_epoch=steps_per_epoch,
        total=settings.steps or settings.epochs * steps_per_epoch,
        interval=interval,
        state_every=interval * max(1, round(config.watch.every_epochs * steps_per_epoch / interval)),
        setting=f"{section}.{'steps' if settings.steps else 'epochs'}",
    )
