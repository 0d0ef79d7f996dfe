"""Step: train both encoders on matching pictures and captions (the DAMSM, section 3.2).

Every epoch ends with a retrieval test on the classes that training does not see; the best encoders are kept.
"""

from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from attngan import artifacts, checkpoint, seeding, weights
from attngan import config as configs
from attngan.config import Config
from attngan.data.dataset import Batch, Dataset
from attngan.errors import InputError
from attngan.losses.damsm import sentence_loss, word_loss
from attngan.metrics.retrieval import recall_at
from attngan.models.image_encoder import ImageEncoder, SmallImageEncoder, load_inception_trunk
from attngan.models.text_encoder import TextEncoder
from attngan.run_log import RunLog, check_finite, progress, say

RETRIEVAL_POOL = 100  # captions that a picture chooses among in validation
LOSSES = ("words_image_to_text", "words_text_to_image", "sentence_image_to_text", "sentence_text_to_image")


def pretrain_damsm(
    dataset: Path, out: Path, config: Config, *, inception_weights: Path | None = None, state: Path | None = None
) -> dict[str, float]:
    """Train the encoders and write the `damsm` folder.

    Args:
        dataset: folder of `preprocess`.
        out: gets encoders, vocabulary, config, figures, manifest.
        config: reads `damsm`, `text_encoder`, `image_encoder`, `data`, `seed`, `device`.
        inception_weights: torchvision's ImageNet state dict of Inception-v3, a `.pth` or `.safetensors` file; without it
            Inception's trunk has random weights and is trained too.
        state: folder for the state of resuming; `<out>.state` when None.

    Returns:
        The best epoch's figures: recall at 1 and at 5 among 100 captions, and the epoch.
    """
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    if len(train) < config.damsm.batch_size:
        raise InputError(
            f"{dataset}: {len(train)} training pictures are fewer than damsm.batch_size {config.damsm.batch_size}; lower it."
        )
    device = weights.choose_device(config)
    run = _Run(config, train, device, inception_weights)
    key = {
        "config": config.model_dump(include={"seed", "data", "text_encoder", "image_encoder", "damsm"}),
        "dataset": train.manifest["fingerprint"],
        "inception": artifacts.sha256_of(inception_weights) if inception_weights else None,
        "code": artifacts.source_digest("models", "losses", "data", "pretrain_damsm.py"),
    }
    folder = checkpoint.state_folder(
        state or out.with_name(out.name + ".state"), step_name="pretrain_damsm", key=key
    )
    artifacts.begin(out)
    run.resume(folder)
    log = RunLog(out, run.rows)
    _train(run, train, test, log, folder)

    run.load_best()
    weights.save_weights(out / "text_encoder.safetensors", run.text_encoder)
    weights.save_weights(out / "image_encoder.safetensors", run.image_encoder)
    train.vocabulary.save(out / "vocabulary.json")
    artifacts.write_text(out / "config.yaml", configs.dump(config))
    artifacts.write_json(out / "retrieval.json", run.best)
    files = ["text_encoder.safetensors", "image_encoder.safetensors", "vocabulary.json", "config.yaml", "retrieval.json"]
    artifacts.finish(out, "damsm", [*files, *log.close()], dataset=train.manifest["fingerprint"], retrieval=run.best)
    return run.best


