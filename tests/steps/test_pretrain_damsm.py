"""The DAMSM step: what it writes, that it learns, and that it goes on where it was."""

import json
from pathlib import Path

import pytest
import saved_states
import torch

from attngan.config import settings as configs
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.storage import artifacts
from attngan.training import damsm_step
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
    with pytest.raises(InputError, match="not complete"):
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


def test_inception_weights_that_are_none_are_refused(dataset, smoke, tmp_path):
    inception = smoke.model_copy(
        update={"image_encoder": smoke.image_encoder.model_copy(update={"kind": "inception_v3"})}
    )
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not weights")
    for name, says in (
        ("other.pth", "not the weights of Inception-v3"),
        ("text.pth", "not readable"),
        ("absent", "no such file"),
    ):
        with pytest.raises(InputError, match=says):
            pretrain_damsm(dataset, tmp_path / "damsm", inception, inception_weights=tmp_path / name)


def test_inception_weights_are_those_whose_sha256_was_promised(dataset, tmp_path):
    (tmp_path / "other.pth").write_bytes(b"not them")
    overrides = ["image_encoder.kind=inception_v3", "damsm.inception_sha256=0cc3c7bd", "device=cpu"]
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

    monkeypatch.setattr(damsm_step, "recall_at", recall)
    test = Dataset.open(dataset, "test")
    run = DamsmRun(smoke, test, torch.device("cpu"), None)
    assert damsm_step.validate(run, test) == pytest.approx({"recall_at_1": 0.25, "recall_at_5": 1.25})
    texts = [text for k, captions in asked if k == 1 for text in captions]
    assert sorted(texts) == sorted(text for record in test.records for text in record["captions"][:5])
