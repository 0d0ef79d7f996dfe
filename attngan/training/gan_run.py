"""Everything an adversarial training run holds: networks, optimizers, the best so far."""

from pathlib import Path

import torch
from torch import Tensor, nn

from attngan import seeding
from attngan.config.settings import Config
from attngan.data.captions import Vocabulary
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.inference import published, trained_encoders, weights
from attngan.losses.damsm import DAMSM_LOSSES
from attngan.metrics import names
from attngan.models.batch_norm import synchronize_batch_norms_
from attngan.models.ema import averaged_copy
from attngan.models.projected_discriminator import ProjectedDiscriminator
from attngan.runtime import acceleration, distributed
from attngan.storage import artifacts
from attngan.training import schedule
from attngan.training.caption_features import CaptionFeatures
from attngan.training.learner import Learner
from attngan.training.run import TrainingRun

NUM_LOSSES = 4 + len(DAMSM_LOSSES)  # those that a training step returns, beside the discriminators' opinions
OPINIONS = ("real", "generated", "mismatched")  # a discriminator has one of each kind of picture


class GanRun(TrainingRun):
    """The generator, its average, a discriminator for each resolution that it draws, and one that is projected.

    Args:
        config: the run's settings.
        train: the training pictures, whose vocabulary the encoders must share.
        damsm: folder of `pretrain_damsm`.
        device: where everything lives.
    """

    section = "training"
    look_figure = "variety"
    remembered = (*TrainingRun.remembered, "num_summed", "best", "best_weights", "num_since_best", "judged_by")

    def __init__(self, config: Config, train: Dataset, damsm: Path, device: torch.device):
        projects = config.discriminator.projected.weight > 0
        num_losses = NUM_LOSSES + projects + len(OPINIONS) * len(config.resolutions)
        ways = {"cuda_graph": config.cuda_graph, "compiles": config.compile}
        super().__init__("generator", config, device, num_losses, **ways)
        self.schedule = schedule.of_generator(config, len(train))
        self.damsm_fingerprint = artifacts.check(damsm, "damsm")["fingerprint"]
        if Vocabulary.load(damsm / "vocabulary.json").words != train.vocabulary.words:
            raise InputError(f"{damsm}: its vocabulary is not the dataset's; pretrain the DAMSM on this dataset.")
        self.text_encoder, self.image_encoder = trained_encoders.load(damsm, config, len(train.vocabulary), device)
        self.captions = CaptionFeatures(
            self.text_encoder,
            train,
            max_words=config.data.max_words,
            precision=None if self.precision == torch.float32 else self.precision,
            device=device,
        )

        torch.manual_seed(seeding.seed_for(config.seed, "gan weights"))
        self.generator = weights.build_generator(config).to(device)
        self.generator_ema = averaged_copy(self.generator)
        self.discriminators = nn.ModuleList(weights.build_discriminators(config)).to(device)
        self.projected, self.frozen_sha256 = self._projected() if projects else (None, "")
        acceleration.channels_last_([*self.networks().values(), self.image_encoder])
        if distributed.world_size() > 1:
            synchronize_batch_norms_(self.generator, device)
            synchronize_batch_norms_(self.discriminators, device)
        self.generator_learner = self._learner(self.generator)
        self.discriminator_learners = [self._learner(each) for each in self.discriminators]
        self.projected_learner = None if self.projected is None else self._learner(self.projected)
        self.set_learning_rates()
        self.num_summed = 0  # steps, since the losses were last logged
        self.loss_names: list[str] = []
        self.best: dict[str, float] = {}  # snapshot
        self.best_weights: dict[str, Tensor] = {}  # of the averaged generator
        self.num_since_best = 0  # snapshots
        self.judged_by: dict[str, str | int] = {}  # how the figures of the best were measured

    @property
    def period(self) -> int:
        """Steps from one in which the projected discriminator takes part to the next."""
        return 1 if self.projected is None else self.config.discriminator.projected.every_steps

    @property
    def projects_now(self) -> bool:
        """Whether the projected discriminator takes part in this step."""
        return self.projected is not None and self.step % self.period == 0

    def networks(self) -> dict[str, nn.Module]:
        """Return all networks whose weights change, by name."""
        networks = {
            "generator": self.generator,
            "generator_ema": self.generator_ema,
            "discriminators": self.discriminators,
        }
        return networks if self.projected is None else networks | {"projected discriminator": self.projected}

    def learners(self) -> dict[str, Learner]:
        """Return the generator's and the discriminators'."""
        others = {f"optimizer of discriminator {i}": each for i, each in enumerate(self.discriminator_learners)}
        if self.projected_learner is not None:
            others["optimizer of the projected discriminator"] = self.projected_learner
        return {"generator's optimizer": self.generator_learner, **others}

    @property
    def batch_ratio(self) -> float:
        """How much larger the batch is than the one that the learning rates and the average's decay are meant for.

        Adam's rates are multiplied by its root (Malladi et al. 2022, "On the SDEs and Scaling Rules for Adaptive
        Gradient Algorithms"), the decay is raised to its power (Busbridge et al. 2023, "How to Scale Your EMA").
        """
        settings = self.config.training
        return settings.batch_size / (settings.rates_for_batch_size or settings.batch_size)

    @property
    def ema_decay(self) -> float:
        """Of the generator's average, for a step on this batch."""
        return self.config.training.ema_decay**self.batch_ratio

    def set_learning_rates(self) -> None:
        """Give every optimizer its rate: of a larger batch higher by the root, lower where the run went back."""
        settings = self.config.training
        for learner in self.learners().values():
            is_generator = learner is self.generator_learner
            rate = settings.generator_learning_rate if is_generator else settings.discriminator_learning_rate
            for group in learner.optimizer.param_groups:
                group["lr"] = rate * self.batch_ratio**0.5 * self.rate_factor
        self.forget_records()  # they hold the rates

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add a step's losses to what will be logged."""
        self.loss_sums += torch.stack(list(losses.values()))
        self.num_summed += 1
        self.loss_names = list(losses)

    def take_mean_losses(self) -> dict[str, float]:
        """Return the means since the last call, over all processes, and start anew."""
        means = (distributed.average(self.loss_sums) / max(self.num_summed, 1)).tolist()
        self.loss_sums.zero_()
        self.num_summed = 0
        return dict(zip(self.loss_names, means, strict=True))

    def synchronize_losses(self) -> dict[str, float]:
        """Put the mean over all processes in the place of each one's sums, and return it."""
        self.loss_sums = distributed.average(self.loss_sums)
        return dict(zip(self.loss_names, self.loss_sums.tolist(), strict=True))

    def keep_if_best(self, figures: dict[str, float], metric: str) -> None:
        """Keep a copy of the averaged generator if no snapshot before was better.

        Of two that are as good the later one is kept, which has learnt for longer, though it is no better one.
        """
        sign = 1 if names.is_higher_better(metric, otherwise=True) else -1
        gain = sign * (figures[metric] - self.best[metric]) if self.best else 1.0
        self.num_since_best = 0 if gain > 0 else self.num_since_best + 1
        if gain >= 0:
            self.best = {"step": self.step, **figures}
            self.best_weights = {name: tensor.clone() for name, tensor in self.generator_ema.state_dict().items()}

    def _projected(self) -> tuple[ProjectedDiscriminator, str]:
        """Return the discriminator on a frozen network, and the sha256 of that network's weights."""
        settings = self.config.discriminator.projected
        frozen, sha256 = published.projected_network(settings)
        acceleration.channels_last_([frozen.to(self.device)])
        made = ProjectedDiscriminator(
            frozen,
            resolution=self.config.resolutions[-1],
            text_dim=self.config.text_encoder.feature_dim,
            channels=settings.channels,
        )
        return made.to(self.device), sha256

    def _learner(self, network: nn.Module) -> Learner:
        betas, in_graph = (self.config.training.beta1, 0.999), self.recorder is not None
        adam = torch.optim.Adam(network.parameters(), betas=betas, fused=True, capturable=in_graph)
        return Learner(network, adam, self.new_loss_scale())
