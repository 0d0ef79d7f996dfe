"""A network and what trains it."""

from torch import Tensor, nn, optim

from attngan.runtime.gradient_average import GradientAverage


class Learner:
    """A network with its optimizer; gradients are averaged over the processes that train together.

    Args:
        network: parameters that ask for no gradient now are left out.
        optimizer: of its parameters.
    """

    def __init__(self, network: nn.Module, optimizer: optim.Optimizer):
        self.network, self.optimizer = network, optimizer
        self.gradients = GradientAverage(network.parameters())

    def learn(self, loss: Tensor) -> None:
        """Take a step that lowers the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        self.gradients.backward(loss)
        self.optimizer.step()