class _Run:
    """The encoders, their optimiser, and everything a checkpoint holds."""

    def __init__(self, config: Config, train: Dataset, device: torch.device, inception_weights: Path | None):
        self.config = config
        self.device = device
        torch.manual_seed(seeding.seed_for(config.seed, "damsm weights"))
        self.text_encoder: TextEncoder = weights.build_text_encoder(config, len(train.vocabulary)).to(device)
        self.image_encoder: ImageEncoder | SmallImageEncoder = weights.build_image_encoder(config).to(device)
        if isinstance(self.image_encoder, ImageEncoder):
            self._prepare_trunk(self.image_encoder, inception_weights)
        trained = [*self.text_encoder.parameters(), *self.image_encoder.parameters()]
        trained = [parameter for parameter in trained if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=config.damsm.learning_rate, betas=(0.5, 0.999), fused=True)
        self.steps_per_epoch = len(train) // config.damsm.batch_size
        self.step = 0
        self.loss_sums = torch.zeros(len(LOSSES), device=device)  # of the epoch so far
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, dict[str, Tensor]] = {}
        self.rows: list[dict[str, float]] = []

    def _prepare_trunk(self, encoder: ImageEncoder, inception_weights: Path | None) -> None:
        if inception_weights is None:
            say("no Inception weights given: the image encoder's trunk starts at random and is trained too.")
            encoder.trunk.requires_grad_(True)
            return
        try:
            load_inception_trunk(encoder, _read_tensors(inception_weights))
        except ValueError as error:
            raise InputError(f"{inception_weights}: {error}; give torchvision's inception_v3 ImageNet file.") from None

    def networks(self) -> dict[str, nn.Module]:
        return {"text_encoder": self.text_encoder, "image_encoder": self.image_encoder}

    def state(self) -> dict[str, Any]:
        return {
            **{name: network.state_dict() for name, network in self.networks().items()},
            "optimiser": self.optimiser.state_dict(),
            "loss_sums": self.loss_sums,
            "best": self.best,
            "best_weights": self.best_weights,
            "rows": self.rows,
        }

    def resume(self, folder: Path) -> None:
        saved = checkpoint.load(folder)
        if saved is None:
            say(f"DAMSM: starts from the beginning; state for resuming in {folder}")
            return
        for name, network in self.networks().items():
            checkpoint.restore(network, saved[name], name=name, folder=folder)
        checkpoint.restore(self.optimiser, saved["optimiser"], name="optimiser", folder=folder)
        self.step, self.loss_sums = saved["step"], saved["loss_sums"].to(self.device)
        self.best, self.best_weights, self.rows = saved["best"], saved["best_weights"], saved["rows"]
        say(f"DAMSM: goes on after step {self.step:,} ({folder})")

    def keep_if_best(self, figures: dict[str, float]) -> None:
        if not self.best or (figures["recall_at_1"], figures["recall_at_5"]) > (
            self.best["recall_at_1"],
            self.best["recall_at_5"],
        ):
            self.best = figures
            self.best_weights = {
                name: {key: tensor.clone() for key, tensor in network.state_dict().items()}
                for name, network in self.networks().items()
            }

    def load_best(self) -> None:
        for name, network in self.networks().items():
            network.load_state_dict(self.best_weights[name])


def _train(run: _Run, train: Dataset, test: Dataset, log: RunLog, folder: Path) -> None:
    """Run all epochs that are left; save the state now and then, at the end, and when told to stop."""
    settings, batch_size = run.config.damsm, run.config.damsm.batch_size
    total = settings.epochs * run.steps_per_epoch
    timer = checkpoint.Timer(settings.checkpoint_every_seconds)
    bar = progress("DAMSM", total=total * batch_size, unit="images", start=run.step * batch_size)
    with bar as advance, checkpoint.stop_request() as stop:
        while run.step < total:
            epoch, position = divmod(run.step, run.steps_per_epoch)
            if position == 0:
                run.loss_sums.zero_()
            _set_learning_rate(run, epoch)
            order = torch.randperm(len(train), generator=seeding.generator_for(run.config.seed, "damsm order", epoch))
            batch = train.training_batch(
                order[position * batch_size :][:batch_size],
                resolutions=[run.config.data.resolution],
                max_words=run.config.data.max_words,
                generator=seeding.generator_for(run.config.seed, "damsm batch", run.step),
            )
            _training_step(run, batch)
            run.step += 1
            advance(batch_size)
            if position == run.steps_per_epoch - 1:
                figures = _end_epoch(run, epoch + 1, test, log)
                advance(0, f"loss {figures['loss']:.2f}, R@1 {figures['recall_at_1']:.1%}")
            if stop or timer.due() or run.step == total:
                run.rows = log.rows
                checkpoint.save(folder, run.step, run.state())
            if stop:
                stop.stop()


