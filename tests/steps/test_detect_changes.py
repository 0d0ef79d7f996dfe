"""Before a scheduled run: it trains where sources or settings are new, else it says why not."""

import json
from pathlib import Path

import pytest
from small_sources import PICTURES, caption_file, pack, settings, write_cub
from typer.testing import CliRunner

from attngan import cli
from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.steps.detect_changes import detect_changes
from attngan.steps.preprocess import preprocess
from attngan.storage import places, uris
from attngan.storage.champion import ModelFolder, origin
from attngan.storage.sources import fingerprint_of


@pytest.fixture
def source(tmp_path):
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "one.txt").write_text("a red bird")
    return str(tmp_path / "birds")


def decide(models, inputs, config, promoted=True):
    ModelFolder(models).remember({"promoted": promoted, "reason": "", "origin": origin(inputs, config)})


def test_without_a_model_before_it_trains(tmp_path, source):
    found = detect_changes([source, "", ""], str(tmp_path / "models"), configs.load())
    assert found["retrain"] and "no model was trained" in found["reason"]
    assert found["inputs"] == places.fingerprint(source, "", "")


@pytest.mark.parametrize("promoted", [True, False])
def test_the_same_sources_and_settings_are_not_trained_on_again_whatever_became_of_the_model(
    promoted, tmp_path, source
):
    models, config = str(tmp_path / "models"), configs.load()
    decide(models, places.fingerprint(source, "", ""), config, promoted)
    found = detect_changes([source, "", ""], models, config)
    verdict = "promoted" if promoted else "not promoted"
    assert not found["retrain"] and f"of the model that was {verdict} on 20" in found["reason"]
    assert detect_changes([source, "", ""], models, config, always=True)["retrain"]


def test_the_weights_that_a_projected_discriminator_looks_through_are_a_source(tmp_path, source):
    models, weights = str(tmp_path / "models"), tmp_path / "weights.pth"
    config = configs.load(f"discriminator: {{projected: {{weight: 0.1, uri: {weights}}}}}")
    weights.write_bytes(b"of ImageNet")
    decide(models, detect_changes([source, "", ""], models, config)["inputs"], config)
    assert not detect_changes([source, "", ""], models, config)["retrain"]
    weights.write_bytes(b"of other pictures")
    assert (
        detect_changes([source, "", ""], models, config)["reason"]
        == "training: sources are not those of the last model"
    )


@pytest.mark.parametrize("kind", ["folder", "this folder", "link", "archive"])
def test_captions_beside_a_source_are_part_of_it_as_they_are_of_its_dataset(kind, tmp_path, monkeypatch):
    models, config = str(tmp_path / "models"), settings()
    source = write_cub(tmp_path) / "CUB_200_2011"
    if kind == "this folder":
        monkeypatch.chdir(source)
        source = Path()
    elif kind == "archive":
        source = pack(tmp_path, ["CUB_200_2011"], tmp_path / "birds.tgz")
    elif kind == "link":
        source = tmp_path / "birds"
        source.symlink_to(tmp_path / "CUB_200_2011")

    def made():
        return preprocess(source, tmp_path / "dataset", config)["fingerprint"]

    before = made()
    decide(models, detect_changes([str(source), "", ""], models, config)["inputs"], config)
    assert not detect_changes([str(source), "", ""], models, config)["retrain"]
    caption_file(tmp_path, PICTURES[0][0]).write_text("a bird of another colour\n")
    assert detect_changes([str(source), "", ""], models, config)["retrain"] and made() != before


def test_a_text_folder_that_no_reader_looks_at_changes_nothing(tmp_path, source):
    before = fingerprint_of([source, "", ""], configs.load())
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "one.txt").write_text("a letter")
    assert fingerprint_of([source, "", ""], configs.load()) == before
    (tmp_path / "birds" / "images.txt").touch()
    with_letter = fingerprint_of([source, "", ""], configs.load())
    captions = fingerprint_of([source, str(tmp_path / "text"), ""], configs.load())
    assert with_letter == captions != places.fingerprint(source, "", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: {epochs: 7}", "settings"),
        ("device: cpu", None),
        ("num_threads: 3", None),
        ("training: {price_per_hour: 3, checkpoint_every_seconds: 7}", None),
    ],
)
def test_other_settings_are_trained_with_unless_they_are_incidental(text, said, tmp_path, source):
    models = str(tmp_path / "models")
    decide(models, places.fingerprint(source, "", ""), configs.load())
    found = detect_changes([source, "", ""], models, configs.load(text))
    assert found["retrain"] == bool(said)
    assert not said or found["reason"] == "training: settings are not those of the last model"


