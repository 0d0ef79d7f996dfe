"""One step of the encoders' training (the DAMSM, section 3.2)."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from attngan import seeding
from attngan.data.dataset import Batch, Dataset
from attngan.data.sampling import batch_of_step
from attngan.losses.damsm import damsm_losses
from attngan.runtime import distributed
from attngan.training.damsm_run import DamsmRun


def batch_for(run: DamsmRun, train: Dataset, step: int, seed: int) -> Batch:
    """Return the training batch of a step."""
    batch_size, data = run.config.damsm.batch_size, run.config.data
    part = distributed.part(batch_size) if run.trunk is None else slice(0)  # where features are kept, captions only
    return batch_of_step(
        train,
        step,
        batch_size=batch_size,
        resolutions=[data.resolution],
        max_words=data.max_words,
        seed=seed,
        purpose="damsm",
        part=part,
        device=run.device,
    )


def try_step(run: DamsmRun, train: Dataset, size: int) -> None:
    """Take a step on the first `size` pictures of its batch, to see whether they fit in the memory; never recorded."""
    run.try_out()
    training_step(run, batch_for(run, train, run.step, run.seed).first(size))


def take_step(run: DamsmRun, batch: Batch) -> None:
    """Take the run's next step at its learning rate; the first one after a validation forgets the losses before it."""
    if run.step % run.schedule.interval == 0:
        run.loss_sums.zero_()
    run.set_learning_rates()
    training_step(run, batch)


def training_step(run: DamsmRun, batch: Batch) -> None:
    """Take one optimization step (released code: pretrain_DAMSM.py).

    Several processes have a part of the pictures each, and all captions; all of them compute the losses of the batch.
    """
    torch.manual_seed(seeding.seed_for(run.seed, "damsm step", run.step))
    run.text_encoder.train()
    run.image_encoder.train()
    batch = batch.to(run.device)
    missing = (0, max(0, run.padded_to - batch.word_ids.shape[1]))
    word_ids, is_padding = (
        functional.pad(batch.word_ids, missing),
        functional.pad(batch.is_padding, missing, value=True),
    )
    # In a recorded step nothing can be asked of the CPU.
    lengths = batch.lengths if run.recorder is None else batch.lengths.to(run.device, non_blocking=True)
    inputs = (word_ids, lengths, is_padding, batch.class_ids, *run.pictures_of(batch))
    run.loss_sums += run.perform(functools.partial(_update, run), *inputs)["losses"]


def _update(
    run: DamsmRun, word_ids: Tensor, lengths: Tensor, is_padding: Tensor, class_ids: Tensor, *looked_at: Tensor
) -> dict[str, Tensor]:
    """Take a step on what lies on the device; nothing here waits for it or looks at a value, so a graph can hold it.

    Args:
        run: changed in place.
        word_ids: (B, T), of the whole batch.
        lengths: (B,), words of each caption.
        is_padding: (B, T), True where a caption has no word.
        class_ids: (B,).
        looked_at: by this process, what `DamsmRun.pictures_of` returns.

    Returns:
        The parts of the loss (4,) as "losses".
    """
    images, captions = run.see(*looked_at), run.text_encoder(word_ids, lengths)
    gammas, gather = run.config.damsm.gammas, distributed.gather
    with run.autocast():
        parts = damsm_losses(images, captions, is_padding, class_ids, **gammas, gather=gather)
    losses = torch.stack(list(parts.values()))
    text, most = run.text_encoder.parameters(), run.config.damsm.max_text_gradient_norm
    run.learner.learn(losses.sum(), before_step=lambda: nn.utils.clip_grad_norm_(text, most))
    return {"losses": losses.detach()}
