"""The image encoder of the DAMSM: Inception-v3's trunk (section 3.2), MobileNetV2's, or a small network.

No constructor downloads weights: ImageNet's are read from a file by `load_trunk`.
"""

import abc
from collections.abc import Callable
from typing import ClassVar, Self

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from attngan.models.layers import DownBlock, LeakyBlock, at_least_float32

SMALL_SIDE = 32  # pixels that the small network looks at; gives 8 x 8 regions
INCEPTION_SIDE = 299  # pixels that Inception-v3 was made for; gives 17 x 17 regions
MOBILENET_SIDE = 224  # pixels that MobileNetV2 was made for; gives 14 x 14 regions
TRUNK_LAYERS = (
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2 "
    "Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e"
).split()
TOP_LAYERS = ("Mixed_7a", "Mixed_7b", "Mixed_7c")
NUM_REGION_BLOCKS = 14  # of MobileNetV2: the last ones before it halves height and width for the fifth time
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of colours in [0, 1]


class PretrainedImageEncoder(nn.Module, abc.ABC):
    """A network whose trunk was trained before and stays as it is; two projections to the joint space are trained.

    A trunk that nobody trained starts at random, and whoever trains the encoder lets it learn too.

    Args:
        trunk: its parts, by torchvision's names, so that torchvision's files fit.
        region_channels: of what it sees in a region.
        pooled_channels: of what it sees in the whole picture.
        feature_dim: D.
    """

    network: ClassVar[str]  # what people call it ...
    published: ClassVar[str]  # ... and the file of its weights
    mark: ClassVar[str]  # the name of a tensor that files of the other kinds do not have

    def __init__(self, trunk: dict[str, nn.Module], *, region_channels: int, pooled_channels: int, feature_dim: int):
        super().__init__()
        self.trunk = nn.ModuleDict(trunk)
        self.trunk.requires_grad_(False)
        self.project_regions = nn.Conv2d(region_channels, feature_dim, 1, bias=False)
        self.project_image = nn.Linear(pooled_channels, feature_dim)
        nn.init.uniform_(self.project_regions.weight, -0.1, 0.1)
        nn.init.uniform_(self.project_image.weight, -0.1, 0.1)

    @property
    def is_frozen(self) -> bool:
        """Whether the trunk stays as it is."""
        return not any(each.requires_grad for each in self.trunk.parameters())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images (B, 3, H, W) in [-1, 1].

        Returns:
            region_features (B, D, H', W') and image_feature (B, D); H' and W' are the network's own.
        """
        return self.project(*self.extract(images))

    @abc.abstractmethod
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the trunk sees in images (B, 3, H, W): regions (B, C, H', W') and pooled (B, P)."""

    def project(self, regions: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Map what the trunk sees to the joint space: region_features (B, D, H', W') and image_feature (B, D)."""
        return self.project_regions(regions), self.project_image(pooled)


class ImageEncoder(PretrainedImageEncoder):
    """The paper's: Inception-v3, which gives 17 x 17 regions.

    Args:
        feature_dim: D.
    """

    network, published, mark = "Inception-v3", "torchvision's inception_v3", "Mixed_7c.branch1x1.conv.weight"

    def __init__(self, *, feature_dim: int = 256):
        inception = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
        trunk = {name: getattr(inception, name) for name in (*TRUNK_LAYERS, *TOP_LAYERS)}
        super().__init__(trunk, region_channels=768, pooled_channels=2048, feature_dim=feature_dim)

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the trunk sees in images (B, 3, H, W): regions (B, 768, 17, 17) and pooled (B, 2048)."""
        if images.shape[2:] != (INCEPTION_SIDE, INCEPTION_SIDE):
            images = functional.interpolate(images, (INCEPTION_SIDE, INCEPTION_SIDE), mode="bilinear")
        features = images
        for name in TRUNK_LAYERS:
            features = self.trunk[name](features)
        regions = features
        for name in TOP_LAYERS:
            features = self.trunk[name](features)
        return regions, features.mean(dim=(2, 3))


class MobileNetImageEncoder(PretrainedImageEncoder):
    """MobileNetV2 (Sandler et al. 2018), for small machines; it gives 14 x 14 regions.

    Pictures of any other size are resized to 224 pixels, as Inception's are to 299: the weights know things at the size
    that they have there, and the number of regions does not depend on the resolution (64 pixels, left as they are,
    would give 4 x 4). Larger pictures are averaged, so no pixel that a generator draws goes unseen.

    The batch norms of its frozen trunk are always in evaluation mode: there is no released code to follow, and what
    they know is worth more than the statistics of a small batch.

    Args:
        feature_dim: D.
    """

    network, published, mark = "MobileNetV2", "torchvision's mobilenet_v2", "features.1.conv.0.0.weight"

    def __init__(self, *, feature_dim: int = 256):
        trunk = {"features": torchvision.models.mobilenet_v2(weights=None).features}
        super().__init__(trunk, region_channels=96, pooled_channels=1280, feature_dim=feature_dim)
        mean, deviation = (torch.tensor(each).view(1, 3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_DEVIATION))
        # From colours in [-1, 1] to what the weights know: (0.5 x + 0.5 - mean) / deviation.
        self.register_buffer("scale", 0.5 / deviation)
        self.register_buffer("shift", (0.5 - mean) / deviation)

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or evaluation mode, in all but a frozen trunk."""
        super().train(mode)
        if self.is_frozen:
            self.trunk.eval()
        return self

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the trunk sees in images (B, 3, H, W): regions (B, 96, 14, 14) and pooled (B, 1280)."""
        if images.shape[2:] != (MOBILENET_SIDE, MOBILENET_SIDE):
            is_larger = max(images.shape[2:]) > MOBILENET_SIDE
            side, images = (MOBILENET_SIDE, MOBILENET_SIDE), at_least_float32(images)  # there is no averaging in less
            images = functional.interpolate(images, side, mode="bilinear", antialias=is_larger)
        features = images * self.scale + self.shift
        regions = features
        for number, block in enumerate(self.trunk["features"], start=1):
            features = block(features)
            if number == NUM_REGION_BLOCKS:
                regions = features
        return regions, features.mean(dim=(2, 3))


PRETRAINED = {"inception_v3": ImageEncoder, "mobilenet_v2": MobileNetImageEncoder}  # by image_encoder.kind


class SmallImageEncoder(nn.Module):
    """A stack of convolutions for small pictures, trained from the start.

    Larger pictures are averaged down to 32 pixels first: a generator cannot please it with patterns of single pixels.

    Args:
        feature_dim: D.
        channels: width of the first layer.
    """

    def __init__(self, *, feature_dim: int, channels: int = 32):
        super().__init__()
        self.to_regions = nn.Sequential(
            DownBlock(3, channels, batch_norm=False),
            DownBlock(channels, 2 * channels),
            LeakyBlock(2 * channels, 4 * channels),
        )
        self.to_image = DownBlock(4 * channels, 8 * channels)
        self.project_regions = nn.Conv2d(4 * channels, feature_dim, 1, bias=False)
        self.project_image = nn.Linear(8 * channels, feature_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images (B, 3, H, W) in [-1, 1].

        Returns:
            region_features (B, D, 8, 8) and image_feature (B, D).
        """
        images = functional.adaptive_avg_pool2d(images, SMALL_SIDE)
        regions = self.to_regions(images)
        pooled = self.to_image(regions).mean(dim=(2, 3))
        return self.project_regions(regions), self.project_image(pooled)


def add_noise(images: Tensor, deviation: float, randn_like: Callable[[Tensor], Tensor]) -> Tensor:
    """Add Gaussian noise to images (B, 3, H, W).

    An encoder trained on noisy pictures has smooth gradients, so a generator that climbs them paints what can be seen
    rather than patterns that only the encoder sees.

    Args:
        images: not changed.
        deviation: of the noise; 0 draws none.
        randn_like: draws standard normal numbers of a tensor's shape.
    """
    return images + deviation * randn_like(images) if deviation else images


def load_trunk(encoder: PretrainedImageEncoder, weights: dict[str, Tensor]) -> None:
    """Put weights into an encoder's trunk: torchvision's of ImageNet, or those of another such encoder.

    Args:
        encoder: changed in place.
        weights: a state dict of the same network by torchvision's names, whose classifier and auxiliary head are passed
            over, or of an encoder here, whose projections are.

    Raises:
        ValueError: names what the weights lack, or whose they are.
    """
    own = encoder.trunk.state_dict()
    weights = {name.removeprefix("trunk."): tensor for name, tensor in weights.items()}
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # absent from old files
    missing = sorted(name for name in own if name not in weights and name not in counters)
    if missing:
        for other in PRETRAINED.values():
            if other.mark in weights and not isinstance(encoder, other):
                raise ValueError(f"expected the weights of {encoder.network}, found those of {other.network}")
        raise ValueError(
            f"not the weights of {encoder.network}: {len(missing)} tensors missing, the first is {missing[0]}"
        )
    wrong = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    if wrong:
        raise ValueError(
            f"{wrong[0]}: expected shape {tuple(own[wrong[0]].shape)}, found {tuple(weights[wrong[0]].shape)}"
        )
    if infinite := [name for name in own if name in weights and not weights[name].isfinite().all()]:
        raise ValueError(f"{infinite[0]} holds values that are not finite")
    with torch.no_grad():
        for name, tensor in own.items():
            if name in weights:
                tensor.copy_(weights[name])
