"""The authors' published weights as folders of this pipeline: `generator`, `bundle`, and `damsm` to train on from."""

import contextlib
import json
from pathlib import Path

import torch

from attngan.config import settings
from attngan.config.settings import Config
from attngan.errors import InputError
from attngan.inference import released, weights
from attngan.inference.bundle import write_bundle
from attngan.inference.text_to_image import TextToImage
from attngan.models.generator import Generator
from attngan.models.text_encoder import TextEncoder
from attngan.storage import artifacts
from attngan.storage.result_folder import result


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
    _check_same("words", (vocabulary, len(words)), (text_encoder, encoder.embedding.num_embeddings))
    text_dim = network.augment_condition.project.in_features
    _check_same("features", (text_encoder, feature_dim), (generator, text_dim))
    if images is not None:
        _check_same("features", (text_encoder, feature_dim), (image_encoder, images.project_image.out_features))

    settings = _settings(encoder, network)
    files = {"text_encoder": text_encoder, "generator": generator, "vocabulary": vocabulary}
    files |= {} if image_encoder is None else {"image_encoder": image_encoder}
    imported = {name: artifacts.sha256_of(path) for name, path in files.items()}
    kinds = ["generator", "bundle"] if images is None else ["damsm", "generator", "bundle"]
    with contextlib.ExitStack() as stack:
        drafts = {kind: stack.enter_context(result(out / kind, kind, inputs=files.values())) for kind in kinds}
        if images is not None:
            written = weights.save_damsm(drafts["damsm"], encoder, images, words, settings)
            artifacts.finish(drafts["damsm"], "damsm", written, imported=imported)
        written = TextToImage(settings, words, encoder, network, torch.device("cpu")).save(drafts["generator"])
        artifacts.finish(drafts["generator"], "generator", written, imported=imported)
        write_bundle(drafts["generator"], drafts["bundle"], None)
    return [out / kind for kind in kinds]


def _check_same(what: str, one: tuple[Path, int], other: tuple[Path, int]) -> None:
    """Raise unless two files agree on a size."""
    if one[1] != other[1]:
        raise InputError(
            f"{one[0]} has {one[1]:,} {what}, {other[0]} has {other[1]:,}: they do not belong together; give files of "
            "one training."
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
    return settings.load(json.dumps(sizes), where="the released networks")
