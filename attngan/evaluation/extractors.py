"""The networks that evaluation sees pictures through, each named after its weights.

No two files share a name: the name holds the first digits of the weights' sha256, and so does every figure made with
them. Weights are given as files, nothing is downloaded here.
"""

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from attngan.config import settings
from attngan.errors import InputError
from attngan.models.image_encoder import INCEPTION_SIDE
from attngan.storage import artifacts, places, tensor_files

NUM_DIGITS = 8  # of a sha256, in a name
PIXELS = "pixels"  # stands for an extractor where pictures are compared as they are ...
PIXELS_SIDE = 16  # ... or averaged down to this side, to find copies


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
    extract: Callable[[Tensor], tuple[Tensor, Tensor | None]]


def damsm_extractor(folder: Path, image_encoder: nn.Module) -> Extractor:
    """See through the image encoder of a `damsm` folder: its feature of the whole picture."""
    sha256 = artifacts.check(folder, "damsm")["files"]["image_encoder.safetensors"]["sha256"]
    resize = "as the image encoder does in training"
    return Extractor(
        _name("damsm", sha256), _conditions(sha256, resize), lambda images: (image_encoder(images)[1], None)
    )


@contextlib.contextmanager
def inception_extractors(settings: settings.Evaluate, device: torch.device) -> Iterator[list[Extractor]]:
    """See through the Inception networks whose weights the settings name; they may lie in cloud storage."""
    with contextlib.ExitStack() as stack:
        extractors = []
        for setting, kind, build in (
            ("inception_fid", "inception-fid", _fid_inception),
            ("inception_imagenet", "inception-imagenet", _imagenet_inception),
        ):
            given = getattr(settings, setting)
            if given.uri:
                path = stack.enter_context(places.local_input(given.uri))
                sha256 = artifacts.checked_sha256(
                    path, given.sha256, f"evaluate.{setting}.sha256", where=f"evaluate.{setting}: {given.uri}"
                )
                extract, resize = build(path, device)
                extractors.append(Extractor(_name(kind, sha256), _conditions(sha256, resize), extract))
        yield extractors


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


def _fid_inception(path: Path, device: torch.device) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor]], str]:
    """The Inception of the published FIDs: TensorFlow's of 2015, as torch-fidelity and pytorch-fid pass it on."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    safe = io.BytesIO()  # torch-fidelity would run what a pickle says: it reads what was read without that
    torch.save(tensor_files.read(path), safe)
    safe.seek(0)
    try:
        network = FeatureExtractorInceptionV3("fid", ["2048", "logits_unbiased"], feature_extractor_weights_path=safe)
    except RuntimeError as error:
        raise _misfit(path, error, "the Inception weights of torch-fidelity, weights-inception-2015-12-05") from None
    network.to(device)

    def extract(images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = network(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
        return features, logits

    return extract, "8 bits, bilinear to 299 x 299 as TensorFlow 1 does"


def _imagenet_inception(path: Path, device: torch.device) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor]], str]:
    """Inception-v3 for ImageNet from torchvision, which takes pictures in [-1, 1]."""
    tensors = {name: tensor for name, tensor in tensor_files.read(path).items() if not name.startswith("AuxLogits")}
    network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise _misfit(path, error, "torchvision's inception_v3 ImageNet file") from None
    classify, network.fc = network.fc.to(device), nn.Identity()
    network.to(device).eval()

    def extract(images: Tensor) -> tuple[Tensor, Tensor]:
        side = (INCEPTION_SIDE, INCEPTION_SIDE)
        features = network(functional.interpolate(images.clamp(-1, 1), side, mode="bilinear", antialias=True))
        return features, classify(features)

    return extract, "bilinear to 299 x 299 with antialiasing"


def _name(kind: str, sha256: str) -> str:
    return f"{kind}-{sha256[:NUM_DIGITS]}"


def _conditions(sha256: str, resize: str) -> dict[str, str]:
    return {"sha256": sha256, "resize": resize}


def _misfit(path: Path, error: RuntimeError, expected: str) -> InputError:
    detail = " ".join(str(error).split())[:160]
    return InputError(f"{path}: expected {expected}, found other tensors ({detail}); give that file.")