def _training_step(run: _Run, batch: Batch) -> None:
    """Take one optimisation step (released code: pretrain_DAMSM.py)."""
    torch.manual_seed(seeding.seed_for(run.config.seed, "damsm dropout", run.step))
    run.text_encoder.train()
    run.image_encoder.train()
    batch = batch.to(run.device)
    losses = torch.stack(_damsm_losses(run, batch))
    run.optimiser.zero_grad(set_to_none=True)
    losses.sum().backward()
    nn.utils.clip_grad_norm_(run.text_encoder.parameters(), run.config.damsm.max_text_gradient_norm)
    run.optimiser.step()
    run.loss_sums += losses.detach()


def _damsm_losses(run: _Run, batch: Batch) -> list[Tensor]:
    settings = run.config.damsm
    word_features, sentence_feature = run.text_encoder(batch.word_ids, batch.lengths)
    region_features, image_feature = run.image_encoder(batch.images[-1])
    words = word_loss(
        region_features,
        word_features,
        batch.is_padding,
        batch.class_ids,
        gamma1=settings.gamma1,
        gamma2=settings.gamma2,
        gamma3=settings.gamma3,
    )
    sentence = sentence_loss(image_feature, sentence_feature, batch.class_ids, gamma3=settings.gamma3)
    return [*words, *sentence]


def _end_epoch(run: _Run, epoch: int, test: Dataset, log: RunLog) -> dict[str, float]:
    means = (run.loss_sums / run.steps_per_epoch).tolist()
    losses = dict(zip(LOSSES, means, strict=True))
    check_finite(run.step, losses)
    figures = {"epoch": float(epoch), **_validate(run, test)}
    run.keep_if_best(figures)
    figures = {**figures, **losses, "loss": sum(means), "learning_rate": run.optimiser.param_groups[0]["lr"]}
    log.write(step=run.step, **figures)
    return figures


@torch.no_grad()
def _validate(run: _Run, test: Dataset) -> dict[str, float]:
    """Return recall at 1 and 5 of held-out pictures among pools of 100 captions: centre crop, first caption."""
    run.text_encoder.eval()
    run.image_encoder.eval()
    order = torch.randperm(len(test), generator=seeding.generator_for(run.config.seed, "damsm validation"))
    pools = list(order.split(RETRIEVAL_POOL))
    if len(pools) > 1 and len(pools[-1]) < RETRIEVAL_POOL:
        pools.pop()  # a smaller pool is an easier question
    found = {1: 0.0, 5: 0.0}
    for pool in pools:
        batch = test.evaluation_batch(
            pool, [0] * len(pool), resolutions=[run.config.data.resolution], max_words=run.config.data.max_words
        ).to(run.device)
        _, sentence_feature = run.text_encoder(batch.word_ids, batch.lengths)
        _, image_feature = run.image_encoder(batch.images[-1])
        captions = [test.records[index]["captions"][0] for index in pool.tolist()]
        for k in found:
            found[k] += recall_at(image_feature, sentence_feature, captions, k=k) / len(pools)
    return {"recall_at_1": found[1], "recall_at_5": found[5]}


def _set_learning_rate(run: _Run, epoch: int) -> None:
    """Decay the rate in place; Adam keeps its moments (the released code makes a new Adam each epoch)."""
    settings = run.config.damsm
    share = max(settings.learning_rate_decay**epoch, settings.min_learning_rate_share)
    for group in run.optimiser.param_groups:
        group["lr"] = settings.learning_rate * share


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give torchvision's ImageNet weights of Inception-v3.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        detail = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not readable as a state dict of tensors ({detail}).") from None
