"""The image encoder of the DAMSM: Inception-v3's trunk (section 3.2), or a small network for small pictures.

No constructor downloads weights: ImageNet's are read from a file by `load_inception_trunk`.
"""

from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from attngan.models.layers import DownBlock, LeakyBlock

SMALL_SIDE = 32  # pixels that the small network looks at; gives 8 x 8 regions
INCEPTION_SIDE = 299  # pixels that Inception-v3 was made for; gives 17 x 17 regions
TRUNK_LAYERS = (
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2 "
    "Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e"
).split()
TOP_LAYERS = ("Mixed_7a", "Mixed_7b", "Mixed_7c")


class ImageEncoder(nn.Module):
    """Inception-v3 whose trunk stays as it is; the two projections to the joint space are trained.

    Args:
        feature_dim: D.
    """

    def __init__(self, *, feature_dim: int = 256):
        super().__init__()
        inception = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
        self.trunk = nn.ModuleDict({name: getattr(inception, name) for name in (*TRUNK_LAYERS, *TOP_LAYERS)})
        self.trunk.requires_grad_(False)
        self.project_regions = nn.Conv2d(768, feature_dim, 1, bias=False)
        self.project_image = nn.Linear(2048, feature_dim)
        nn.init.uniform_(self.project_regions.weight, -0.1, 0.1)
        nn.init.uniform_(self.project_image.weight, -0.1, 0.1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images (B, 3, H, W) in [-1, 1].

        Returns:
            region_features (B, D, 17, 17) and image_feature (B, D).
        """
        return self.project(*self.extract(images))

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

    def project(self, regions: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Map what the trunk sees to the joint space: region_features (B, D, 17, 17) and image_feature (B, D)."""
        return self.project_regions(regions), self.project_image(pooled)


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


def load_inception_trunk(encoder: ImageEncoder, weights: dict[str, Tensor]) -> None:
    """Put torchvision's ImageNet weights of Inception-v3 into an encoder's trunk.

    Args:
        encoder: changed in place.
        weights: the state dict of torchvision's `inception_v3`; classifier and auxiliary head are passed over.

    Raises:
        ValueError: names what the weights lack.
    """
    own = encoder.trunk.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # absent from old files
    missing = sorted(name for name in own if name not in weights and name not in counters)
    if missing:
        raise ValueError(f"not the weights of Inception-v3: {len(missing)} tensors missing, the first is {missing[0]}")
    wrong = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    if wrong:
        raise ValueError(
            f"{wrong[0]}: expected shape {tuple(own[wrong[0]].shape)}, found {tuple(weights[wrong[0]].shape)}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            if name in weights:
                tensor.copy_(weights[name])
