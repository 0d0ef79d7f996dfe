"""The bundle as ONNX: any number of captions of any length, drawn by onnxruntime as torch draws them."""

import builtins
import json

import numpy as np
import pytest
import torch

from attngan.config.settings import Config
from attngan.data.captions import Vocabulary
from attngan.errors import InputError
from attngan.inference import export_onnx, weights
from attngan.inference.text_to_image import TextToImage
from attngan.storage import artifacts

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def onnx_folder(bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("onnx") / "onnx"
    export_onnx.export_onnx(bundle.parent, out)  # a folder that holds it, as a run's does
    return out


def draw(folder, captions, noise, epsilon):
    """Draw with nothing but numpy and onnxruntime, as docs/serving.md shows."""
    words = json.loads((folder / "vocabulary.json").read_text())
    ids = [[words.index(word) for word in caption.split() if word in words] for caption in captions]
    lengths = np.array([len(row) for row in ids])
    word_ids = np.array([row + [0] * (lengths.max() - len(row)) for row in ids])
    read, paint = (
        onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        for name in ("text_encoder.onnx", "generator.onnx")
    )
    word_features, sentence_feature = read.run(None, {"word_ids": word_ids, "lengths": lengths})
    given = {"noise": noise, "epsilon": epsilon, "word_features": word_features, "sentence_feature": sentence_feature}
    return paint.run(None, {**given, "is_padding": word_ids == 0})[0]


@pytest.mark.parametrize(
    "captions",
    [["bird"], ["a small red bird with white wings", "blue bird"], ["a", "a bird", "a red bird", "a red bird " * 9]],
)
def test_onnxruntime_draws_what_torch_draws(captions, onnx_folder, bundle):
    model = TextToImage.open(bundle, kind="bundle")
    noise, epsilon = model.noise(len(captions), 4)
    ours = model.draw(*model.read(captions), noise, epsilon).images[-1].numpy()
    theirs = draw(onnx_folder, captions, noise.numpy(), epsilon.numpy())
    assert theirs.shape == ours.shape and np.abs(theirs - ours).max() < 1e-4


def test_the_folder_is_complete_and_says_its_interface(onnx_folder, bundle):
    manifest = artifacts.check(onnx_folder, "onnx", contents=True)
    assert set(manifest["files"]) == {"text_encoder.onnx", "generator.onnx", "vocabulary.json", "onnx.json"}
    said = json.loads((onnx_folder / "onnx.json").read_text())
    assert said["bundle"] == artifacts.check(bundle, "bundle")["fingerprint"]
    session = onnxruntime.InferenceSession(onnx_folder / "generator.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == said["generator.onnx"]["inputs"]


def test_a_network_that_draws_otherwise_is_not_called_done(bundle, tmp_path, monkeypatch):
    class Careless(export_onnx._Generator):
        def forward(self, noise, epsilon, sentence_feature, word_features, is_padding):
            return super().forward(noise, epsilon, sentence_feature, word_features, is_padding) + 0.01

    monkeypatch.setattr(export_onnx, "_Generator", Careless)
    with pytest.raises(RuntimeError, match=r"differs from torch by 0\.01"):
        export_onnx.export_onnx(bundle, tmp_path / "onnx")
    assert not (tmp_path / "onnx" / "manifest.json").exists()


def test_missing_packages_are_said_in_a_sentence(bundle, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *others):
        if name == "onnxruntime":
            raise ImportError(name="onnxruntime")
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r'needs onnxruntime; install attngan with its extra "onnx"'):
        export_onnx.export_onnx(bundle, tmp_path)


@pytest.mark.slow
def test_the_papers_networks_in_onnx(tmp_path):
    config = Config()
    torch.manual_seed(0)
    vocabulary = Vocabulary(["<end>", *(f"w{index}" for index in range(500))])
    networks = weights.build_text_encoder(config, len(vocabulary)), weights.build_generator(config)
    model = TextToImage(config, vocabulary, *(network.eval() for network in networks), torch.device("cpu"))
    (tmp_path / "bundle").mkdir(parents=True, exist_ok=True)
    artifacts.finish(tmp_path / "bundle", "bundle", model.save(tmp_path / "bundle"), generator="g")
    export_onnx.export_onnx(tmp_path / "bundle", tmp_path / "onnx")
    noise, epsilon = model.noise(4, 1)
    captions = ["w1 w2 w3 w4 w5 w6 w7 w8"] * 4
    ours = model.draw(*model.read(captions), noise, epsilon).images[-1].numpy()
    theirs = draw(tmp_path / "onnx", captions, noise.numpy(), epsilon.numpy())
    assert ours.shape == (4, 3, 256, 256) and np.abs(theirs - ours).max() < 1e-3
