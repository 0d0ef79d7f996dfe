"""The averaged generator, which is the product: parameters and batch-norm statistics averaged over steps."""

import copy

import torch
from torch import nn


def averaged_copy(network: nn.Module) -> nn.Module:
    """Return a frozen copy in evaluation mode, the start of the average."""
    average = copy.deepcopy(network).eval()
    return average.requires_grad_(False)


@torch.no_grad()
def update_average_(average: nn.Module, network: nn.Module, *, decay: float) -> None:
    """Move the average a step: decay * average + (1 - decay) * network, for parameters and batch-norm statistics alike.

    The released code averages the parameters and keeps the live network's statistics, which belong to other weights.
    """
    theirs = network.state_dict()
    floats, news, counters, counts = [], [], [], []
    for name, own in average.state_dict().items():
        (floats if own.is_floating_point() else counters).append(own)
        (news if own.is_floating_point() else counts).append(theirs[name])
    if counters:
        torch._foreach_copy_(counters, counts)
    torch._foreach_mul_(floats, decay)  # two roundings, as in the released code: its numbers are the promise
    torch._foreach_add_(floats, news, alpha=1 - decay)
