"""Everything an adversarial training run holds: networks, optimisers, position; and its state for resuming."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from attngan import artifacts, checkpoint, distributed, seeding, weights
from attngan.checkpoint import StateStore
from attngan.config import Config
from attngan.data.captions import Vocabulary
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.losses.damsm import DAMSM_LOSSES
from attngan.models.batch_norm import synchronise_batch_norms_
from attngan.models.ema import averaged_copy
from attngan.run_log import say

NUM_LOSSES = 4 + len(DAMSM_LOSSES)  # those that a training step returns


class GanRun:
    """A run at its first step; `resume` moves it on to its last saved one.

    Args:
        config: the run's settings.
        train: the training pictures, whose vocabulary the encoders must share.
        damsm: folder of `pretrain_damsm`.
        device: where everything lives.
    """

    def __init__(self, config: Config, train: Dataset, damsm: Path, device: torch.device):
        self.config, self.device = config, device
        self.damsm_fingerprint = artifacts.check(damsm, "damsm")["fingerprint"]
        if Vocabulary.load(damsm / "vocabulary.json").words != train.vocabulary.words:
            raise InputError(f"{damsm}: its vocabulary is not the dataset's; pretrain the DAMSM on this dataset.")
        self.text_encoder, self.image_encoder = weights.load_damsm(damsm, config, len(train.vocabulary), device)

        torch.manual_seed(seeding.seed_for(config.seed, "gan weights"))
        self.generator = weights.build_generator(config).to(device)
        self.average = averaged_copy(self.generator)
        self.discriminators = nn.ModuleList(weights.build_discriminators(config)).to(device)
        if distributed.world_size() > 1:
            synchronise_batch_norms_(self.generator, device)
            synchronise_batch_norms_(self.discriminators, device)
        settings = config.training
        self.generator_optimiser = _adam(self.generator, settings.generator_learning_rate, settings.beta1)
        self.discriminator_optimisers = [
            _adam(discriminator, settings.discriminator_learning_rate, settings.beta1)
            for discriminator in self.discriminators
        ]
        self.step = 0
        self.loss_sums = torch.zeros(NUM_LOSSES, device=device)  # since they were last logged
        self.num_summed = 0
        self.rows: list[dict[str, float]] = []

    def mean_losses(self, names: list[str]) -> dict[str, float]:
        """Return the means since the last call, over all processes, and start anew."""
        means = (distributed.average(self.loss_sums) / max(self.num_summed, 1)).tolist()
        self.loss_sums.zero_()
        self.num_summed = 0
        return dict(zip(names, means, strict=True))

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "averaged generator": self.average,
            "discriminators": self.discriminators,
            "generator's optimiser": self.generator_optimiser,
            **{f"optimiser of discriminator {i}": each for i, each in enumerate(self.discriminator_optimisers)},
        }

    def share_loss_sums(self) -> list[float]:
        """Put the mean over all processes in the place of each one's sums, and return it."""
        self.loss_sums = distributed.average(self.loss_sums)
        return self.loss_sums.tolist()

    def state(self) -> dict[str, Any]:
        """Return everything that shapes the rest of the run; random states follow from seed and step."""
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            "loss_sums": self.loss_sums,
            "num_summed": self.num_summed,
            "rows": self.rows,
        }

    def resume(self, store: StateStore) -> None:
        """Go on from the newest state in `store`, if there is one; InputError where it cannot be read or used."""
        saved = store.load()
        if saved is None:
            say(f"generator: starts from the beginning; state for resuming in {store.uri}")
            return
        for name, part in self._parts().items():
            checkpoint.restore(part, saved.get(name), name=name, where=store.uri)
        self.step, self.rows = saved["step"], saved["rows"]
        self.loss_sums, self.num_summed = saved["loss_sums"].to(self.device), saved["num_summed"]
        say(f"generator: goes on after step {self.step:,} ({store.uri})")


def _adam(network: nn.Module, learning_rate: float, beta1: float) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=learning_rate, betas=(beta1, 0.999), fused=True)
