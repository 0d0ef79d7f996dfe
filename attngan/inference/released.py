"""The authors' published files, read into our networks, and written as the folders that steps and drawing read.

Weights are bare dicts of tensors by name. Sizes are read off the tensors, so the COCO files load as the bird files do.
No file can run code here, or ask for more memory than its own size.
"""

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from attngan.config import settings
from attngan.config.settings import Config
from attngan.data.captions import Vocabulary
from attngan.errors import InputError
from attngan.inference import plain_pickle, trained_encoders
from attngan.inference.bundle import write_bundle
from attngan.inference.text_to_image import TextToImage
from attngan.models.discriminator import Discriminator
from attngan.models.generator import Generator
from attngan.models.image_encoder import ImageEncoder
from attngan.models.text_encoder import TextEncoder
from attngan.storage import artifacts, tensor_files
from attngan.storage.result_folder import result

NAMED = 3  # tensors in a message
MAX_DOUBLINGS = 8  # of the first stage

# From what the names of our tensors begin with to what the authors' begin with; the first that fits.
Renames = Mapping[str, str]
TEXT_ENCODER = {"embedding.": "encoder.", "lstm.": "rnn."}
IMAGE_ENCODER = {"trunk.": "", "project_regions.": "emb_features.", "project_image.": "emb_cnn_code."}
GENERATOR = {
    "augment_condition.project.": "ca_net.fc.",
    "initial.project.": "h_net1.fc.",
    **{f"initial.upsample.{index}.": f"h_net1.upsample{index + 1}." for index in range(MAX_DOUBLINGS)},
    **{f"refinements.{index}.project_words.": f"h_net{index + 2}.att.conv_context." for index in range(2)},
    **{f"refinements.{index}.": f"h_net{index + 2}." for index in range(2)},
    **{f"to_image.{index}.": f"img_net{index + 1}.img." for index in range(3)},
}
DISCRIMINATOR = {
    "unconditional.": "UNCOND_DNET.outlogits.0.",
    "join.": "COND_DNET.jointConv.",
    "conditional.": "COND_DNET.outlogits.0.",
    # Its first four halvings are one sequence there: convolution 0, then convolution, batch norm, activation of each.
    "encode.0.0.": "img_code_s16.0.",
    **{
        f"encode.{block}.{layer}.": f"img_code_s16.{3 * block - 1 + layer}."
        for block in range(1, 4)
        for layer in range(2)
    },
}
# What follows those four halvings, by resolution.
DISCRIMINATOR_MORE = {
    64: [],
    128: ["img_code_s32", "img_code_s32_1"],
    256: ["img_code_s32", "img_code_s64", "img_code_s64_1", "img_code_s64_2"],
}

Network = TypeVar("Network", bound=nn.Module)


def load_text_encoder(path: Path) -> TextEncoder:
    """Read `text_encoderN.pth`; in evaluation mode.

    Raises:
        InputError: as every loader here: the file is missing, cut off, holds anything but float32 tensors, or is of
            another architecture.
    """
    tensors = _read(path, "text encoder", {"encoder.weight": 2, "rnn.weight_hh_l0": 2})
    vocabulary_size, embedding_dim = tensors["encoder.weight"].shape
    with torch.device("meta"):  # sizes alone: what does not fit them is refused before there is memory for it
        encoder = TextEncoder(
            vocabulary_size=vocabulary_size,
            embedding_dim=embedding_dim,
            feature_dim=2 * tensors["rnn.weight_hh_l0"].shape[1],
        )
    return _fill(encoder, tensors, TEXT_ENCODER, path)


def load_image_encoder(path: Path) -> ImageEncoder:
    """Read `image_encoderN.pth`: Inception-v3's trunk and the two projections; in evaluation mode, its trunk frozen."""
    tensors = _read(path, "image encoder", {"emb_features.weight": 4, "emb_cnn_code.weight": 2})
    with torch.device("meta"):
        encoder = ImageEncoder(feature_dim=len(tensors["emb_features.weight"]))
    return _fill(encoder, tensors, IMAGE_ENCODER, path)


