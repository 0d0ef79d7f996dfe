"""What discriminators are shown in place of pictures: the same, moved at random (after DiffAugment, Zhao et al. 2020).

Real and generated pictures alike, so the generator is not taught to draw moved ones; gradients go through. Of few
pictures a discriminator then cannot learn the places of each by heart. Colours stay: captions name them.
"""

import torch
from torch import Tensor


def translated(images: Tensor, shifts: Tensor) -> Tensor:
    """Return pictures moved by whole pixels, mirrored at the edges where they were not.

    DiffAugment leaves zeros there, and a generator that is judged by a frozen network learns to draw a frame; Karras et
    al. ("Training generative adversarial networks with limited data", 2020) mirror too.

    Args:
        images: (B, C, H, W).
        shifts: (B, 2) int64, pixels down and to the right; below 0: up and to the left; at most by the side.
    """
    for axis, by in zip((2, 3), shifts.unbind(dim=1), strict=True):
        side = images.shape[axis]
        source = (torch.arange(side, device=images.device) - by[:, None]) % (2 * side)  # (B, side)
        source = torch.minimum(source, 2 * side - 1 - source)
        # A pixel is shown twice at the most, so its gradient is the same whichever of the two is added first.
        images = images.gather(axis, source.view((-1, 1, side, 1) if axis == 2 else (-1, 1, 1, side)).expand_as(images))
    return images
