"""The networks that evaluation sees pictures through, each named after its weights.

No two files share a name: the name holds the first digits of the weights' sha256, and so does every figure made with
them. Weights are given as files, nothing is downloaded here.
"""

import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.functional import normalize

from attngan.config import settings
from attngan.config.settings import Config
from attngan.inference import published
from attngan.models.efficientnet_lite import EFFICIENTNET_SIDE
from attngan.models.image_encoder import IMAGENET_DEVIATION, IMAGENET_MEAN, INCEPTION_SIDE, MOBILENET_SIDE
from attngan.storage import artifacts, tensor_files

NUM_DIGITS = 8  # of a sha256, in a name
PIXELS = "pixels"  # stands for an extractor where pictures are compared as they are ...
PIXELS_SIDE = 16  # ... or averaged down to this side, to find copies
TRUNKS = {"inception_v3": "inception-imagenet", "mobilenet_v2": "mobilenet-v2"}  # of image encoders, by their kind
Extract = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@dataclasses.dataclass(frozen=True)
class Extractor:
    """Turns pictures into features, and into logits where the network is a classifier.

    Args:
        name: kind and first digits of the weights' sha256, such as "inception-fid-6726825d".
        conditions: sha256 of the weights, and how a picture is resized for the network.
        extract: (B, 3, H, W) in [-1, 1] -> features (B, D), logits (B, K) or None.
    """

    name: str
    conditions: dict[str, str]
    extract: Extract


def damsm_extractor(folder: Path, image_encoder: nn.Module) -> Extractor:
    """See through the image encoder of a `damsm` folder: its feature of the whole picture."""
    sha256 = artifacts.check(folder, "damsm")["files"]["image_encoder.safetensors"]["sha256"]
    resize = "as the image encoder does in training"
    return Extractor(
        _name("damsm", sha256), _conditions(sha256, resize), lambda images: (image_encoder(images)[1], None)
    )


def pretrained_extractors(settings: settings.Evaluate, device: torch.device) -> list[Extractor]:
    """See through the networks whose weights the settings name; they may lie in cloud storage."""
    found = (pretrained_extractor(settings, setting, device) for setting in PRETRAINED)
    return [extractor for extractor in found if extractor is not None]


def pretrained_extractor(settings: settings.Evaluate, setting: str, device: torch.device) -> Extractor | None:
    """See through the network of one of `PRETRAINED`; None where the settings name no weights for it."""
    given = getattr(settings, setting)
    if not given.uri:
        return None
    with published.weights_file(given, f"evaluate.{setting}") as (path, sha256):
        extract, resize = PRETRAINED[setting](path, device)
    return Extractor(_name(setting.replace("_", "-"), sha256), _conditions(sha256, resize), extract)


def trained_against(pretrained: Iterable[Extractor], generator: Path, config: Config) -> list[str]:
    """Return the names of those networks that a generator's training looked through: figures by them flatter it.

    Args:
        pretrained: networks of others.
        generator: folder of the generator, which knows the weights that its projected discriminator looked through.
        config: of its training.
    """
    frozen = artifacts.read_manifest(generator).get("frozen")
    trunk = TRUNKS.get(config.image_encoder.kind)
    return [
        each.name
        for each in pretrained
        if each.conditions["sha256"] == frozen or (trunk and each.name.startswith(trunk))
    ]


def columns(extractors: Sequence[Extractor], images: Tensor) -> dict[str, Tensor]:
    """Return what the extractors say of pictures (B, 3, H, W), as columns of a table."""
    made: dict[str, Tensor] = {}
    for extractor in extractors:
        features, logits = extractor.extract(images)
        made[extractor.name] = features.float()
        if logits is not None:
            made[f"{extractor.name} logits"] = logits.float()
    return {**made, PIXELS: functional.adaptive_avg_pool2d(images, PIXELS_SIDE).flatten(1).float()}