def load_generator(path: Path) -> Generator:
    """Read `netG_epoch_N.pth` or `bird_AttnGAN2.pth`, the averaged generator; in evaluation mode.

    That of attn-DCGAN, `bird_AttnDCGAN2.pth`, draws at its finest resolution alone.
    """
    tensors = _read(path, "generator", {"ca_net.fc.weight": 2, "h_net1.fc.0.weight": 2})
    finest_only = "img_net.img.0.weight" in tensors
    to_image = "img_net.img." if finest_only else "img_net1.img."
    _check_first(path, "generator", tensors, {f"{to_image}0.weight": 4})
    condition_dim, text_dim = tensors["ca_net.fc.weight"].shape[0] // 4, tensors["ca_net.fc.weight"].shape[1]
    num_stages = _count(tensors, r"h_net(\d+)\.")
    coarsest = 4 * 2 ** min(_count(tensors, r"h_net1\.upsample(\d+)\."), MAX_DOUBLINGS)
    sides = [coarsest * 2**stage for stage in range(num_stages)]
    with torch.device("meta"):
        generator = Generator(
            text_dim=text_dim,
            resolutions=sides[-1:] if finest_only else sides,
            channels=tensors[f"{to_image}0.weight"].shape[1],
            noise_dim=max(tensors["h_net1.fc.0.weight"].shape[1] - condition_dim, 0),
            condition_dim=condition_dim,
            num_residual_blocks=_count(tensors, r"h_net2\.residual\.(\d+)\."),
            num_stages=num_stages,
        )
    return _fill(generator, tensors, GENERATOR | {"to_image.0.": to_image}, path)


def load_discriminator(path: Path) -> Discriminator:
    """Read `netDi.pth`, for 64, 128 or 256 pixels; in evaluation mode.

    That of attn-DCGAN, `netD0.pth`, has its conditional output alone.
    """
    tensors = _read(path, "discriminator", {"img_code_s16.0.weight": 4, "COND_DNET.jointConv.0.weight": 4})
    depth = [side for side, names in DISCRIMINATOR_MORE.items() if all(f"{name}.0.weight" in tensors for name in names)]
    resolution, channels = depth[-1], len(tensors["img_code_s16.0.weight"])
    text_dim = max(tensors["COND_DNET.jointConv.0.weight"].shape[1] - 8 * channels, 0)
    with torch.device("meta"):
        discriminator = Discriminator(
            resolution=resolution,
            text_dim=text_dim,
            channels=channels,
            unconditional=any(name.startswith("UNCOND_DNET.") for name in tensors),
        )
    later = {f"encode.{4 + index}.": f"{name}." for index, name in enumerate(DISCRIMINATOR_MORE[resolution])}
    return _fill(discriminator, tensors, DISCRIMINATOR | later, path)


def load_vocabulary(path: Path) -> Vocabulary:
    """Read the words of `captions.pickle`: [training captions, test captions, id -> word, word -> id]."""
    content = plain_pickle.load(path)
    fits = isinstance(content, list | tuple) and len(content) == 4 and all(isinstance(c, dict) for c in content[2:])
    if not fits:
        raise InputError(
            f"{path}: expected the authors' captions.pickle (two lists of captions, then id -> word and word -> id), "
            "found something else."
        )
    words, ids = content[2], content[3]
    if set(words) != set(range(len(words))) or not all(isinstance(word, str) and word for word in words.values()):
        raise InputError(f"{path}: expected a word for each id from 0, found gaps or something else; copy it again.")
    if any(ids.get(word) != index for index, word in words.items()):
        raise InputError(f"{path}: its two tables, id -> word and word -> id, contradict each other; copy it again.")
    try:
        return Vocabulary([words[index] for index in range(len(words))])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


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
    words = load_vocabulary(vocabulary)
    encoder = load_text_encoder(text_encoder)
    network = load_generator(generator)
    images = None if image_encoder is None else load_image_encoder(image_encoder)
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
            written = trained_encoders.save(drafts["damsm"], encoder, images, words, settings)
            artifacts.finish(drafts["damsm"], "damsm", written, imported=imported)
        written = TextToImage(settings, words, encoder, network, torch.device("cpu")).save(drafts["generator"])
        artifacts.finish(drafts["generator"], "generator", written, imported=imported)
        write_bundle(drafts["generator"], drafts["bundle"], None)
    return [out / kind for kind in kinds]


