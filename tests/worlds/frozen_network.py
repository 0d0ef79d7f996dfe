"""EfficientNet-Lite0 with random weights, and settings of a discriminator that looks through it."""

from pathlib import Path

import torch
from torch import Tensor, nn

from attngan.config.settings import Config
from attngan.models.efficientnet_lite import EfficientNetLite0


def coloured(num_images: int, side: int) -> Tensor:
    """Return pictures in [-1, 1] of a side in pixels."""
    return 2 * torch.rand(num_images, 3, side, side, generator=torch.Generator().manual_seed(side)) - 1


def random_network() -> EfficientNetLite0:
    """Return one whose batch norms have seen pictures, so that something comes out at its end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        network = EfficientNetLite0()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        nn.Module.train(module)
        module.momentum = 1.0
    network.features(coloured(8, 64))
    return network.eval()


def projects(config: Config, file: Path, *, weight: float = 1.0, channels: int = 8, every_steps: int = 1) -> Config:
    """Return settings with a projected discriminator on the network of a file."""
    projected = {"weight": weight, "channels": channels, "every_steps": every_steps, "uri": str(file)}
    section = config.discriminator
    changed = section.model_copy(update={"projected": section.projected.model_copy(update=projected)})
    return config.model_copy(update={"discriminator": changed})


def with_all_parts(config: Config, file: Path) -> Config:
    """Return settings of discriminators with everything that the paper's have not: steps are of two kinds then."""
    config = projects(config, file, every_steps=2)
    parts = {"spectral_norm": True, "translation": 0.125}
    return config.model_copy(update={"discriminator": config.discriminator.model_copy(update=parts)})