def changes(extractors: Sequence[Extractor], drawn: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return how far each changed picture of `EvaluationPictures.pair` is from the first, as columns of a table."""
    made: dict[str, Tensor] = {}
    changed = {name: images for name, images in drawn.items() if name != "first"}
    for extractor in extractors:
        first = extractor.extract(drawn["first"])[0]
        for name, images in changed.items():
            made[f"{extractor.name} {name}"] = (extractor.extract(images)[0] - first).norm(dim=1)
    return made | {f"{PIXELS} {name}": pixels_apart(images, drawn["first"]) for name, images in changed.items()}


def pixels_apart(images: Tensor, others: Tensor) -> Tensor:
    """Return the mean difference (B,) of pictures (B, 3, H, W) two by two, from 0 to 1."""
    return (images - others).abs().mean(dim=(1, 2, 3)) / 2


def _fid_inception(path: Path, device: torch.device) -> tuple[Extract, str]:
    """The Inception of the published FIDs: TensorFlow's of 2015, as torch-fidelity and pytorch-fid pass it on."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    safe = io.BytesIO()  # torch-fidelity would run what a pickle says: it reads what was read without that
    torch.save(tensor_files.read(path), safe)
    safe.seek(0)
    try:
        network = FeatureExtractorInceptionV3("fid", ["2048", "logits_unbiased"], feature_extractor_weights_path=safe)
    except RuntimeError as error:
        expected = "the Inception weights of torch-fidelity, weights-inception-2015-12-05"
        raise published.misfit(path, error, expected) from None
    network.to(device)

    def extract(images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = network(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
        return features, logits

    return extract, "8 bits, bilinear to 299 x 299 as TensorFlow 1 does"


def _imagenet_inception(path: Path, device: torch.device) -> tuple[Extract, str]:
    """Inception-v3 for ImageNet from torchvision, which takes pictures in [-1, 1]."""
    tensors = {name: tensor for name, tensor in tensor_files.read(path).items() if not name.startswith("AuxLogits")}
    network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
    published.load(network, tensors, path, "torchvision's inception_v3 ImageNet file")
    network.to(device).eval()
    classify, network.fc = network.fc, nn.Identity()

    def extract(images: Tensor) -> tuple[Tensor, Tensor]:
        features = network(_resized(images, INCEPTION_SIDE))
        return features, classify(features)

    return extract, _how_resized(INCEPTION_SIDE)


def _mobilenet(path: Path, device: torch.device) -> tuple[Extract, str]:
    """MobileNetV2 for ImageNet from torchvision."""
    network = torchvision.models.mobilenet_v2(weights=None)
    published.load(network, tensor_files.read(path), path, "torchvision's mobilenet_v2 ImageNet file")
    network.to(device).eval()
    classify, network.classifier = network.classifier, nn.Identity()

    def extract(images: Tensor) -> tuple[Tensor, Tensor]:
        colours = (_resized(images, MOBILENET_SIDE) + 1) / 2
        features = network(normalize(colours, IMAGENET_MEAN, IMAGENET_DEVIATION))
        return features, classify(features)

    return extract, _how_resized(MOBILENET_SIDE)


def _efficientnet_lite0(path: Path, device: torch.device) -> tuple[Extract, str]:
    """EfficientNet-Lite0 for ImageNet, which takes pictures in [-1, 1]."""
    network = published.efficientnet_lite0(path).to(device)

    def extract(images: Tensor) -> tuple[Tensor, Tensor]:
        features = network.features(_resized(images, EFFICIENTNET_SIDE))
        return features, network.logits(features)

    return extract, _how_resized(EFFICIENTNET_SIDE)


PRETRAINED: dict[str, Callable[[Path, torch.device], tuple[Extract, str]]] = {  # by the setting of their weights
    "inception_fid": _fid_inception,
    "inception_imagenet": _imagenet_inception,
    "mobilenet_v2": _mobilenet,
    "efficientnet_lite0": _efficientnet_lite0,
}


def _resized(images: Tensor, side: int) -> Tensor:
    return functional.interpolate(images.clamp(-1, 1), (side, side), mode="bilinear", antialias=True)


def _how_resized(side: int) -> str:
    return f"bilinear to {side} x {side} with antialiasing"


def _name(kind: str, sha256: str) -> str:
    return f"{kind}-{sha256[:NUM_DIGITS]}"


def _conditions(sha256: str, resize: str) -> dict[str, str]:
    return {"sha256": sha256, "resize": resize}