def _read(path: Path, what: str, first: Mapping[str, int]) -> dict[str, Tensor]:
    """Return a file's float32 tensors without `module.`; `first` names tensors it must have, and their dimensions."""
    tensors = tensor_files.read(path, f"the authors' {what}")
    if tensors and all(name.startswith("module.") for name in tensors):  # saved from nn.DataParallel
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    _check_first(path, what, tensors, first)
    return tensors


def _check_first(path: Path, what: str, tensors: Mapping[str, Tensor], first: Mapping[str, int]) -> None:
    """Raise unless the tensors that the sizes are read off are there, with their dimensions."""
    for name, dimensions in first.items():
        if name not in tensors or tensors[name].dim() != dimensions or not tensors[name].numel():
            found = ", ".join(list(tensors)[:NAMED]) or "nothing"
            raise InputError(
                f"{path}: not the authors' {what}: expected {name} with {dimensions} dimensions, found {found}, ..."
            )


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Return how many different numbers stand in the names that fit."""
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def _fill(network: Network, tensors: dict[str, Tensor], renames: Renames, path: Path) -> Network:
    """Put the tensors into a network that was built without memory; InputError names what does not fit."""
    own = network.state_dict()
    theirs = {name: _released_name(name, renames) for name in own}
    # Files of torch 0.3 and older do not count batches; nothing but a batch norm without momentum would read the count.
    missing = [name for name in theirs.values() if name not in tensors and not name.endswith("num_batches_tracked")]
    extra = sorted(tensors.keys() - theirs.values())
    if missing or extra:
        kind = type(network).__name__
        parts = [
            f"{len(names)} tensors {how} ({', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})"
            for names, how in ((missing, "are missing"), (extra, "are extra"))
            if names
        ]
        raise InputError(f"{path}: not the authors' {kind}: {' and '.join(parts)}.")
    filled = {}
    for name, released in theirs.items():
        tensor = tensors.get(released, torch.zeros((), dtype=torch.int64))
        if tensor.shape not in (own[name].shape, (*own[name].shape, 1)):  # a 1 x 1 convolution over words has one axis
            raise InputError(
                f"{path}: {released} has shape {tuple(tensor.shape)}, the sizes of the other tensors ask for "
                f"{tuple(own[name].shape)}."
            )
        if tensor.dtype != own[name].dtype:
            raise InputError(
                f"{path}: {released} holds {_short(tensor.dtype)}, expected {_short(own[name].dtype)}; rounded weights "
                "draw other pictures, so get the file as it was published."
            )
        if not tensor.isfinite().all():
            raise InputError(f"{path}: {released} holds values that are not finite; get the file as it was published.")
        filled[name] = tensor.reshape(own[name].shape).contiguous()
    network.load_state_dict(filled, assign=True)
    return network.eval()


def _released_name(name: str, renames: Renames) -> str:
    for ours, theirs in renames.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_same(what: str, one: tuple[Path, int], other: tuple[Path, int]) -> None:
    """Raise unless two files agree on a size."""
    if one[1] != other[1]:
        raise InputError(
            f"{one[0]} has {one[1]:,} {what}, {other[0]} has {other[1]:,}: they do not belong together; give files of "
            "one training."
        )


def _settings(encoder: TextEncoder, network: Generator) -> Config:
    """Return the config that builds these networks again; attn-DCGAN's discriminator has a conditional output alone."""
    num_stages = 1 + len(network.refinements)
    finest_only = len(network.resolutions) < num_stages
    sizes = {
        "data": {"resolution": network.resolutions[-1]},
        "text_encoder": {"embedding_dim": encoder.embedding.embedding_dim, "feature_dim": 2 * encoder.lstm.hidden_size},
        "generator": {
            "num_stages": num_stages,
            "finest_only": finest_only,
            "channels": network.to_image[0][0].in_channels,
            "noise_dim": network.noise_dim,
            "condition_dim": network.condition_dim,
            "num_residual_blocks": len(network.refinements[0].residual) if network.refinements else 1,
        },
        "discriminator": {"unconditional": not finest_only},
    }
    return settings.load(json.dumps(sizes), where="the released networks")
