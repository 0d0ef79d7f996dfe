"""What discriminators are shown in place of pictures: the same, moved at random (DiffAugment, Zhao et al. 2020).

Real and generated pictures alike, so the generator is not taught to draw moved ones; gradients go through. Of few
pictures a discriminator then cannot learn the places of each by heart. Colours stay: captions name them.
"""

import torch
from torch import Tensor


def translated(images: Tensor, shifts: Tensor) -> Tensor:
    """Return pictures moved by whole pixels, with 0, a grey, where they were not.

    Args:
        images: (B, C, H, W).
        shifts: (B, 2) int64, pixels down and to the right; below 0: up and to the left.
    """
    for axis, by in zip((2, 3), shifts.unbind(dim=1), strict=True):
        side = images.shape[axis]
        source = torch.arange(side, device=images.device) - by[:, None]  # (B, side)
        is_inside = (source >= 0) & (source < side)
        view = (-1, 1, side, 1) if axis == 2 else (-1, 1, 1, side)
        index = source.clamp(0, side - 1).view(view).expand_as(images)
        images = images.gather(axis, index) * is_inside.view(view)
    return images
