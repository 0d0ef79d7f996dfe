"""Going on from a model that was trained before: on other pictures and with other words, with networks of its sizes."""

from pathlib import Path
from typing import Any

import torch

from attngan.config import settings as configs
from attngan.config import yaml_text
from attngan.config.settings import Config
from attngan.data.captions import Vocabulary
from attngan.errors import InputError, shown
from attngan.inference import weights
from attngan.models.image_encoder import PRETRAINED
from attngan.runtime.console import say
from attngan.storage import artifacts
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun

ENCODERS = ("damsm", "bundle", "generator")  # kinds of folders that encoders start from, the best one first
GENERATOR = ("generator", "bundle")
TEXT_SIZES = ("text_encoder.embedding_dim", "text_encoder.feature_dim")
IMAGE_SIZES = ("image_encoder.kind", "image_encoder.channels", "text_encoder.feature_dim")
GENERATOR_SIZES = (
    *("data.resolution", "generator.num_stages", "generator.channels", "generator.noise_dim"),
    *("generator.condition_dim", "generator.num_residual_blocks", "generator.finest_only", "generator.upsampling"),
    "text_encoder.feature_dim",
)


def find(folder: Path, kinds: tuple[str, ...]) -> Path:
    """Return the first result of these kinds: the folder itself, or one that stands in it as in a run's or an import's.

    Raises:
        InputError: there is none.
    """
    if (folder / artifacts.MANIFEST).is_file() and artifacts.read_manifest(folder)["kind"] in kinds:
        return folder
    for kind in kinds:
        if (folder / kind / artifacts.MANIFEST).is_file():
            return folder / kind
    if not folder.is_dir():
        raise InputError(f"--start-from {shown(str(folder))}: no such folder.")
    raise InputError(f"--start-from {shown(str(folder))}: expected a result of kind {', '.join(kinds)}, found none.")


def trunk(start_from: Path | None, given: Path | None, config: Config | None = None) -> Path | None:
    """Return the file that an image encoder's trunk is taken from, and then left as it is; None where there is none.

    Args:
        start_from: a model to begin with, whose trunk comes first if it has one that was trained before.
        given: weights of ImageNet.
        config: the run's; None before it is chosen.

    Raises:
        InputError: the model's sizes are others, or it is none.
    """
    if start_from is None:
        return given
    found = find(start_from, ENCODERS)
    theirs = configs.load_file(found / "config.yaml")
    if artifacts.read_manifest(found)["kind"] != "damsm" or theirs.image_encoder.kind not in PRETRAINED:
        return given
    if config is not None:
        _check_sizes(found, theirs, config, IMAGE_SIZES)
    return found / "image_encoder.safetensors"


def encoders_from(folder: Path, run: DamsmRun, vocabulary: Vocabulary) -> str:
    """Give a run at its first step the encoders of a model; return the fingerprint of where they came from.

    A word that both know keeps its embedding, another one starts fresh. Where there is no image encoder, as in a
    bundle, that one starts fresh.

    Raises:
        InputError: the model's sizes are others, or it is none.
    """
    found = find(folder, ENCODERS)
    manifest = artifacts.check(found, artifacts.read_manifest(found)["kind"], contents=True)
    theirs, their_words = configs.load_file(found / "config.yaml"), Vocabulary.load(found / "vocabulary.json")
    _check_sizes(found, theirs, run.config, TEXT_SIZES)
    with torch.device("meta"):
        text_encoder = weights.build_text_encoder(theirs, len(their_words))
    weights.load_weights(found / "text_encoder.safetensors", text_encoder)
    known = [word for word in vocabulary.words if word in their_words or word == their_words.words[0]]
    own_ids, their_ids = [vocabulary.words.index(word) for word in known], [their_words.words.index(w) for w in known]
    run.text_encoder.lstm.load_state_dict(text_encoder.lstm.state_dict())
    with torch.no_grad():
        run.text_encoder.embedding.weight[own_ids] = text_encoder.embedding.weight[their_ids].to(run.device)
    say(f"{run.name}: starts from {found}; it knows {len(known) - 1:,} of the {len(vocabulary) - 1:,} words")
    if manifest["kind"] == "damsm":
        _check_sizes(found, theirs, run.config, IMAGE_SIZES)
        weights.load_weights(found / "image_encoder.safetensors", run.image_encoder)
    else:
        say(f"{run.name}: there is no image encoder in {found}; it starts fresh")
    return manifest["fingerprint"]


def generator_from(folder: Path, run: GanRun) -> str:
    """Give a run at its first step the generator of a model, and its average; discriminators start fresh.

    Returns:
        The fingerprint of where it came from.

    Raises:
        InputError: the model's sizes are others, or it is none.
    """
    found = find(folder, GENERATOR)
    manifest = artifacts.check(found, artifacts.read_manifest(found)["kind"], contents=True)
    _check_sizes(found, configs.load_file(found / "config.yaml"), run.config, GENERATOR_SIZES)
    for network in (run.generator, run.generator_ema):
        weights.load_weights(found / "generator.safetensors", network)
    say(f"{run.name}: starts from {found}")
    return manifest["fingerprint"]


def sizes_of(folder: Path) -> list[str]:
    """Return the settings `section.name=value` of a model's networks: their sizes, and the noise that one was shown.

    Raises:
        InputError: it has no encoders, or no generator.
    """
    find(folder, GENERATOR)
    config = configs.load_file(find(folder, ENCODERS) / "config.yaml")
    names = dict.fromkeys((*TEXT_SIZES, *IMAGE_SIZES, "image_encoder.noise", *GENERATOR_SIZES))
    return [f"{name}={yaml_text.one_line(_value(config, name))}" for name in names]


def _check_sizes(folder: Path, theirs: Config, ours: Config, names: tuple[str, ...]) -> None:
    """Name every size in which a model differs from a run."""
    differing = [
        f"{name} is {_value(theirs, name)} there and {_value(ours, name)} here"
        for name in names
        if _value(theirs, name) != _value(ours, name)
    ]
    if differing:
        raise InputError(f"--start-from {folder}: {'; '.join(differing)}; set what is there, or start without it.")


def _value(config: Config, name: str) -> Any:
    section, _, setting = name.partition(".")
    return getattr(getattr(config, section), setting)
