"""The DAMSM step: what it writes, that it learns, and that it goes on where it was."""

import json
from pathlib import Path

import pytest
import saved_states
import torch
from typer.testing import CliRunner

from attngan.cli import app
from attngan.config import settings as configs
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.storage import artifacts
from attngan.training import damsm_step, damsm_validation
from attngan.training.damsm_run import DamsmRun


def fingerprint(folder):
    entries = artifacts.check(folder, "damsm", contents=True)["files"]
    return {name: entry["sha256"] for name, entry in entries.items() if name.endswith(".safetensors")}


def test_the_folder_holds_encoders_vocabulary_config_and_an_epochs_figures_a_row(damsm, smoke):
    manifest = artifacts.check(damsm, "damsm", contents=True)
    assert {"text_encoder.safetensors", "image_encoder.safetensors", "vocabulary.json", "config.yaml"} <= set(
        manifest["files"]
    )
    rows = [json.loads(line) for line in (damsm / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(0 <= row["recall_at_1"] <= row["recall_at_5"] <= 1 for row in rows)
    best = max((row["recall_at_1"], row["recall_at_5"]) for row in rows)
    assert (manifest["retrieval"]["recall_at_1"], manifest["retrieval"]["recall_at_5"]) == pytest.approx(best, abs=1e-6)


def test_the_rate_decays_and_adam_keeps_its_moments(damsm):
    rows = [json.loads(line) for line in (damsm / "metrics.jsonl").read_text().splitlines()]
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.002, 0.002 * 0.98])
    state = saved_states.newest(f"{damsm}.state")
    assert {float(each["step"]) for each in state["optimizer"]["state"].values()} == {state["step"]}