def test_other_pictures_are_trained_on(tmp_path, source):
    models, config = str(tmp_path / "models"), configs.load()
    decide(models, places.fingerprint(source, "", ""), config)
    (tmp_path / "birds" / "two.txt").write_text("a blue bird")
    found = detect_changes([source, "", ""], models, config)
    assert found["reason"] == "training: sources are not those of the last model"


def test_a_source_in_the_cloud_is_compared_without_a_download(tmp_path, storage_server, bucket):
    models, config = "gs://pictures/models", configs.load()
    bucket.blob("birds/one.txt").upload_from_string("a red bird")
    decide(models, detect_changes(["gs://pictures/birds", "", ""], models, config)["inputs"], config)
    storage_server.requests.clear()
    assert not detect_changes(["gs://pictures/birds", "", ""], models, config)["retrain"]
    assert not [path for _, path in storage_server.requests if "birds%2Fone.txt" in path]
    bucket.blob("birds/one.txt").upload_from_string("a blue bird")
    assert detect_changes(["gs://pictures/birds", "", ""], models, config)["retrain"]


def test_a_source_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        detect_changes([str(tmp_path / "none"), "", ""], str(tmp_path / "models"), configs.load())


def kept(models):
    """Return what the history holds, in full, the oldest first."""
    names = ModelFolder(models).history()
    return [(name, json.loads(places.read(uris.join(models, "history", name))[0])) for name in names]


@pytest.mark.parametrize("promoted", [True, False])
def test_nothing_new_is_remembered_with_why_and_later_answers_still_go_back_to_the_model(promoted, root, source):
    models, config = uris.join(root, "models"), configs.load()
    decide(models, places.fingerprint(source, "", ""), config, promoted)
    ((model, _),) = kept(models)
    reasons = [detect_changes([source, "", ""], models, config, remember=True)["reason"] for _ in range(3)]
    assert len(set(reasons)) == 1 and f"that was {'promoted' if promoted else 'not promoted'} on 20" in reasons[0]
    _, *others = kept(models)
    assert len(others) == 3 and [name for name, _ in others] == sorted(name for name, _ in others)
    for name, decision in others:
        assert name.endswith("-unchanged.json") and name > model and decision["time"]
        assert (decision["retrain"], decision["reason"], decision["decision"]) == (False, reasons[0], model)


def test_what_is_new_is_told_from_the_last_model_not_from_a_run_with_nothing_new(root, source, tmp_path):
    models, config, other = uris.join(root, "models"), configs.load(), configs.load("seed: 2")
    decide(models, places.fingerprint(source, "", ""), config)
    decide(models, places.fingerprint(source, "", ""), other)
    assert not detect_changes([source, "", ""], models, config, remember=True)["retrain"]
    (tmp_path / "birds" / "two.txt").write_text("a blue bird")
    found = detect_changes([source, "", ""], models, other, remember=True)
    assert found["reason"] == "training: sources are not those of the last model"
    assert len(kept(models)) == 3  # a training's decision is that of publish


def test_the_command_asks_and_the_pipelines_step_remembers(tmp_path, source):
    pytest.importorskip("kfp")
    import components

    models = tmp_path / "models"
    decide(str(models), places.fingerprint(source, "", ""), configs.load())
    question = ["detect-changes", "--source", source, "--model-uri", str(models)]
    asked = CliRunner().invoke(cli.app, question)
    assert asked.exit_code == 0 and "nothing to train" in asked.output and len(kept(str(models))) == 1
    given = {"source": source, "captions": "", "inception_weights": "", "model_uri": str(models), "config": ""}
    written = {"inputs": str(tmp_path / "inputs"), "reason": str(tmp_path / "reason")}
    assert not components.detect_changes.python_func(**given, always=False, **written)
    assert kept(str(models))[1][1]["reason"] == (tmp_path / "reason").read_text()
