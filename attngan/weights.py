"""Between folders and networks: build a network from its settings, write its weights, read them back (safetensors)."""

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from attngan import acceleration, artifacts, machine
from attngan import config as configs
from attngan.config import Config
from attngan.data.captions import Vocabulary
from attngan.errors import InputError
from attngan.models.discriminator import Discriminator
from attngan.models.generator import Generator
from attngan.models.image_encoder import ImageEncoder, SmallImageEncoder
from attngan.models.text_encoder import TextEncoder

DEVICE_TYPES = ("cpu", "cuda")


def choose_device(config: Config) -> torch.device:
    """Return the device of `config.device`, and set up CPU and CUDA: threads of `config.num_threads`, memory, kernels.

    A CUDA device comes with its number, and becomes the current one, which graphs are recorded on: "cuda" alone would
    be another device in a thread that takes none.

    Raises:
        InputError: it is not there, or not a kind that attngan runs on.
    """
    acceleration.keep_freed_memory()
    # Shapes stay the same from step to step: the fastest kernel is worth a search.
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32: what computes in less says so
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    elif torch.get_num_threads() > machine.num_cores():  # torch counts the node's
        torch.set_num_threads(machine.num_cores())
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type not in DEVICE_TYPES:
            raise RuntimeError(f"expected one of {', '.join(DEVICE_TYPES)}")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device: {config.device!r} cannot be used here ({reason}); set device to auto or cpu."
        ) from None
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        torch.cuda.set_device(device)
    return device


def build_text_encoder(config: Config, vocabulary_size: int) -> TextEncoder:
    """Return a text encoder with fresh weights."""
    settings = config.text_encoder
    return TextEncoder(
        vocabulary_size=vocabulary_size,
        embedding_dim=settings.embedding_dim,
        feature_dim=settings.feature_dim,
        dropout=settings.dropout,
        embedding_range=settings.embedding_range,
    )


def build_image_encoder(config: Config) -> ImageEncoder | SmallImageEncoder:
    """Return an image encoder with fresh weights."""
    feature_dim = config.text_encoder.feature_dim
    if config.image_encoder.kind == "small":
        return SmallImageEncoder(feature_dim=feature_dim, channels=config.image_encoder.channels)
    return ImageEncoder(feature_dim=feature_dim)


def build_generator(config: Config) -> Generator:
    """Return a generator with fresh weights."""
    settings = config.generator
    return Generator(
        text_dim=config.text_encoder.feature_dim,
        resolutions=config.resolutions,
        channels=settings.channels,
        noise_dim=settings.noise_dim,
        condition_dim=settings.condition_dim,
        num_residual_blocks=settings.num_residual_blocks,
    )


def build_discriminators(config: Config) -> list[Discriminator]:
    """Return one discriminator for each stage, with fresh weights."""
    return [
        Discriminator(
            resolution=resolution,
            text_dim=config.text_encoder.feature_dim,
            channels=config.discriminator.channels,
            spectral_norm=config.discriminator.spectral_norm,
        )
        for resolution in config.resolutions
    ]


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's parameters and buffers as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with artifacts.atomic_file(path) as handle:
        handle.write(safetensors.torch.save(tensors))


def load_weights(path: Path, network: nn.Module) -> None:
    """Read weights written by `save_weights` into a network of the same architecture.

    Raises:
        InputError: the file is missing, cut off, or of another architecture; what does not fit is named.
    """
    try:
        tensors = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}); copy it again.") from None
    own = network.state_dict()
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unexpected:
        named = ", ".join(
            [f"{name} is missing" for name in missing[:3]] + [f"{name} is extra" for name in unexpected[:3]]
        )
        raise InputError(
            f"{path}: not the weights of this {type(network).__name__}: {named}; use the config it came with."
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise InputError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, this {type(network).__name__} needs "
                f"{tuple(own[name].shape)}; use the config it came with."
            )
    network.load_state_dict(tensors)


def save_damsm(
    folder: Path,
    text_encoder: TextEncoder,
    image_encoder: ImageEncoder | SmallImageEncoder,
    vocabulary: Vocabulary,
    config: Config,
) -> list[str]:
    """Write what `load_damsm` reads, and return the files' names for the manifest, which is yet to come."""
    save_weights(folder / "text_encoder.safetensors", text_encoder)
    save_weights(folder / "image_encoder.safetensors", image_encoder)
    vocabulary.save(folder / "vocabulary.json")
    artifacts.write_text(folder / "config.yaml", configs.dump(config))
    return ["text_encoder.safetensors", "image_encoder.safetensors", "vocabulary.json", "config.yaml"]


def load_damsm(
    folder: Path, config: Config, vocabulary_size: int, device: torch.device
) -> tuple[TextEncoder, ImageEncoder | SmallImageEncoder]:
    """Return the frozen encoders of a `damsm` folder, in evaluation mode.

    Raises:
        InputError: the folder is incomplete, or its encoders are not the ones that `config` describes.
    """
    artifacts.check(folder, "damsm", contents=True)
    theirs = configs.load_file(folder / "config.yaml")
    for section in ("text_encoder", "image_encoder"):
        if getattr(theirs, section) != getattr(config, section):
            raise InputError(
                f"{folder}: its {section} was trained as {getattr(theirs, section)}, the config asks for "
                f"{getattr(config, section)}; use the config that the damsm folder was made with."
            )
    encoders = build_text_encoder(config, vocabulary_size), build_image_encoder(config)
    for name, encoder in zip(("text_encoder", "image_encoder"), encoders, strict=True):
        load_weights(folder / f"{name}.safetensors", encoder)
        encoder.to(device).eval().requires_grad_(False)
    return encoders


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of weights that others wrote, safetensors or torch's; no code in it can run."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a file of weights.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        detail = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not readable as a state dict of tensors ({detail}).") from None
