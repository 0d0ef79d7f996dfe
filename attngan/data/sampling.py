"""Which pictures a training step sees: a function of (seed, step) alone, so that a resumed run sees the same ones."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

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
    device: torch.device | str = "cpu",
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
        device: where the batch is wanted.
    """
    epoch, position = divmod(step, len(dataset) // batch_size)
    order = torch.randperm(len(dataset), generator=seeding.rng_for(seed, purpose, "order", epoch))
    return dataset.training_batch(
        order[position * batch_size :][:batch_size],
        resolutions=resolutions,
        max_words=max_words,
        rng=seeding.rng_for(seed, purpose, "batch", step),
        part=part,
        device=device,
    )


def spread(total: int, count: int) -> list[int]:
    """Return `count` of `total` numbers, or all of them, spread evenly from 0."""
    count = min(count, total)
    return [number * total // count for number in range(count)]


class BatchesAhead:
    """Makes the batch of the next step in a thread while that of this step is used; a context.

    Where the training itself runs on the CPU there is nothing to wait for, and a second thread that computes would make
    torch's threads of both fight for the cores: half the speed on two of them. There batches are made when taken.

    Args:
        make: the batch of a step, from step and seed.
        device: that trains.
    """

    def __init__(self, make: Callable[[int, int], Batch], device: torch.device):
        self.make, self.is_ahead = make, device.type != "cpu"
        self._thread = ThreadPoolExecutor(max_workers=1, initializer=_take_device, initargs=(device,))
        self._key: tuple[int, int] | None = None
        self._ahead: Future[Batch] | None = None

    def __enter__(self) -> "BatchesAhead":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def take(self, step: int, seed: int) -> Batch:
        """Return the batch of a step, and begin with that of the next one."""
        if not self.is_ahead:
            return self.make(step, seed)
        batch = self._made(step, seed)
        if batch is None:
            batch = self.make(step, seed)
        self._key = (step + 1, seed)
        self._ahead = self._thread.submit(self.make, *self._key)
        return batch

    def _made(self, step: int, seed: int) -> Batch | None:
        """Return the batch that the thread made; None if it made another one, or there was no memory beside a step."""
        if self._ahead is None or self._key != (step, seed):
            return None
        try:
            return self._ahead.result()
        except torch.OutOfMemoryError:
            return None


def _take_device(device: torch.device) -> None:
    """Make a CUDA device the current one of this thread, as torch does in that of its own that pins memory."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
