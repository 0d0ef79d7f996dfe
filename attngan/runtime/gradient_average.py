"""Gradients averaged over processes while backward is still busy with others (Li et al. 2020, PyTorch Distributed)."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from attngan.runtime import distributed

# Sent at once: large enough that starting costs little, small enough that the first goes early.
BUCKET_BYTES = 25 * 2**20


class GradientAverage:
    """Averages the gradients of some parameters over the processes that train together; alone it changes nothing.

    Parameters are put into buckets, the last ones first, since backward reaches them first. As soon as all gradients of
    a bucket are there it is sent, in the background; every process sends the buckets in the same order.

    Args:
        parameters: those that ask for no gradient now are left out.
        bucket_bytes: of the gradients that are sent at once; a larger parameter has a bucket of its own.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, bucket_bytes: int = BUCKET_BYTES):
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.buckets = _buckets(trained[::-1], bucket_bytes)
        self._missing: list[set[int]] = []  # for each bucket, whose gradients are not there yet (by id)
        self._next = 0  # bucket to send
        self._sent: list[tuple[list[Tensor], Tensor, dist.Work]] = []
        self._bucket_of = {id(each): number for number, bucket in enumerate(self.buckets) for each in bucket}
        if distributed.world_size() > 1:
            for parameter in trained:
                parameter.register_post_accumulate_grad_hook(self._note)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss (no parameter may have one from before), and average them.

        A parameter that the loss does not depend on keeps no gradient; it must be the same one in every process.
        """
        if distributed.world_size() == 1:
            loss.backward()
            return
        self._next, self._missing = 0, [{id(parameter) for parameter in bucket} for bucket in self.buckets]
        loss.backward()
        self._missing = []
        while self._next < len(self.buckets):
            self._send_next()
        for gradients, total, work in self._sent:
            work.wait()
            mean = total.div_(distributed.world_size()).split([each.numel() for each in gradients])
            torch._foreach_copy_(gradients, [part.view_as(own) for part, own in zip(mean, gradients, strict=True)])
        self._sent = []

    def _note(self, parameter: Tensor) -> None:
        """Send every bucket whose turn it is and whose gradients are all there now."""
        if not self._missing:  # the backward of somebody else's loss
            return
        self._missing[self._bucket_of[id(parameter)]].discard(id(parameter))
        while self._next < len(self.buckets) and not self._missing[self._next]:
            self._send_next()

    @torch.no_grad()
    def _send_next(self) -> None:
        bucket = self.buckets[self._next]
        self._next += 1
        gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
        if gradients:
            total = torch.cat([gradient.flatten() for gradient in gradients])
            self._sent.append((gradients, total, dist.all_reduce(total, async_op=True)))


def _buckets(parameters: list[nn.Parameter], bucket_bytes: int) -> list[list[nn.Parameter]]:
    buckets: list[list[nn.Parameter]] = []
    room = 0
    for parameter in parameters:
        size = parameter.numel() * parameter.element_size()
        if size > room:
            buckets.append([])
            room = bucket_bytes
        buckets[-1].append(parameter)
        room -= size
    return buckets
