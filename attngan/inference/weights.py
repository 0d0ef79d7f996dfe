"""Between folders and networks: build a network from its settings, write its weights, read them back (safetensors)."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from attngan.config.settings import Config
from attngan.errors import InputError, shown
from attngan.models.discriminator import Discriminator
from attngan.models.generator import Generator
from attngan.models.image_encoder import PRETRAINED, PretrainedImageEncoder, SmallImageEncoder
from attngan.models.text_encoder import TextEncoder
from attngan.runtime import machine
from attngan.storage import artifacts

SAFETENSORS_DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}  # of networks, as files name them

Network = TypeVar("Network", bound=nn.Module)


def build_text_encoder(config: Config, vocabulary_size: int) -> TextEncoder:
    """Return a text encoder with fresh weights, or its sizes alone where the default device is meta.

    Raises:
        InputError: as every builder here: this machine has no memory for a network of these sizes.
    """
    settings = config.text_encoder
    return _built(
        lambda: TextEncoder(
            vocabulary_size=vocabulary_size,
            embedding_dim=settings.embedding_dim,
            feature_dim=settings.feature_dim,
            dropout=settings.dropout,
            embedding_range=settings.embedding_range,
        ),
        "text_encoder.embedding_dim, text_encoder.feature_dim",
    )


def build_image_encoder(config: Config) -> PretrainedImageEncoder | SmallImageEncoder:
    """Return an image encoder with fresh weights."""
    feature_dim = config.text_encoder.feature_dim
    if config.image_encoder.kind == "small":
        return _built(
            lambda: SmallImageEncoder(feature_dim=feature_dim, channels=config.image_encoder.channels),
            "image_encoder.channels, text_encoder.feature_dim",
        )
    make = PRETRAINED[config.image_encoder.kind]
    return _built(lambda: make(feature_dim=feature_dim), "text_encoder.feature_dim")


def build_generator(config: Config) -> Generator:
    """Return a generator with fresh weights."""
    settings = config.generator
    return _built(
        lambda: Generator(
            text_dim=config.text_encoder.feature_dim,
            resolutions=config.resolutions,
            channels=settings.channels,
            noise_dim=settings.noise_dim,
            condition_dim=settings.condition_dim,
            num_residual_blocks=settings.num_residual_blocks,
            num_stages=settings.num_stages,
            upsampling=settings.upsampling,
        ),
        "generator.channels, generator.num_residual_blocks, generator.noise_dim, generator.condition_dim, "
        "data.resolution",
    )


def build_discriminators(config: Config) -> list[Discriminator]:
    """Return one discriminator for each resolution that is drawn, with fresh weights."""

    def build(*, spectral_norm: bool) -> nn.ModuleList:
        return nn.ModuleList(
            Discriminator(
                resolution=resolution,
                text_dim=config.text_encoder.feature_dim,
                channels=config.discriminator.channels,
                spectral_norm=spectral_norm,
                unconditional=config.discriminator.unconditional,
            )
            for resolution in config.resolutions
        )

    made = functools.partial(build, spectral_norm=config.discriminator.spectral_norm)
    names = "discriminator.channels, data.resolution"
    # Spectral norms are two vectors a layer, and take half a second to be tried without memory.
    return list(_built(made, names, sizes=functools.partial(build, spectral_norm=False)))


def _built(make: Callable[[], Network], settings: str, *, sizes: Callable[[], nn.Module] | None = None) -> Network:
    """Make a network, unless the machine has no memory for it; legal sizes multiply to terabytes.

    Args:
        make: makes it.
        settings: those that say how large it is.
        sizes: makes one as large; None for `make`.
    """
    if torch.get_default_device().type == "meta":
        return make()
    with torch.device("meta"):
        num_bytes = sum(each.numel() * each.element_size() for each in (sizes or make)().state_dict().values())
    # Adam keeps two averages beside each weight and its gradient; where a GPU trains, they are in its memory.
    needed, memory = num_bytes * (1 if torch.cuda.is_available() else 4), machine.memory_bytes()
    if needed > memory:
        raise InputError(
            f"{settings}: together they ask for {needed / 2**30:,.1f} GiB to train one of the networks, this machine "
            f"has {memory / 2**30:,.1f} GiB; lower them."
        )
    return make()


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's parameters and buffers as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with artifacts.atomic_file(path) as handle:
        handle.write(safetensors.torch.save(tensors))


def load_weights(path: Path, network: nn.Module) -> None:
    """Read weights written by `save_weights` into a network of the same architecture.

    Args:
        path: the file.
        network: anywhere; one built without memory (`torch.device("meta")`) gets it here, on the CPU, since the file is
            as large as the network claims to be.

    Raises:
        InputError: the file is missing, cut off, of another architecture, or holds what is not finite; what does not
            fit is named.
    """
    own, kind = network.state_dict(), type(network).__name__
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            _check_header(path, {name: file.get_slice(name) for name in file.keys()}, own, kind)  # noqa: SIM118
        tensors = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except InputError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({shown(str(error))}); copy it again.") from None
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise InputError(f"{path}: {name} holds values that are not finite; copy it again, or train anew.")
    if any(tensor.is_meta for tensor in own.values()):
        network.to_empty(device="cpu")
    network.load_state_dict(tensors)


def _check_header(path: Path, entries: Mapping[str, Any], own: Mapping[str, Tensor], kind: str) -> None:
    """Compare what a safetensors file says of its tensors with those of a network; neither needs memory for it."""
    missing, unexpected = sorted(own.keys() - entries.keys()), sorted(entries.keys() - own.keys())
    if missing or unexpected:
        named = ", ".join(
            [f"{name} is missing" for name in missing[:3]] + [f"{shown(name)} is extra" for name in unexpected[:3]]
        )
        raise InputError(f"{path}: not the weights of this {kind}: {named}; use the config it came with.")
    for name, entry in entries.items():
        shape, wanted = tuple(entry.get_shape()), tuple(own[name].shape)
        if shape != wanted:
            raise InputError(
                f"{path}: {name} has shape {shape}, this {kind} needs {wanted}; use the config and the vocabulary that "
                "it came with."
            )
        dtype, expected = entry.get_dtype(), SAFETENSORS_DTYPES[own[name].dtype]
        if dtype != expected and not (dtype == "F32" and expected == "F64"):  # which holds every one of the numbers
            raise InputError(
                f"{path}: {name} holds {dtype}, this {kind} needs {expected}; use the file as it was made."
            )
