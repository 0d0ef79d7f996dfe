"""A discriminator on what a frozen network sees (Sauer et al., "Projected GANs converge faster", 2021)."""

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from attngan.models.discriminator import ConditionalDiscriminator
from attngan.models.efficientnet_lite import STAGE_CHANNELS, EfficientNetLite0
from attngan.models.layers import at_least_float32

SIDE = 4  # of the features that a head looks at in one piece, or less where there is less to see
SLOPE = 0.2  # of leaky ReLU below zero


class ProjectedDiscriminator(ConditionalDiscriminator):
    """Tells real pairs of picture and sentence from others by a frozen network's features of the picture.

    Features of four strides are mixed by random layers that are never trained, across channels and from coarse to fine
    (section 3.2), so that no head can look at what is easiest alone; each stride has a head of its own. A logit is the
    inner product of what the head makes of the picture with an affine embedding of the sentence (Miyato and Koyama,
    "cGANs with projection discriminator", 2018; on a frozen network: Sauer et al., "StyleGAN-T", 2023).

    Args:
        frozen: looks at the pictures; it stays what it is, and is not part of this network's state.
        resolution: side of the pictures in pixels.
        text_dim: D.
        channels: C, of the heads; the two finest strides are mixed to half as many.
    """

    def __init__(self, frozen: EfficientNetLite0, *, resolution: int, text_dim: int = 256, channels: int = 64):
        super().__init__()
        self.unconditional = None
        self.frozen_stages = frozen.stages  # a bound method: no submodule
        widths = [channels // 2, channels // 2, channels, channels]
        self.mix_channels = nn.ModuleList(
            nn.Conv2d(seen, width, 1) for seen, width in zip(STAGE_CHANNELS, widths, strict=True)
        )
        self.mix_scales = nn.ModuleList(
            nn.Conv2d(coarse, fine, 3, padding=1) for fine, coarse in zip(widths, widths[1:], strict=False)
        )
        for layer in (*self.mix_channels, *self.mix_scales):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)
        sides = [-(-resolution // stride) for stride in (4, 8, 16, 32)]
        self.heads = nn.ModuleList(_head(width, channels, side) for width, side in zip(widths, sides, strict=True))
        self.embed = nn.ModuleList(spectral_norm(nn.Linear(text_dim, channels)) for _ in sides)
        self.requires_grad_(True)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let the heads and their embeddings be trained, or not; what is random stays as it is."""
        self.mix_channels.requires_grad_(False)
        self.mix_scales.requires_grad_(False)
        self.heads.requires_grad_(requires_grad)
        self.embed.requires_grad_(requires_grad)
        return self

    def features(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to what each head makes of them (B, 4, C)."""
        seen = [mix(features) for mix, features in zip(self.mix_channels, self.frozen_stages(images), strict=True)]
        for fine in reversed(range(len(self.mix_scales))):
            coarse = functional.interpolate(seen[fine + 1], size=seen[fine].shape[2:], mode="bilinear")
            seen[fine] = seen[fine] + self.mix_scales[fine](coarse)
        return torch.stack([head(features) for head, features in zip(self.heads, seen, strict=True)], dim=1)

    def judge_pair(self, features: Tensor, sentence_feature: Tensor) -> Tensor:
        """Return a logit of each head (B, 4): is it a real picture of this sentence? Only its direction counts."""
        sentence = math.sqrt(sentence_feature.shape[1]) * functional.normalize(sentence_feature)
        embedded = torch.stack([embed(sentence) for embed in self.embed], dim=1)
        return (at_least_float32(features) * at_least_float32(embedded)).sum(dim=2)


def _head(in_channels: int, channels: int, side: int) -> nn.Sequential:
    """Return layers that make a vector of features (B, C, side, side); spectral norm bounds their gain."""
    layers: list[nn.Module] = []
    while side > SIDE:
        layers += [spectral_norm(nn.Conv2d(in_channels, channels, 4, stride=2, padding=1)), nn.LeakyReLU(SLOPE)]
        in_channels, side = channels, side // 2
    if not layers:
        layers += [spectral_norm(nn.Conv2d(in_channels, channels, 1)), nn.LeakyReLU(SLOPE)]
    layers += [spectral_norm(nn.Conv2d(channels, channels, side)), nn.LeakyReLU(SLOPE), nn.Flatten()]
    return nn.Sequential(*layers)
