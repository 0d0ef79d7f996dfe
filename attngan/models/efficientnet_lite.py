"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze and excitation), as others trained it for ImageNet.

It is looked through and never trained. Its parts have the names of the published file, efficientnet-lite0-57934424.pth.
"""

from typing import Self

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

EFFICIENTNET_SIDE = 224  # pixels that the weights were made for
FEATURE_DIM = 1280  # of the whole picture
STAGE_CHANNELS = (24, 40, 112, 320)  # of `stages`
# Kernel, stride, expansion, channels, and how many blocks; the first one of a group has the stride.
GROUPS = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS = 32
NUM_CLASSES = 1000  # of ImageNet
EPSILON = 0.001  # of batch norm, TensorFlow's


class EfficientNetLite0(nn.Module):
    """A frozen network; gradients go through it to the pictures.

    Images (B, 3, H, W) are in [-1, 1], as the weights know them, and of any size: they are looked at as they are.
    """

    def __init__(self):
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        self._blocks, channels = nn.ModuleList(), STEM_CHANNELS
        for kernel, stride, expansion, out_channels, num_blocks in GROUPS:
            for number in range(num_blocks):
                self._blocks.append(
                    InvertedResidual(channels, out_channels, kernel, 1 if number else stride, expansion)
                )
                channels = out_channels
        self._conv_head = SameConv2d(channels, FEATURE_DIM, 1)
        self._bn1 = _batch_norm(FEATURE_DIM)
        self._fc = nn.Linear(FEATURE_DIM, NUM_CLASSES)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: what the batch norms know is not of these pictures."""
        del mode
        return super().train(False)

    def fuse_(self) -> Self:
        """Put the batch norms, which change nothing more, into the convolutions before them: the same to rounding.

        Forward and back again takes two thirds of the time on a CPU.
        """
        self._conv_stem, self._bn0 = fuse_conv_bn_eval(self._conv_stem, self._bn0), nn.Identity()
        self._conv_head, self._bn1 = fuse_conv_bn_eval(self._conv_head, self._bn1), nn.Identity()
        for block in self._blocks:
            block.fuse_()
        return self.requires_grad_(False).eval()

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the last features at strides 4, 8, 16 and 32.

        Returns:
            (B, 24, H / 4, W / 4), (B, 40, H / 8, W / 8), (B, 112, H / 16, W / 16), (B, 320, H / 32, W / 32); sides are
            rounded up.
        """
        features = functional.relu6(self._bn0(self._conv_stem(images)))
        seen = []
        for block in self._blocks:
            if block.stride == 2:
                seen.append(features)  # the last ones of the stride before
            features = block(features)
        return [*seen[1:], features]

    def features(self, images: Tensor) -> Tensor:
        """Return what it sees in the whole picture, (B, 1280)."""
        return functional.relu6(self._bn1(self._conv_head(self.stages(images)[-1]))).mean(dim=(2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (B, 1000) of ImageNet's classes for features (B, 1280)."""
        return self._fc(features)


class InvertedResidual(nn.Module):
    """Expands the channels, looks at each by itself, and projects them; adds its input where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        self.stride, self.is_residual = stride, stride == 1 and in_channels == out_channels
        channels = in_channels * expansion
        self._expand_conv = None
        if expansion > 1:
            self._expand_conv = SameConv2d(in_channels, channels, 1)
            self._bn0 = _batch_norm(channels)
        self._depthwise_conv = SameConv2d(channels, channels, kernel, stride=stride, groups=channels)
        self._bn1 = _batch_norm(channels)
        self._project_conv = SameConv2d(channels, out_channels, 1)
        self._bn2 = _batch_norm(out_channels)

    def fuse_(self) -> None:
        """Put the batch norms into the convolutions before them."""
        if self._expand_conv is not None:
            self._expand_conv, self._bn0 = fuse_conv_bn_eval(self._expand_conv, self._bn0), nn.Identity()
        self._depthwise_conv, self._bn1 = fuse_conv_bn_eval(self._depthwise_conv, self._bn1), nn.Identity()
        self._project_conv, self._bn2 = fuse_conv_bn_eval(self._project_conv, self._bn2), nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Map features (B, C, H, W) to (B, C', H / stride, W / stride)."""
        features = images
        if self._expand_conv is not None:
            features = functional.relu6(self._bn0(self._expand_conv(features)))
        features = functional.relu6(self._bn1(self._depthwise_conv(features)))
        features = self._bn2(self._project_conv(features))
        return images + features if self.is_residual else features


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "same": the smaller half of what is needed comes first."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1):
        padding = kernel // 2 if stride == 1 else 0  # with a stride it depends on the side
        super().__init__(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride), rounded up."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in features.shape[2:])
            sides = (width // 2, width - width // 2, height // 2, height - height // 2)
            features = functional.pad(features, sides)
        return super().forward(features)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON)
