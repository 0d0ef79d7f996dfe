"""Step: train both encoders on matching pictures and captions (the DAMSM, section 3.2).

Every epoch ends with a retrieval test on the classes that training does not see; the best encoders are kept.
"""

import contextlib
import functools
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attngan import acceleration, artifacts, checkpoint, distributed, feasible, seeding, stopping, weights
from attngan.config import Config
from attngan.damsm_features import kept_features
from attngan.damsm_progress import PAGE, DamsmProgress
from attngan.damsm_run import DamsmRun
from attngan.data.dataset import Batch, Dataset
from attngan.data.sampling import BatchesAhead, batch_of_step
from attngan.launcher import over_processes
from attngan.losses.damsm import DAMSM_LOSSES, damsm_losses
from attngan.metrics.retrieval import recall_at
from attngan.run_log import RunLog, progress, say
from attngan.watcher import Watcher

RETRIEVAL_POOL = 100  # captions that a picture chooses among in validation
RETRIEVAL_ROUNDS = 5  # validation asks with as many captions of each picture: one alone would choose the best by luck


@over_processes("damsm.batch_size")
def pretrain_damsm(
    dataset: Path, out: Path, config: Config, *, inception_weights: Path | None = None, state: str | None = None
) -> dict[str, float]:
    """Train the encoders and write the `damsm` folder.

    Args:
        dataset: folder of `preprocess`.
        out: gets encoders, vocabulary, config, figures, manifest.
        config: reads `damsm`, `text_encoder`, `image_encoder`, `data`, `seed`, `device`.
        inception_weights: torchvision's ImageNet state dict of Inception-v3, `.pth` or `.safetensors`; without it
            Inception's trunk starts at random and is trained too.
        state: folder for the state of resuming, local or gs://; `<out>.state` when None.

    Returns:
        The best epoch's figures: recall at 1 and at 5 among 100 captions, and the epoch.
    """
    with distributed.first_result(out, "damsm", inputs=[dataset, inception_weights]) as draft:
        return _pretrained(dataset, draft, config, inception_weights, state or f"{out}.state")


def _pretrained(
    dataset: Path, out: Path, config: Config, inception_weights: Path | None, state: str
) -> dict[str, float]:
    """Train the encoders, and write their folder where it is made; return the best epoch's figures."""
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    feasible.check(config, dataset, train, test, evaluates=False)
    run = DamsmRun(config, train, weights.choose_device(config), inception_weights)
    key = {
        "config": _shaping(config),
        "dataset": train.manifest["fingerprint"],
        "inception": artifacts.sha256_of(inception_weights) if inception_weights else None,
    }
    store = checkpoint.StateStore(state, step_name="pretrain_damsm", key=key)
    run.resume(store)
    distributed.check_same(run.step, f"{store.uri}: the step to go on from")
    log = RunLog(out if distributed.is_first() else None, run.rows)
    total = config.damsm.epochs * run.steps_per_epoch
    checkpoint.check_not_beyond(run.step, total, store.uri, setting="damsm.epochs")
    page = DamsmProgress(run, test, out, total, log) if distributed.is_first() else None
    features = kept_features(run, train, test, key) if run.step < total else contextlib.nullcontext()
    with store, features:
        _train(run, train, test, total, page, Watcher(run, log, store))
        if page is not None:
            page.draw(store, last=True)
    if distributed.is_first():
        run.load_best()
        files = weights.save_damsm(out, run.text_encoder, run.image_encoder, train.vocabulary, run.config)
        artifacts.write_json(out / "retrieval.json", run.best)
        files += ["retrieval.json", PAGE, *log.close()]
        artifacts.finish(out, "damsm", files, dataset=train.manifest["fingerprint"], retrieval=run.best)
    return run.best


def _shaping(config: Config) -> dict[str, Any]:
    """Return the settings that shape the states of a run, beside its data."""
    shaping = config.shaping()
    settings = {name: shaping[name] for name in ("seed", "precision", "data", "text_encoder", "image_encoder", "damsm")}
    del settings["damsm"]["epochs"]  # more epochs go on from what is there
    settings["data"] = config.data.model_dump(include={"resolution", "max_words"})  # the rest made the dataset
    settings["watch"] = config.watch.model_dump(include={"every_epochs", "learning_rate_factor"})
    return settings


