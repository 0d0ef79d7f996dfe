"""Everything a DAMSM pretraining holds: encoders, optimizer, the best so far."""

from pathlib import Path

import torch
from torch import Tensor, nn

from attngan import seeding
from attngan.config.settings import Config
from attngan.data.dataset import Batch, Dataset
from attngan.errors import InputError
from attngan.inference import weights
from attngan.losses.damsm import DAMSM_LOSSES
from attngan.models.batch_norm import synchronize_batch_norms_
from attngan.models.image_encoder import PretrainedImageEncoder, SmallImageEncoder, add_noise, load_trunk
from attngan.models.text_encoder import TextEncoder
from attngan.runtime import acceleration, distributed
from attngan.runtime.console import say
from attngan.storage import artifacts, tensor_files
from attngan.training import schedule
from attngan.training.learner import Learner
from attngan.training.run import TrainingRun
from attngan.training.trunk_features import TrunkFeatures


class DamsmRun(TrainingRun):
    """Both encoders. `loss_sums` are since the last validation.

    Args:
        config: the run's settings.
        train: the training pictures.
        device: where everything lives.
        inception_weights: for the trunk of `image_encoder.kind`: torchvision's ImageNet state dict, or the image
            encoder of a model; None leaves it random, and trains it.

    Raises:
        InputError: the weights are not of that kind, or not those of `damsm.inception_sha256`.
    """

    section = "damsm"
    look_figure = "recall_at_1"
    remembered = (*TrainingRun.remembered, "best", "best_weights")

    def __init__(self, config: Config, train: Dataset, device: torch.device, inception_weights: Path | None):
        cuda_graph = "on" if config.cuda_graph == "on" else "off"  # recorded on no GPU yet: not by itself
        super().__init__("DAMSM", config, device, len(DAMSM_LOSSES), cuda_graph=cuda_graph, compiles="off")
        torch.manual_seed(seeding.seed_for(config.seed, "damsm weights"))
        self.text_encoder: TextEncoder = weights.build_text_encoder(config, len(train.vocabulary)).to(device)
        self.image_encoder: PretrainedImageEncoder | SmallImageEncoder = weights.build_image_encoder(config).to(device)
        if isinstance(self.image_encoder, PretrainedImageEncoder):
            self._prepare_trunk(self.image_encoder, inception_weights)
        elif inception_weights is not None:
            say(f"image_encoder.kind is {config.image_encoder.kind}: --inception-weights are not used.")
        acceleration.channels_last_([self.image_encoder])
        if distributed.world_size() > 1:
            synchronize_batch_norms_(self.image_encoder, device)
        encoders = nn.ModuleList([self.text_encoder, self.image_encoder])
        trained = [parameter for parameter in encoders.parameters() if parameter.requires_grad]
        in_graph = self.recorder is not None
        self.optimizer = torch.optim.Adam(trained, betas=(0.5, 0.999), fused=True, capturable=in_graph)
        self.learner = Learner(encoders, self.optimizer, self.new_loss_scale())
        # Words that the captions of every batch are padded to, so that all steps have the same shapes; 0: of its own.
        self.padded_to = min(config.data.max_words, train.longest_caption) if device.type == "cuda" else 0
        self.trunk: TrunkFeatures | None = None  # of the training pictures; None: the trunk runs in each step
        self.test_trunk: TrunkFeatures | None = None
        self.schedule = schedule.of_encoders(config, len(train))
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, dict[str, Tensor]] = {}

    def _prepare_trunk(self, encoder: PretrainedImageEncoder, inception_weights: Path | None) -> None:
        expected = self.config.damsm.inception_sha256
        if inception_weights is None:
            if expected:
                raise InputError("damsm.inception_sha256 is set, but no --inception-weights are given; give the file.")
            say(f"no {encoder.network} weights given: the image encoder's trunk starts at random and is trained too.")
            encoder.trunk.requires_grad_(True)
            return
        if expected:
            artifacts.checked_sha256(inception_weights, expected, "damsm.inception_sha256")
        tensors = tensor_files.read(inception_weights, f"the weights of {encoder.network}")
        try:
            load_trunk(encoder, tensors)
        except ValueError as error:
            raise InputError(
                f"{inception_weights}: {error}; give {encoder.published} ImageNet file, or set image_encoder.kind to "
                "that of yours."
            ) from None

    def networks(self) -> dict[str, nn.Module]:
        """Return both encoders by name."""
        return {"text_encoder": self.text_encoder, "image_encoder": self.image_encoder}

    def can_keep_features(self) -> bool:
        """Return whether what the trunk sees is always the same: it is frozen, and no noise is added."""
        encoder = self.image_encoder
        if not isinstance(encoder, PretrainedImageEncoder) or not encoder.is_frozen:
            return False
        return self.config.damsm.trunk_views > 0 and not self.config.image_encoder.noise

    def pictures_of(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return this process's part of a training batch: images, or what the trunk saw of them."""
        if self.trunk is None:
            return (batch.images[-1],)
        own = distributed.part(len(batch.lengths))
        rng = seeding.rng_for(self.seed, "trunk view", self.step)
        views = torch.randint(self.trunk.records.shape[1], (len(batch.lengths),), generator=rng)
        return self.trunk.take(batch.indices[own], views[own], self.device, self.precision)

    def see(self, *looked_at: Tensor) -> tuple[Tensor, Tensor]:
        """Return region and image features of what `pictures_of` returned."""
        if self.trunk is not None:
            with self.autocast():
                return self.image_encoder.project(*looked_at)
        noisy = add_noise(*looked_at, self.config.image_encoder.noise, distributed.randn_like)
        with self.autocast():
            return self.image_encoder(noisy)

    def learners(self) -> dict[str, Learner]:
        """Return that of both encoders."""
        return {"optimizer": self.learner}

    def synchronize_losses(self) -> dict[str, float]:
        """Return the sums since the last validation by name; every process computes those of whole batches."""
        return dict(zip(DAMSM_LOSSES, self.loss_sums.tolist(), strict=True))

    def set_learning_rates(self) -> None:
        """Decay the rate by epochs; Adam keeps its moments (the released code makes a new Adam each epoch)."""
        settings = self.config.damsm
        share = max(
            settings.learning_rate_decay ** (self.step // self.schedule.steps_per_epoch),
            settings.min_learning_rate_share,
        )
        rate = settings.learning_rate * share * self.rate_factor
        for group in self.optimizer.param_groups:
            if group["lr"] != rate:
                self.forget_records()  # they hold the rate
            group["lr"] = rate

    def keep_if_best(self, figures: dict[str, float]) -> None:
        """Keep a copy of both encoders if no validation before found captions better; of equals, the later ones."""
        if not self.best or (figures["recall_at_1"], figures["recall_at_5"]) >= (
            self.best["recall_at_1"],
            self.best["recall_at_5"],
        ):
            self.best = figures
            self.best_weights = {
                name: {key: tensor.clone() for key, tensor in network.state_dict().items()}
                for name, network in self.networks().items()
            }

    def load_best(self) -> None:
        """Put the weights of the best validation back into the encoders."""
        for name, network in self.networks().items():
            network.load_state_dict(self.best_weights[name])
