"""Files as the authors' code writes them, made from networks of ours at small size: same names, order and pickles."""

import pickle
from pathlib import Path

import numpy as np
import torch

from attngan.models.discriminator import Discriminator
from attngan.models.generator import Generator
from attngan.models.image_encoder import ImageEncoder
from attngan.models.text_encoder import TextEncoder

WORDS = ["<end>", "a", "small", "red", "bird", "with", "black", "wings"]
DISCRIMINATOR_BLOCKS = {
    64: ["s16"],
    128: ["s16", "s32", "s32_1"],
    256: ["s16", "s32", "s64", "s64_1", "s64_2"],
}


def text_encoder(**sizes) -> TextEncoder:
    return TextEncoder(**{"vocabulary_size": len(WORDS), "embedding_dim": 10, "feature_dim": 12} | sizes)


def generator(**sizes) -> Generator:
    defaults = {"text_dim": 12, "channels": 2, "noise_dim": 5, "condition_dim": 3, "num_residual_blocks": 2}
    return Generator(**defaults | sizes)


def vary(network: torch.nn.Module) -> torch.nn.Module:
    """Give running statistics values of their own, so that none of them is taken for another."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "running" in name:
                tensor.uniform_(0.5, 1.5)
    return network


def text_encoder_name(name: str) -> str:
    return name.replace("embedding", "encoder").replace("lstm", "rnn")


def image_encoder_name(name: str) -> str:
    for ours, theirs in (("trunk.", ""), ("project_regions", "emb_features"), ("project_image", "emb_cnn_code")):
        name = name.replace(ours, theirs)
    return name


def generator_name(name: str) -> str:
    part, *rest = name.split(".")
    if part == "augment_condition":
        return ".".join(["ca_net.fc", *rest[1:]])
    if part == "initial" and rest[0] == "project":
        return ".".join(["h_net1.fc", *rest[1:]])
    if part == "initial":
        return ".".join([f"h_net1.upsample{int(rest[1]) + 1}", *rest[2:]])
    if part == "to_image":
        return ".".join([f"img_net{int(rest[0]) + 1}.img", *rest[1:]])
    tail = ".".join(rest[1:]).replace("project_words", "att.conv_context")
    return f"h_net{int(rest[0]) + 2}.{tail}"


def discriminator_name(name: str, resolution: int) -> str:
    part, *rest = name.split(".")
    if part == "encode":
        block, layer = int(rest[0]), int(rest[1])
        if block < 4:
            return f"img_code_s16.{[0, 2, 5, 8][block] + layer}.{rest[2]}"
        return f"img_code_{DISCRIMINATOR_BLOCKS[resolution][block - 3]}.{layer}.{rest[2]}"
    place = {
        "unconditional": "UNCOND_DNET.outlogits.0",
        "join": "COND_DNET.jointConv",
        "conditional": "COND_DNET.outlogits.0",
    }
    return ".".join([place[part], *rest])


def of_text_encoder(network: TextEncoder) -> dict[str, torch.Tensor]:
    return _renamed(network, text_encoder_name)


def of_image_encoder(network: ImageEncoder) -> dict[str, torch.Tensor]:
    return _renamed(network, image_encoder_name)


def of_generator(network: Generator) -> dict[str, torch.Tensor]:
    tensors = _renamed(network, generator_name)
    if len(network.to_image) <= len(network.refinements):  # attn-DCGAN
        tensors = {name.replace("img_net1.", "img_net."): tensor for name, tensor in tensors.items()}
    return {name: tensor[..., None] if "conv_context" in name else tensor for name, tensor in tensors.items()}


def of_discriminator(network: Discriminator, resolution: int) -> dict[str, torch.Tensor]:
    return _renamed(network, lambda name: discriminator_name(name, resolution))


def write_vocabulary(path: Path, words: list[str] = WORDS) -> None:
    """Write `captions.pickle`, whose ids are numpy's in one caption, as some of the authors' tools left them."""
    captions = [[1, 2, 3, 4], [np.int64(1), np.int64(4)]]
    tables = dict(enumerate(words)), {word: index for index, word in enumerate(words)}
    path.write_bytes(pickle.dumps([captions, captions[:1], *tables], protocol=2))


def write_all(folder: Path, *, seed: int = 0, **sizes) -> dict[str, Path]:
    """Write files that belong together, and return their paths by the names of the command's options.

    Args:
        folder: gets them.
        seed: of the weights.
        sizes: of the generator, where they differ from those of `generator`.
    """
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "text_encoder": folder / "text_encoder200.pth",
        "generator": folder / "bird_AttnGAN2.pth",
        "vocabulary": folder / "captions.pickle",
    }
    torch.save(of_text_encoder(text_encoder()), paths["text_encoder"])
    torch.save(of_generator(vary(generator(**sizes))), paths["generator"])
    write_vocabulary(paths["vocabulary"])
    return paths


def _renamed(network: torch.nn.Module, rename) -> dict[str, torch.Tensor]:
    return {rename(name): tensor.clone() for name, tensor in network.state_dict().items()}