def test_an_interrupted_run_goes_on_to_the_same_weights_bit_for_bit(dataset, smoke, damsm, tmp_path, monkeypatch):
    real_step = damsm_step.training_step

    def interrupted_step(run, batch):
        if run.step == 4:
            raise KeyboardInterrupt
        real_step(run, batch)

    eager = smoke.model_copy(update={"damsm": smoke.damsm.model_copy(update={"checkpoint_every_seconds": 0.0})})
    monkeypatch.setattr(damsm_step, "training_step", interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        pretrain_damsm(dataset, tmp_path / "damsm", eager)
    with pytest.raises(
        InputError, match="no finished damsm; give the folder that pretrain-damsm wrote, or run it again"
    ):
        artifacts.check(tmp_path / "damsm", "damsm")
    monkeypatch.setattr(damsm_step, "training_step", real_step)
    pretrain_damsm(dataset, tmp_path / "damsm", eager)
    assert fingerprint(tmp_path / "damsm") == fingerprint(damsm)


def test_training_lowers_the_loss(dataset, smoke, tmp_path):
    longer = smoke.model_copy(update={"damsm": smoke.damsm.model_copy(update={"epochs": 6, "learning_rate": 0.01})})
    pretrain_damsm(dataset, tmp_path / "damsm", longer)
    rows = [json.loads(line) for line in (tmp_path / "damsm" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_bad_input_is_said_in_a_sentence(dataset, smoke, tmp_path):
    greedy = smoke.model_copy(update={"damsm": smoke.damsm.model_copy(update={"batch_size": 1000})})
    with pytest.raises(InputError, match=r"fewer than damsm\.batch_size 1000"):
        pretrain_damsm(dataset, tmp_path / "damsm", greedy)
    with pytest.raises(InputError, match="no such folder"):
        pretrain_damsm(tmp_path / "absent", tmp_path / "damsm", smoke)


KINDS = {"inception_v3": "Inception-v3", "mobilenet_v2": "MobileNetV2"}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_trunk_that_are_none_are_refused(kind, dataset, smoke, imagenet, tmp_path):
    config = smoke.model_copy(update={"image_encoder": configs.ImageEncoder(kind=kind)})
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save({"fc.weight": Path("a class")}, tmp_path / "code.pth")
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "noise.safetensors").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "short.pth").write_bytes(imagenet[kind].read_bytes()[:-1000])
    (other,) = KINDS.keys() - {kind}
    for path, says in (
        ("other.pth", f"not the weights of {KINDS[kind]}: [0-9]+ tensors missing, .*; give torchvision's {kind} "),
        (
            imagenet[other],
            f"expected the weights of {KINDS[kind]}, found those of {KINDS[other]}; .* set image_encoder",
        ),
        ("code.pth", "could run code; get the file from where it was published"),
        ("text.pth", "not readable"),
        ("noise.safetensors", "not a whole safetensors file"),
        ("short.pth", "not a whole PyTorch file"),
        ("absent", f"expected the file of the weights of {KINDS[kind]}, found no such file"),
    ):
        given = tmp_path / path
        with pytest.raises(InputError, match=says) as caught:
            pretrain_damsm(dataset, tmp_path / "damsm", config, inception_weights=given)
        assert str(caught.value).count(str(given)) == 1 and "\n" not in str(caught.value)


def test_the_command_says_which_weights_it_expects_and_ends_with_status_2(dataset, imagenet, tmp_path):
    command = ["pretrain-damsm", "--dataset", str(dataset), "--out", str(tmp_path / "damsm"), "--config", "smoke"]
    command += ["--set", "image_encoder.kind=mobilenet_v2", "--set", "device=cpu"]
    done = CliRunner().invoke(app, [*command, "--inception-weights", str(imagenet["inception_v3"])])
    assert done.exit_code == 2
    assert "expected the weights of MobileNetV2, found those of Inception-v3; give torchvision's" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_trunk_without_weights_is_trained_and_that_is_said(kind, dataset, smoke, capsys):
    config = smoke.model_copy(update={"image_encoder": configs.ImageEncoder(kind=kind)})
    run = DamsmRun(config, Dataset.open(dataset, "train"), torch.device("cpu"), None)
    assert all(each.requires_grad for each in run.image_encoder.trunk.parameters())
    said = f"no {KINDS[kind]} weights given: the image encoder's trunk starts at random and is trained too."
    assert said in capsys.readouterr().out


def test_weights_that_the_small_network_has_no_use_for_are_named(dataset, smoke, imagenet, capsys):
    DamsmRun(smoke, Dataset.open(dataset, "train"), torch.device("cpu"), imagenet["mobilenet_v2"])
    assert "image_encoder.kind is small: --inception-weights are not used." in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_whose_sha256_was_promised(kind, dataset, tmp_path):
    (tmp_path / "other.pth").write_bytes(b"not them")
    overrides = [f"image_encoder.kind={kind}", "damsm.inception_sha256=0cc3c7bd", "device=cpu"]
    promised = configs.load_file(Path("smoke"), overrides=overrides)
    with pytest.raises(InputError, match=r"other\.pth: expected sha256 0cc3c7bd, found [0-9a-f]{64}; .* correct damsm"):
        pretrain_damsm(dataset, tmp_path / "damsm", promised, inception_weights=tmp_path / "other.pth")
    with pytest.raises(InputError, match="no --inception-weights are given"):
        pretrain_damsm(dataset, tmp_path / "damsm", promised)


def test_validation_asks_with_five_captions_of_every_picture(dataset, smoke, monkeypatch):
    asked = []

    def recall(image_feature, sentence_feature, captions, class_ids, *, k):
        assert len(class_ids) == len(captions)
        asked.append((k, captions))
        return 0.25 * k

    monkeypatch.setattr(damsm_validation, "recall_at", recall)
    test = Dataset.open(dataset, "test")
    run = DamsmRun(smoke, test, torch.device("cpu"), None)
    assert damsm_validation.validate(run, test) == pytest.approx({"recall_at_1": 0.25, "recall_at_5": 1.25})
    texts = [text for k, captions in asked if k == 1 for text in captions]
    assert sorted(texts) == sorted(text for record in test.records for text in record["captions"][:5])
