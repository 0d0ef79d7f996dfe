"""What two gloo processes compute together, and one process alone: for `test_distributed_steps.py`."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from frozen_network import projects
from torch import nn

from attngan.config.settings import Config
from attngan.data.dataset import Dataset
from attngan.data.sampling import batch_of_step
from attngan.models.batch_norm import synchronize_batch_norms_
from attngan.runtime import distributed
from attngan.runtime.gradient_average import GradientAverage
from attngan.training import damsm_step, gan_step
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun

NOISE = 0.1
STEPS = 2


def work(rank: int, port: int, folder: Path, dataset: Path, damsm: Path, config: Config, frozen: Path) -> None:
    """Be one of two processes: compute everything, and leave it in a file."""
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
    os.environ.update({"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)})
    with distributed.joined("cpu", 1):
        torch.save({"primitives": primitives(), **steps(dataset, damsm, config, frozen)}, folder / f"{rank}.pt")


def primitives() -> dict[str, object]:
    """Use each of them once, with values that tell the processes apart."""
    rank = distributed.rank()
    features = torch.tensor([[1.0 + rank], [3.0 + rank]], requires_grad=True)  # [1, 3] and [2, 4]
    gathered = distributed.gather(features)
    (gathered * torch.tensor([[1.0], [10.0], [100.0], [1000.0]])).sum().backward()
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2, 2))]
    loss = (1.0 + rank) * parameters[0].sum() + 10.0 * rank * parameters[2].sum()
    GradientAverage(parameters, bucket_bytes=8).backward(loss)
    torch.manual_seed(5)
    noise = distributed.randn_like(torch.empty(2, 3, 4, 4))
    return {
        "part": distributed.part(6),
        "gathered": gathered.detach(),
        "gather gradient": features.grad,
        "averaged": [parameter.grad for parameter in parameters],
        "noise": noise,
        "next": torch.randn(3),
        "agreed": distributed.in_any_process(None if rank else 15, rank, None),
        "from first": distributed.from_first(lambda: {"rank": rank}),
        "batch norm": batch_norm(slice(0, 3) if rank == 0 else slice(3, 5)),
    }


def batch_norm(own: slice) -> dict[str, torch.Tensor]:
    """Train a batch norm a step on a part of five pictures, then use it."""
    torch.manual_seed(1)
    pictures = (100 + 3 * torch.randn(5, 3, 4, 4, dtype=torch.float64)).requires_grad_(True)
    weights = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    network = nn.Sequential(nn.BatchNorm2d(3).double())
    nn.init.normal_(network[0].weight)
    if distributed.world_size() > 1:
        synchronize_batch_norms_(network, torch.device("cpu"))
    normed = network(pictures[own])
    GradientAverage(network.parameters()).backward((normed * weights[own]).sum())
    used = network.eval()(pictures[own]).detach()
    return {"normed": normed.detach(), "gradient": pictures.grad[own], "used": used, **_tensors(network)}


def steps(dataset: Path, damsm: Path, config: Config, frozen: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Take steps of both trainings in float64, so that a tight tolerance finds any mistake."""
    train = Dataset.open(dataset, "train")
    spectral = config.model_copy(
        update={"discriminator": config.discriminator.model_copy(update={"spectral_norm": True})}
    )
    projected = projects(config, frozen)
    moved = projected.model_copy(
        update={"discriminator": projected.discriminator.model_copy(update={"translation": 0.125})}
    )
    with in_float64():
        return {
            "damsm": _damsm_steps(train, config),
            "generator": _generator_steps(train, damsm, config),
            "generator with spectral norm": _generator_steps(train, damsm, spectral),
            "generator with a projected discriminator": _generator_steps(train, damsm, projected),
            "generator with moved pictures": _generator_steps(train, damsm, moved),
        }


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Make networks of float64 inside the block."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def _damsm_steps(train: Dataset, config: Config) -> dict[str, torch.Tensor]:
    run = DamsmRun(config, train, torch.device("cpu"), None)
    run.config = _noisy(config)
    found = {}
    for run.step in range(STEPS):
        damsm_step.training_step(run, _batch(run, train, config.damsm.batch_size, [config.data.resolution]))
        for name, network in run.networks().items():
            found |= {f"step {run.step}, {name} {key}": value for key, value in _tensors(network).items()}
    return {"losses": run.loss_sums, **found}


def _generator_steps(train: Dataset, damsm: Path, config: Config) -> dict[str, torch.Tensor]:
    run = GanRun(config, train, damsm, torch.device("cpu"))
    run.config = _noisy(config)
    found = {}
    for run.step in range(STEPS):
        batch = _batch(run, train, config.training.batch_size, config.resolutions)
        losses = gan_step.training_step(run, batch)
        found |= {f"step {run.step}, loss {name}": distributed.average(loss) for name, loss in losses.items()}
        for name, network in run.networks().items():
            found |= {f"step {run.step}, {name} {key}": value for key, value in _tensors(network).items()}
    return found


def _noisy(config: Config) -> Config:
    return config.model_copy(update={"image_encoder": config.image_encoder.model_copy(update={"noise": NOISE})})


def _batch(run, train, batch_size, resolutions):
    batch = batch_of_step(
        train,
        run.step,
        batch_size=batch_size,
        resolutions=resolutions,
        max_words=18,
        seed=0,
        purpose="test",
        part=distributed.part(batch_size),
    )
    assert len(batch.class_ids) == len(batch.word_ids) == batch_size == distributed.world_size() * len(batch.images[0])
    batch.images[:] = [images.double() for images in batch.images]
    return batch


def _tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of a network's weights, statistics and gradients by name."""
    gradients = {f"gradient of {name}": each.grad for name, each in network.named_parameters() if each.grad is not None}
    return {name: tensor.detach().clone() for name, tensor in {**network.state_dict(), **gradients}.items()}
