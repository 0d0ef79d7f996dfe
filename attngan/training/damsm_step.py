"""One step of the encoders' training (the DAMSM, section 3.2)."""

import torch
from torch import nn

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
    """Take a step on the first `size` pictures of its batch, to see whether they fit in the memory."""
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
    images, captions = run.see(batch), run.text_encoder(batch.word_ids, batch.lengths)
    gammas, gather = run.config.damsm.gammas, distributed.gather
    with run.autocast():
        parts = damsm_losses(images, captions, batch.is_padding, batch.class_ids, **gammas, gather=gather)
    losses = torch.stack(list(parts.values()))
    run.optimizer.zero_grad(set_to_none=True)
    run.gradients.backward(losses.sum())
    nn.utils.clip_grad_norm_(run.text_encoder.parameters(), run.config.damsm.max_text_gradient_norm)
    run.optimizer.step()
    run.loss_sums += losses.detach()
