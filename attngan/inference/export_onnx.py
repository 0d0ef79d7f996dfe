"""A bundle as ONNX: text encoder and generator for any runtime that reads it, compared with torch first."""

import contextlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attngan import seeding
from attngan.errors import InputError
from attngan.inference.bundle import find_bundle
from attngan.inference.text_to_image import TextToImage
from attngan.models.generator import Generator
from attngan.runtime.console import progress, say
from attngan.storage import artifacts
from attngan.storage.result_folder import result

TOLERANCE = 1e-3  # of pictures in [-1, 1] and of features
OPSET = 17
_PER_PICTURE, _PER_WORD = {0: "batch"}, {0: "batch", 1: "words"}
AXES = {  # that may have any size
    "word_ids": _PER_WORD,
    "lengths": _PER_PICTURE,
    "word_features": {0: "batch", 2: "words"},
    "sentence_feature": _PER_PICTURE,
    "noise": _PER_PICTURE,
    "epsilon": _PER_PICTURE,
    "is_padding": _PER_WORD,
    "images": _PER_PICTURE,
}
CHECKED = ((1, 3), (2, 7), (5, 18))  # captions and words that are compared
TEXT_ENCODER, GENERATOR = "text_encoder.onnx", "generator.onnx"


class _Generator(nn.Module):
    """The generator as a function of tensors: the last stage's pictures, and its attention where it has one."""

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator

    def forward(
        self, noise: Tensor, epsilon: Tensor, sentence_feature: Tensor, word_features: Tensor, is_padding: Tensor
    ) -> Tensor:
        """Draw with the last stage."""
        return self.generator(noise, sentence_feature, word_features, is_padding, epsilon=epsilon).images[-1]


def export_onnx(bundle: Path, out: Path) -> None:
    """Write a bundle as ONNX: two networks, the vocabulary, and `onnx.json`, which names inputs and outputs.

    Args:
        bundle: folder of `export_samples`, or one that holds it as `bundle`.
        out: gets the files.

    Raises:
        InputError: the packages for ONNX are not installed, or the bundle is none.
        RuntimeError: onnxruntime does not draw what torch draws.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise InputError(f'export-onnx needs {error.name}; install attngan with its extra "onnx".') from None
    bundle = find_bundle(bundle)
    with result(out, "onnx", inputs=[bundle]) as draft:
        worst = _exported(bundle, draft)
    say(f"{out}: {TEXT_ENCODER} and {GENERATOR} differ from torch by at most {worst:.1g}")


def _exported(bundle: Path, out: Path) -> float:
    """Write the files where they are made, and return by how much onnxruntime differs from torch."""
    import onnx
    import onnxruntime

    model = TextToImage.open(bundle, kind="bundle")
    networks = {TEXT_ENCODER: model.text_encoder, GENERATOR: _Generator(model.generator)}
    interfaces = {
        TEXT_ENCODER: (("word_ids", "lengths"), ("word_features", "sentence_feature")),
        GENERATOR: (("noise", "epsilon", "sentence_feature", "word_features", "is_padding"), ("images",)),
    }
    with progress("ONNX", total=len(networks) + len(CHECKED), unit="parts") as advance, torch.no_grad():
        for name, network in networks.items():
            _export(network.eval(), _example(model, 2, 5), out / name, *interfaces[name])
            onnx.checker.check_model(out / name)
            advance(1)
        sessions = [onnxruntime.InferenceSession(out / name, providers=["CPUExecutionProvider"]) for name in networks]
        worst = 0.0
        for num_captions, num_words in CHECKED:
            worst = max(worst, _difference(model, sessions, _example(model, num_captions, num_words)))
            advance(1)
    if not worst <= TOLERANCE:
        raise RuntimeError(f"{out}: onnxruntime differs from torch by {worst:.2g}, more than {TOLERANCE:g}")
    shutil.copyfile(bundle / "vocabulary.json", out / "vocabulary.json")
    interface = {
        "noise_dim": model.generator.noise_dim,
        "condition_dim": model.generator.condition_dim,
        "resolution": model.generator.resolutions[-1],
        "bundle": model.fingerprint,
        **{name: {"inputs": inputs, "outputs": outputs} for name, (inputs, outputs) in interfaces.items()},
    }
    artifacts.write_text(out / "onnx.json", json.dumps(interface, indent=2))
    artifacts.finish(out, "onnx", [TEXT_ENCODER, GENERATOR, "vocabulary.json", "onnx.json"], bundle=interface["bundle"])
    return worst


def _export(
    network: nn.Module, example: dict[str, Tensor], path: Path, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    with _quiet():
        torch.onnx.export(
            network,
            tuple(example[each] for each in inputs),
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={each: AXES[each] for each in (*inputs, *outputs)},
            opset_version=OPSET,
            dynamo=False,  # the newer exporter unrolls an LSTM to the example's number of words
        )


def _example(model: TextToImage, num_captions: int, num_words: int) -> dict[str, Tensor]:
    """Return inputs of both networks: captions of several lengths, noise."""
    rng = seeding.rng_for(0, "onnx", num_captions, num_words)
    lengths = torch.tensor([max(1, num_words - index) for index in range(num_captions)])
    word_ids = torch.randint(1, len(model.vocabulary), (num_captions, num_words), generator=rng)
    is_padding = torch.arange(num_words)[None, :] >= lengths[:, None]
    word_ids[is_padding] = 0
    word_features, sentence_feature = model.text_encoder(word_ids, lengths)
    return {
        "word_ids": word_ids,
        "lengths": lengths,
        "word_features": word_features,
        "sentence_feature": sentence_feature,
        "is_padding": is_padding,
        "noise": torch.randn(num_captions, model.generator.noise_dim, generator=rng),
        "epsilon": torch.randn(num_captions, model.generator.condition_dim, generator=rng),
    }


def _difference(model: TextToImage, sessions: list[Any], example: dict[str, Tensor]) -> float:
    """Return the largest difference of onnxruntime from torch, in features and in pictures."""
    given = {name: tensor.numpy() for name, tensor in example.items()}
    read, draw = sessions
    theirs = read.run(None, {name: given[name] for name in ("word_ids", "lengths")})
    drawn = draw.run(None, {each.name: given[each.name] for each in draw.get_inputs()})[0]
    images = model.draw(example["word_ids"], example["lengths"], example["noise"], example["epsilon"]).images[-1]
    pairs = [(theirs[0], given["word_features"]), (theirs[1], given["sentence_feature"]), (drawn, images.numpy())]
    return max(float(np.abs(one - other).max()) for one, other in pairs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own account off the console."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
