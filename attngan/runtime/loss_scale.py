"""Gradients of float16: a loss is multiplied so that they do not vanish; an update in which they overflow is left out.

As `torch.amp.GradScaler` does it, but nothing waits for the device or looks at a value, so a CUDA graph can hold it.
"""

import torch
from torch import Tensor, nn

# GradScaler's: the first scale, by what it grows after how many updates without an overflow, and falls with one.
FIRST, GROWTH, GROWTH_INTERVAL, BACKOFF = 2.0**16, 2.0, 2000, 0.5


class LossScale(nn.Module):
    """The scale of one optimizer's loss.

    Attributes:
        scale: factor of the loss.
        num_good: updates without an overflow since the scale changed.
        num_skipped: updates that were left out, since the training began.
    """

    scale: Tensor
    num_good: Tensor
    num_skipped: Tensor

    def __init__(self, device: torch.device):
        super().__init__()
        self.register_buffer("scale", torch.full((), FIRST, device=device))
        self.register_buffer("num_good", torch.zeros((), dtype=torch.int32, device=device))
        self.register_buffer("num_skipped", torch.zeros((), device=device))

    @torch.no_grad()
    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the gradients of a scaled loss their own size; where one overflowed, the next update is left out.

        Args:
            optimizer: a fused one, which looks at `found_inf`.
        """
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        overflowed = torch.zeros_like(self.scale)
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, overflowed, self.scale.reciprocal())
        optimizer.found_inf = overflowed  # type: ignore[attr-defined]
        self.num_skipped += overflowed
        torch._amp_update_scale_(self.scale, self.num_good, overflowed, GROWTH, BACKOFF, GROWTH_INTERVAL)
