"""attn-DCGAN at smoke size: one picture and one discriminator, through every step, killed and gone on."""

import json
from pathlib import Path

import pytest
import torch
from dying_steps import dying_at

from attngan.config import settings as configs
from attngan.data.dataset import Dataset
from attngan.inference import export_onnx
from attngan.inference.text_to_image import TextToImage
from attngan.losses.adversarial import discriminator_loss, generator_loss, loss_as_generated, loss_as_real
from attngan.losses.damsm import DAMSM_LOSSES
from attngan.steps.evaluate import evaluate
from attngan.steps.export_samples import export_samples
from attngan.steps.train_generator import train_generator
from attngan.storage import artifacts
from attngan.training import gan_step
from attngan.training.gan_run import GanRun

pytestmark = pytest.mark.usefixtures("few_pictures")
ATTN_DCGAN = ["generator.finest_only=true", "generator.num_residual_blocks=0", "discriminator.unconditional=false"]


@pytest.fixture(scope="module")
def config():
    return configs.load_file(Path("smoke"), overrides=["device=cpu", "training.epochs=1", *ATTN_DCGAN])


@pytest.fixture(scope="module")
def trained(dataset, damsm, config, made_once):
    return made_once("attn-dcgan", lambda folder: train_generator(dataset, damsm, folder, config))


def weights_of(folder):
    return artifacts.check(folder, "generator", contents=True)["files"]["generator.safetensors"]["sha256"]


def test_a_step_moves_both_networks_by_the_conditional_losses_alone(dataset, damsm, config, monkeypatch):
    train = Dataset.open(dataset, "train")
    run = GanRun(config, train, damsm, torch.device("cpu"))
    batch = gan_step.batch_for(run, train, 0, 0)
    assert [images.shape[-1] for images in batch.images] == [32]
    seen = {}

    def checked_discriminator_loss(network, real, drawn, sentence, wrong, weight):
        loss, opinions = discriminator_loss(network, real, drawn, sentence, wrong, weight)
        with torch.no_grad():
            features, drawn_features = network.features(real), network.features(drawn)
            pairs = (features, sentence), (drawn_features, sentence), (features[:-1], sentence[1:])
            of_real, of_drawn, of_wrong = (network.judge_pair(*pair) for pair in pairs)
        expected = loss_as_real(of_real) + (loss_as_generated(of_drawn) + loss_as_generated(of_wrong)) / 2
        torch.testing.assert_close(loss, expected)
        seen["discriminator"] = loss.item()
        return loss, opinions

    def checked_generator_loss(network, images, sentence):
        loss = generator_loss(network, images, sentence)
        torch.testing.assert_close(loss, loss_as_real(network.judge_pair(network.features(images), sentence)))
        seen["adversarial"] = loss.item()
        return loss

    monkeypatch.setattr(gan_step, "discriminator_loss", checked_discriminator_loss)
    monkeypatch.setattr(gan_step, "generator_loss", checked_generator_loss)
    before = {name: [each.clone() for each in network.parameters()] for name, network in run.networks().items()}
    losses = gan_step.training_step(run, batch)
    assert {name: losses[name].item() for name in seen} == seen and len(seen) == 2
    assert {"real_32", "generated_32", "mismatched_32", *DAMSM_LOSSES} <= losses.keys() and "real_16" not in losses
    assert all(loss.isfinite() for loss in losses.values())
    for name, network in run.networks().items():
        moved = [not torch.equal(old, new) for old, new in zip(before[name], network.parameters(), strict=True)]
        assert all(moved), name


@pytest.mark.parametrize("stop_at", [1, 7])
def test_a_run_that_dies_goes_on_to_the_same_weights_bit_for_bit(stop_at, dataset, damsm, trained, config, tmp_path):
    training = config.training.model_copy(update={"checkpoint_every_seconds": 0.0})
    eager = config.model_copy(update={"training": training})
    with dying_at(stop_at):
        train_generator(dataset, damsm, tmp_path / "generator", eager)
    train_generator(dataset, damsm, tmp_path / "generator", eager)
    assert weights_of(tmp_path / "generator") == weights_of(trained)


def test_every_row_of_losses_and_the_progress_page_have_one_resolution(trained):
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert rows and all("real_32" in row and "real_16" not in row for row in rows)
    page = (trained / "progress.html").read_text()
    assert "Each picture has 32 pixels." in page and "stages draw it" not in page
    assert "of 16 pixels" not in page and "where it looks for the word" in page


def test_it_is_measured_shown_and_written_as_a_bundle(dataset, damsm, trained, config, tmp_path):
    figures = evaluate(dataset, damsm, trained, tmp_path / "metrics", config)
    assert 0 <= figures["r_precision"] <= 1
    inputs = {"dataset": dataset, "damsm": damsm, "metrics": tmp_path / "metrics"}
    export_samples(trained, tmp_path / "gallery", tmp_path / "bundle", config, **inputs)
    page = (tmp_path / "gallery" / "index.html").read_text()
    assert "the same for all captions." in page and "rows are the stages" not in page
    assert "32 px</span>" in page and "16 px</span>" not in page and "where it looked for the word" in page
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "| generator.finest\\_only | True |" in card and "| discriminator.unconditional | False |" in card
    model = TextToImage.open(tmp_path / "bundle", kind="bundle")
    drawn = next(model.variants("a red bird", 2, 0))
    assert [tuple(images.shape[1:]) for images in drawn.images] == [(3, 32, 32)]
    assert [each.shape[-1] for each in drawn.attention] == [16]


def test_onnxruntime_draws_it_as_torch_does(dataset, trained, config, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    export_samples(trained, tmp_path / "gallery", tmp_path / "bundle", config, dataset=dataset)
    export_onnx.export_onnx(tmp_path / "bundle", tmp_path / "onnx")  # it compares the two
    said = json.loads((tmp_path / "onnx" / "onnx.json").read_text())
    assert said["resolution"] == 32