def _train(
    run: DamsmRun, train: Dataset, test: Dataset, total: int, page: DamsmProgress | None, watcher: Watcher
) -> None:
    """Run all epochs that are left; save the state now and then, at snapshots, at the end, and when told to stop."""
    settings, batch_size = run.config.damsm, run.config.damsm.batch_size
    timer = checkpoint.Timer(settings.checkpoint_every_seconds)
    bar = progress("DAMSM", total=total * batch_size, unit="images", start=run.step * batch_size)
    batches = BatchesAhead(functools.partial(batch_for, run, train), run.device)
    fewer = functools.partial(try_step, run, train)
    with batches, bar as advance, stopping.stop_request() as stop:
        watcher.begin()
        while run.step < total:
            if run.step % run.steps_per_epoch == 0:
                run.loss_sums.zero_()
            run.set_learning_rates()
            before, note = run.step, None
            with acceleration.fitting("damsm.batch_size", batch_size, run.device, fewer):
                training_step(run, batches.take(run.step, run.seed))
            run.step += 1
            if page is not None and (forecast := page.pace.forecast(run.step)):
                say(f"DAMSM: {forecast}")
            must_stop, must_save = distributed.agreed(stop, distributed.is_first() and timer.due())
            if run.step % run.steps_per_epoch == 0:
                note = _end_epoch(run, test, watcher, must_save=must_stop or must_save, is_last=run.step == total)
                if page is not None:
                    page.draw(watcher.store)
            elif (must_stop or must_save) and watcher.is_sound(_losses(run)):
                watcher.save()
            advance((run.step - before) * batch_size, note)
            if must_stop:
                watcher.store.settle()
                stop.stop()


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


def training_step(run: DamsmRun, batch: Batch) -> None:
    """Take one optimisation step (released code: pretrain_DAMSM.py).

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
    run.optimiser.zero_grad(set_to_none=True)
    run.gradients.backward(losses.sum())
    nn.utils.clip_grad_norm_(run.text_encoder.parameters(), run.config.damsm.max_text_gradient_norm)
    run.optimiser.step()
    run.loss_sums += losses.detach()


def _end_epoch(run: DamsmRun, test: Dataset, watcher: Watcher, *, must_save: bool, is_last: bool) -> str | None:
    """Validate and log, unless the epoch went wrong; save the state if it is time; return a short note."""
    epoch = run.step // run.steps_per_epoch
    is_snapshot = is_last or epoch % max(1, round(run.config.watch.every_epochs)) == 0
    losses = _losses(run)
    if not watcher.is_sound(losses, thoroughly=is_snapshot):
        return None
    found = distributed.from_first(lambda: validate(run, test))
    run.keep_if_best({"epoch": float(epoch), **found})
    means = {name: total / run.steps_per_epoch for name, total in losses.items()}
    rate = run.optimiser.param_groups[0]["lr"]
    loss = sum(means.values())
    watcher.log.write(step=run.step, epoch=float(epoch), **found, **means, loss=loss, learning_rate=rate)
    if is_snapshot or must_save:
        watcher.save(good=is_snapshot)
    return f"loss {loss:.2f}, R@1 {found['recall_at_1']:.1%}"


def _losses(run: DamsmRun) -> dict[str, float]:
    """Return the sums of the epoch so far by name."""
    return dict(zip(DAMSM_LOSSES, run.loss_sums.tolist(), strict=True))


@torch.no_grad()
def validate(run: DamsmRun, test: Dataset) -> dict[str, float]:
    """Return recall at 1 and 5 of held-out pictures among pools of 100 captions: centre crop, first captions.

    Captions of a picture's own class do not count as wrong.
    """
    run.text_encoder.eval()
    run.image_encoder.eval()
    data = run.config.data
    order = torch.randperm(len(test), generator=seeding.generator_for(run.config.seed, "damsm validation"))
    pools = list(order.split(RETRIEVAL_POOL))
    if len(pools) > 1 and len(pools[-1]) < RETRIEVAL_POOL:
        pools.pop()  # a smaller pool is an easier question
    found = {1: 0.0, 5: 0.0}
    for pool in (part.tolist() for part in pools):
        if run.test_trunk is None:
            images = test.evaluation_batch(pool, [0] * len(pool), resolutions=[data.resolution], max_words=1)
            _, image_feature = run.image_encoder(images.to(run.device).images[-1])
        else:
            numbers = torch.tensor(pool)
            _, image_feature = run.image_encoder.project(
                *run.test_trunk.take(numbers, torch.zeros_like(numbers), run.device, torch.float32)
            )
        for caption in range(RETRIEVAL_ROUNDS):
            chosen = [(index, caption % test.captions_per_image(index)) for index in pool]
            texts = [test.records[index]["captions"][number] for index, number in chosen]
            word_ids, lengths = test.captions(*zip(*chosen, strict=True), max_words=data.max_words)
            _, sentence_feature = run.text_encoder(word_ids.to(run.device), lengths)
            for k in found:
                recall = recall_at(image_feature, sentence_feature, texts, test.class_ids[pool], k=k)
                found[k] += recall / (len(pools) * RETRIEVAL_ROUNDS)
    return {"recall_at_1": found[1], "recall_at_5": found[5]}
