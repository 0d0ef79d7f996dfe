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
        setting: that says how long it is.
    """

    steps_per_epoch: int
    total: int
    interval: int
    setting: str

    @property
    def num_looks(self) -> int:
        """How often the training is looked at; the last time after its last step."""
        return -(-self.total // self.interval)

    def is_look(self, step: int) -> bool:
        """Return whether the training is looked at after so many steps."""
        return step % self.interval == 0 or step == self.total


def of_encoders(config: Config, num_pictures: int) -> Schedule:
    """Return the schedule of the encoders' training on so many pictures."""
    settings = config.damsm
    return _schedule("damsm", settings, num_pictures, settings.validate_every_epochs)


def of_generator(config: Config, num_pictures: int) -> Schedule:
    """Return the schedule of the generator's training on so many pictures."""
    return _schedule("training", config.training, num_pictures, config.watch.every_epochs)


def _schedule(section: str, settings: Damsm | Training, num_pictures: int, look_every_epochs: float) -> Schedule:
    steps_per_epoch = num_pictures // settings.batch_size
    return Schedule(
        steps_per_epoch=steps_per_epoch,
        total=settings.steps or settings.epochs * steps_per_epoch,
        interval=max(1, round(look_every_epochs * steps_per_epoch)),
        setting=f"{section}.{'steps' if settings.steps else 'epochs'}",
    )
