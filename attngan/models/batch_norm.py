"""Batch norm whose statistics are those of the whole batch, where several processes have a part of it each."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from attngan.models.layers import at_least_float32


def synchronize_batch_norms_(network: nn.Module, device: torch.device) -> None:
    """Put synchronized batch norms in the place of a network's own; parameters, statistics and all names stay.

    Args:
        network: changed in place.
        device: on CUDA the batch norms become torch's own, which no CPU can run.
    """
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, SynchronizedBatchNorm(child))


class SynchronizedBatchNorm(_BatchNorm):
    """`nn.SyncBatchNorm` for CPUs; the parts of the batch may differ in size.

    Args:
        original: gives its parameters and statistics, which are shared, not copied.
    """

    def __init__(self, original: nn.BatchNorm1d | nn.BatchNorm2d):
        super().__init__(original.num_features, original.eps, original.momentum)
        for name, parameter in original.named_parameters():
            setattr(self, name, parameter)
        for name, buffer in original.named_buffers():
            setattr(self, name, buffer)
        self.train(original.training)

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape (B, C, ...)."""
        if not self.training:
            mean, variance = self.running_mean, self.running_var
            return functional.batch_norm(features, mean, variance, self.weight, self.bias, eps=self.eps)
        whole, features = features, at_least_float32(features)
        others = [axis for axis in range(features.ndim) if axis != 1]
        shape = (1, -1, *(1 for _ in others[1:]))  # (C,) against (B, C, ...)
        own_count = features.new_full((1,), features.numel() / features.shape[1])
        sums = _Sum.apply(torch.cat([features.sum(others), own_count]))
        count, mean = sums[-1], sums[:-1] / sums[-1]
        centred = features - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(others)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        normed = centred * (self.weight * (variance + self.eps).rsqrt()).view(shape) + self.bias.view(shape)
        return normed.to(whole.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is the gradient's, since every process made use of it."""

    @staticmethod
    def forward(context, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
