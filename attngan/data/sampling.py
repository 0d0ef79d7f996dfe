"""Which pictures a training step sees: a function of (seed, step) alone, so that a resumed run sees the same ones."""

from collections.abc import Sequence

import torch

from attngan import seeding
from attngan.data.dataset import Batch, Dataset


def batch_of_step(
    dataset: Dataset,
    step: int,
    *,
    batch_size: int,
    resolutions: Sequence[int],
    max_words: int,
    seed: int,
    purpose: str,
    part: slice = slice(None),
) -> Batch:
    """Return a step's training batch: every epoch shuffles anew and leaves out what does not fill a batch.

    Args:
        dataset: at least `batch_size` pictures.
        step: from 0, over all epochs.
        batch_size: B.
        resolutions: sides in pixels, coarse to fine.
        max_words: longer captions lose words at random.
        seed: of the run.
        purpose: keeps the random states of different trainings apart.
        part: of the batch, whose pictures are read; captions are those of the whole batch.
    """
    epoch, position = divmod(step, len(dataset) // batch_size)
    order = torch.randperm(len(dataset), generator=seeding.generator_for(seed, purpose, "order", epoch))
    return dataset.training_batch(
        order[position * batch_size :][:batch_size],
        resolutions=resolutions,
        max_words=max_words,
        generator=seeding.generator_for(seed, purpose, "batch", step),
        part=part,
    )
