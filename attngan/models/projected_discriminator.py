"""A discriminator on what a frozen network sees (Sauer et al., "Projected GANs converge faster", 2021)."""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from attngan.models.efficientnet_lite import STAGE_CHANNELS, EfficientNetLite0

SIDE = 4  # of the features that a logit is made of, or less where there is less to see
SLOPE = 0.2  # of leaky ReLU below zero


class ProjectedDiscriminator(nn.Module):
    """Tells real pictures from generated ones by a frozen network's features; it sees no sentence.

    Features of four strides are mixed by random layers that are never trained, across channels and from coarse to fine
    (section 3.2), so that no head can look at what is easiest alone; each stride has a head of its own.

    Args:
        frozen: looks at the pictures; it stays what it is, and is not part of this network's state.
        resolution: side of the pictures in pixels.
        channels: of the heads; the two finest strides are mixed to half as many.
    """

    def __init__(self, frozen: EfficientNetLite0, *, resolution: int, channels: int = 64):
        super().__init__()
        self.look = frozen.stages  # a bound method: no submodule
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
        self.requires_grad_(True)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let the heads be trained, or not; what is random stays as it is."""
        self.mix_channels.requires_grad_(False)
        self.mix_scales.requires_grad_(False)
        self.heads.requires_grad_(requires_grad)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit of each head (B, 4): is it a real picture?

        Args:
            images: (B, 3, H, W) in [-1, 1].
        """
        seen = [mix(features) for mix, features in zip(self.mix_channels, self.look(images), strict=True)]
        for fine in reversed(range(len(self.mix_scales))):
            coarse = functional.interpolate(seen[fine + 1], size=seen[fine].shape[2:], mode="bilinear")
            seen[fine] = seen[fine] + self.mix_scales[fine](coarse)
        return torch.cat([head(features).flatten(1) for head, features in zip(self.heads, seen, strict=True)], dim=1)


def _head(in_channels: int, channels: int, side: int) -> nn.Sequential:
    """Return layers that make one logit of features (B, C, side, side); spectral norm bounds their gain."""
    layers: list[nn.Module] = []
    while side > SIDE:
        layers += [spectral_norm(nn.Conv2d(in_channels, channels, 4, stride=2, padding=1)), nn.LeakyReLU(SLOPE)]
        in_channels, side = channels, side // 2
    if not layers:
        layers += [spectral_norm(nn.Conv2d(in_channels, channels, 1)), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(channels, 1, side)))
