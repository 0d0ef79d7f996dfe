"""Everything a DAMSM pretraining holds: encoders, optimiser, position, the best so far; and its state for resuming."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attngan import checkpoint, distributed, seeding, weights
from attngan.checkpoint import StateStore
from attngan.config import Config
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.losses.damsm import DAMSM_LOSSES
from attngan.models.batch_norm import synchronise_batch_norms_
from attngan.models.image_encoder import ImageEncoder, SmallImageEncoder, load_inception_trunk
from attngan.models.text_encoder import TextEncoder
from attngan.run_log import say


class DamsmRun:
    """A run at its first step; `resume` moves it on to its last saved one.

    Args:
        config: the run's settings.
        train: the training pictures.
        device: where everything lives.
        inception_weights: torchvision's ImageNet state dict for the trunk; None leaves it random, and trains it.
    """

    def __init__(self, config: Config, train: Dataset, device: torch.device, inception_weights: Path | None):
        self.config = config
        self.device = device
        torch.manual_seed(seeding.seed_for(config.seed, "damsm weights"))
        self.text_encoder: TextEncoder = weights.build_text_encoder(config, len(train.vocabulary)).to(device)
        self.image_encoder: ImageEncoder | SmallImageEncoder = weights.build_image_encoder(config).to(device)
        if isinstance(self.image_encoder, ImageEncoder):
            self._prepare_trunk(self.image_encoder, inception_weights)
        if distributed.world_size() > 1:
            synchronise_batch_norms_(self.image_encoder, device)
        trained = [*self.text_encoder.parameters(), *self.image_encoder.parameters()]
        trained = [parameter for parameter in trained if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=config.damsm.learning_rate, betas=(0.5, 0.999), fused=True)
        self.steps_per_epoch = len(train) // config.damsm.batch_size
        self.step = 0
        self.loss_sums = torch.zeros(len(DAMSM_LOSSES), device=device)  # of the epoch so far
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, dict[str, Tensor]] = {}
        self.rows: list[dict[str, float]] = []

    def _prepare_trunk(self, encoder: ImageEncoder, inception_weights: Path | None) -> None:
        if inception_weights is None:
            say("no Inception weights given: the image encoder's trunk starts at random and is trained too.")
            encoder.trunk.requires_grad_(True)
            return
        try:
            load_inception_trunk(encoder, weights.read_tensors(inception_weights))
        except ValueError as error:
            raise InputError(f"{inception_weights}: {error}; give torchvision's inception_v3 ImageNet file.") from None

    def networks(self) -> dict[str, nn.Module]:
        """Return both encoders by name."""
        return {"text_encoder": self.text_encoder, "image_encoder": self.image_encoder}

    def state(self) -> dict[str, Any]:
        """Return everything that shapes the rest of the run; random states follow from seed and step."""
        return {
            **{name: network.state_dict() for name, network in self.networks().items()},
            "optimiser": self.optimiser.state_dict(),
            "loss_sums": self.loss_sums,
            "best": self.best,
            "best_weights": self.best_weights,
            "rows": self.rows,
        }

    def resume(self, store: StateStore) -> None:
        """Go on from the newest state in `store`, if there is one; InputError where it cannot be read or used."""
        saved = store.load()
        if saved is None:
            say(f"DAMSM: starts from the beginning; state for resuming in {store.uri}")
            return
        for name, network in self.networks().items():
            checkpoint.restore(network, saved[name], name=name, where=store.uri)
        checkpoint.restore(self.optimiser, saved["optimiser"], name="optimiser", where=store.uri)
        self.step, self.loss_sums = saved["step"], saved["loss_sums"].to(self.device)
        self.best, self.best_weights, self.rows = saved["best"], saved["best_weights"], saved["rows"]
        say(f"DAMSM: goes on after step {self.step:,} ({store.uri})")

    def keep_if_best(self, figures: dict[str, float]) -> None:
        """Keep a copy of both encoders if no epoch before found captions better."""
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
        """Put the best epoch's weights back into the encoders."""
        for name, network in self.networks().items():
            network.load_state_dict(self.best_weights[name])
