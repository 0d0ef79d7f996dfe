"""The folder that DAMSM pretraining leaves: both encoders, their vocabulary and their settings, written and read."""

from pathlib import Path

import torch

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.data.captions import Vocabulary
from attngan.errors import InputError
from attngan.inference import weights
from attngan.inference.text_to_image import TextToImage
from attngan.models.image_encoder import PretrainedImageEncoder, SmallImageEncoder
from attngan.models.text_encoder import TextEncoder
from attngan.storage import artifacts


def save(
    folder: Path,
    text_encoder: TextEncoder,
    image_encoder: PretrainedImageEncoder | SmallImageEncoder,
    vocabulary: Vocabulary,
    config: Config,
) -> list[str]:
    """Write what `load` reads, and return the files' names for the manifest, which is yet to come."""
    weights.save_weights(folder / "text_encoder.safetensors", text_encoder)
    weights.save_weights(folder / "image_encoder.safetensors", image_encoder)
    vocabulary.save(folder / "vocabulary.json")
    artifacts.write_text(folder / "config.yaml", configs.dump(config))
    return ["text_encoder.safetensors", "image_encoder.safetensors", "vocabulary.json", "config.yaml"]


def load(
    folder: Path, config: Config, vocabulary_size: int, device: torch.device
) -> tuple[TextEncoder, PretrainedImageEncoder | SmallImageEncoder]:
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
                f"{getattr(config, section)}; use the config that the damsm folder was made with: "
                f"--config {folder / 'config.yaml'}."
            )
    with torch.device("meta"):  # sizes alone: a config that claims more than its files hold is refused
        encoders = weights.build_text_encoder(config, vocabulary_size), weights.build_image_encoder(config)
    for name, encoder in zip(("text_encoder", "image_encoder"), encoders, strict=True):
        weights.load_weights(folder / f"{name}.safetensors", encoder)
        encoder.to(device).eval().requires_grad_(False)
    return encoders


def image_encoder_beside(
    model: TextToImage, generator: Path, damsm: Path
) -> PretrainedImageEncoder | SmallImageEncoder:
    """Return the frozen image encoder that belongs to a model's text encoder.

    Args:
        model: read from `generator`.
        generator: folder.
        damsm: folder that the generator was trained with.

    Raises:
        InputError: it was trained with another one, or as `load` says.
    """
    image_encoder = load(damsm, model.config, len(model.vocabulary), model.device)[1]
    own, given = (artifacts.read_manifest(folder)["files"]["text_encoder.safetensors"] for folder in (generator, damsm))
    if given != own:
        raise InputError(
            f"{damsm}: expected the damsm folder that {generator} was trained with, found another text encoder; "
            "give that folder (another judge goes to evaluate --second-damsm)."
        )
    return image_encoder
