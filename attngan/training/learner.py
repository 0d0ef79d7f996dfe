"""A network and what trains it."""

from collections.abc import Callable

from torch import Tensor, nn, optim

from attngan.runtime.gradient_average import GradientAverage
from attngan.runtime.loss_scale import LossScale


class Learner:
    """A network with its optimizer; gradients are averaged over the processes that train together.

    Args:
        network: parameters that ask for no gradient now are left out.
        optimizer: of its parameters.
        scale: of its loss, where networks compute in float16.
    """

    def __init__(self, network: nn.Module, optimizer: optim.Optimizer, scale: LossScale | None = None):
        self.network, self.optimizer, self.scale = network, optimizer, scale
        self.gradients = GradientAverage(network.parameters())

    def learn(self, loss: Tensor, *, before_step: Callable[[], object] = lambda: None) -> None:
        """Take a step that lowers the loss.

        Args:
            loss: a number.
            before_step: called once the gradients are there.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.gradients.backward(loss if self.scale is None else loss * self.scale.scale)
        if self.scale is not None:
            self.scale.unscale_(self.optimizer)
        before_step()
        self.optimizer.step()
