"""Building blocks shared by the generator's stages and the discriminators (released code: model.py)."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

MIN_SIDE_TO_MERGE = 16  # of features to enlarge: for smaller ones the larger kernel costs more than it saves


class GatedLinearUnit(nn.Module):
    """Half of the channels, each opened or shut by the sigmoid of its partner in the other half.

    `nn.GLU(dim=1)` computes the same; torch's kernel for it is several times slower on channels-last CPU tensors.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, 2C, ...) to (B, C, ...)."""
        values, gates = features.chunk(2, dim=1)
        return values * gates.sigmoid()


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution that keeps height and width; a batch norm or tanh follows, so it has no bias."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)


class UpBlock(nn.Sequential):
    """Doubles height and width, then a gated convolution.

    Args:
        in_channels: C.
        out_channels: C'.
        upsampling: "nearest", or "bilinear", which gives no checkerboard to begin with.
    """

    def __init__(self, in_channels: int, out_channels: int, *, upsampling: str = "nearest"):
        super().__init__(
            nn.Upsample(scale_factor=2, mode=upsampling),
            conv3x3(in_channels, 2 * out_channels),
            nn.BatchNorm2d(2 * out_channels),
            GatedLinearUnit(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', 2H, 2W)."""
        upsample, convolution, normalize, gate = self
        if upsample.mode != "nearest" or min(features.shape[2:]) < MIN_SIDE_TO_MERGE:
            return gate(normalize(convolution(upsample(features))))
        return gate(normalize(upsample_and_convolve(features, convolution.weight)))


def upsample_and_convolve(features: Tensor, weight: Tensor) -> Tensor:
    """Double height and width and convolve with a 3 x 3 kernel: one transposed convolution, less than half the work.

    A nearest-neighbour picture repeats every value, so the taps that meet the same value can be added up first: four of
    nine remain for each position, and the enlarged features are never made. The same to rounding.

    Args:
        features: (B, C, H, W).
        weight: (C', C, 3, 3), for padding 1.

    Returns:
        (B, C', 2H, 2W).
    """
    for axis in (2, 3):
        first, second, third = weight.unbind(axis)
        weight = torch.stack([third, second + third, first + second, first], axis)
    return functional.conv_transpose2d(features, weight.transpose(0, 1), stride=2, padding=1)


class ResidualBlock(nn.Module):
    """Adds a gated two-convolution correction to its input."""

    def __init__(self, channels: int):
        super().__init__()
        self.block = nn.Sequential(
            conv3x3(channels, 2 * channels),
            nn.BatchNorm2d(2 * channels),
            GatedLinearUnit(),
            conv3x3(channels, channels),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        return features + self.block(features)


class LeakyBlock(nn.Sequential):
    """A 3 x 3 convolution with batch norm and leaky ReLU that keeps height and width."""

    def __init__(self, in_channels: int, out_channels: int, *, batch_norm: bool = True):
        super().__init__(*_leaky(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=not batch_norm), batch_norm))


class DownBlock(nn.Sequential):
    """Halves height and width with a 4 x 4 convolution; the first block of a discriminator has no batch norm."""

    def __init__(self, in_channels: int, out_channels: int, *, batch_norm: bool = True, bias: bool = False):
        super().__init__(*_leaky(nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=bias), batch_norm))


def _leaky(convolution: nn.Conv2d, batch_norm: bool) -> list[nn.Module]:
    normalize = [nn.BatchNorm2d(convolution.out_channels)] if batch_norm else []
    return [convolution, *normalize, nn.LeakyReLU(0.2, inplace=True)]


def initialise_(network: nn.Module) -> None:
    """Set a network's first weights as the released code does: orthogonal, batch norm about 1, biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def compute_spectral_norms(network: nn.Module) -> None:
    """Compute a network's spectral norms in float32; within `torch.nn.utils.parametrize.cached()` they are kept."""
    for module in network.modules():
        if parametrize.is_parametrized(module):
            _ = module.weight


def at_least_float32(features: Tensor) -> Tensor:
    """Return what a network computed in lower precision as float32; float64 stays."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
