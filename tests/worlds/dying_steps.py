"""A machine that is gone in the middle of the generator's training."""

import contextlib
from collections.abc import Iterator

import pytest

from attngan.training import gan_step


@contextlib.contextmanager
def dying_at(stop_at: int) -> Iterator[None]:
    """Let the training that runs inside the block die before it takes this step."""
    taken = gan_step.training_step

    def dying_step(run, batch):
        if run.step == stop_at:
            raise RuntimeError("the machine is gone")
        return taken(run, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gan_step, "training_step", dying_step)
        with pytest.raises(RuntimeError):
            yield
