"""The authors' published weights as folders of this pipeline: `generator`, `bundle`, and `damsm` to train on from."""

import json
from pathlib import Path

import torch

from attngan import artifacts, config, released, weights
from attngan.bundle import write_bundle
from attngan.config import Config
from attngan.errors import InputError
from attngan.models.generator import Generator
from attngan.models.text_encoder import TextEncoder
from attngan.text_to_image import TextToImage


def import_released(
    text_encoder: Path, generator: Path, vocabulary: Path, out: Path, *, image_encoder: Path | None = None
) -> list[Path]:
    """Write the authors' files as result folders; `attngan generate` draws from the bundle.

    Args:
        text_encoder: `text_encoderN.pth`.
        generator: `netG_epoch_N.pth`, or `bird_AttnGAN2.pth` and the like.
        vocabulary: `captions.pickle`.
        out: gets `generator` and `bundle`, and `damsm` where the image encoder is given.
        image_encoder: `image_encoderN.pth`.

    Returns:
        The folders written.

    Raises:
        InputError: a file is unusable, or the files do not belong together; nothing is written then.
    """
    words = released.load_vocabulary(vocabulary)
    encoder = released.load_text_encoder(text_encoder)
    network = released.load_generator(generator)
    images = None if image_encoder is None else released.load_image_encoder(image_encoder)
    feature_dim = 2 * encoder.lstm.hidden_size
    _check_sizes("words", {vocabulary: len(words), text_encoder: encoder.embedding.num_embeddings})
    _check_sizes("features", {text_encoder: feature_dim, generator: network.augment_condition.project.in_features})
    if image_encoder is not None:
        _check_sizes("features", {text_encoder: feature_dim, image_encoder: images.project_image.out_features})

    settings = _settings(encoder, network)
    files = {"text_encoder": text_encoder, "generator": generator, "vocabulary": vocabulary}
    files |= {} if image_encoder is None else {"image_encoder": image_encoder}
    imported = {name: artifacts.sha256_of(path) for name, path in files.items()}
    folders = []
    if images is not None:
        folders.append(_begin(out / "damsm"))
        written = weights.save_damsm(folders[-1], encoder, images, words, settings)
        artifacts.finish(folders[-1], "damsm", written, imported=imported)
    folders.append(_begin(out / "generator"))
    written = TextToImage(settings, words, encoder, network, torch.device("cpu")).save(folders[-1])
    artifacts.finish(folders[-1], "generator", written, imported=imported)
    folders.append(out / "bundle")
    write_bundle(out / "generator", out / "bundle", None)
    return folders


def _begin(folder: Path) -> Path:
    artifacts.begin(folder)
    return folder


def _check_sizes(what: str, found: dict[Path, int]) -> None:
    """Raise unless two files agree on a size."""
    (one, size), (other, other_size) = found.items()
    if size != other_size:
        raise InputError(
            f"{one} has {size:,} {what}, {other} has {other_size:,}: they do not belong together; give files of one "
            "training."
        )


def _settings(encoder: TextEncoder, network: Generator) -> Config:
    """Return the config that builds these networks again."""
    sizes = {
        "data": {"resolution": network.resolutions[-1]},
        "text_encoder": {"embedding_dim": encoder.embedding.embedding_dim, "feature_dim": 2 * encoder.lstm.hidden_size},
        "generator": {
            "num_stages": len(network.resolutions),
            "channels": network.to_image[0][0].in_channels,
            "noise_dim": network.noise_dim,
            "condition_dim": network.condition_dim,
            "num_residual_blocks": len(network.refinements[0].residual) if network.refinements else 1,
        },
    }
    return config.load(json.dumps(sizes), where="the released networks")
