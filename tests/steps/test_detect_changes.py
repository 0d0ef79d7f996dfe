"""Before a scheduled run: it trains where sources or settings are new, else it says why not."""

import pytest

from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.steps.detect_changes import detect_changes
from attngan.storage import places
from attngan.storage.champion import ModelFolder, origin


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
    decide(models, places.fingerprint(source), config, promoted)
    found = detect_changes([source], models, config)
    verdict = "promoted" if promoted else "not promoted"
    assert not found["retrain"] and f"of the model that was {verdict} on 20" in found["reason"]
    assert detect_changes([source], models, config, always=True)["retrain"]


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
    decide(models, places.fingerprint(source), configs.load())
    found = detect_changes([source], models, configs.load(text))
    assert found["retrain"] == bool(said)
    assert not said or found["reason"] == "training: settings are not those of the last model"


def test_other_pictures_are_trained_on(tmp_path, source):
    models, config = str(tmp_path / "models"), configs.load()
    decide(models, places.fingerprint(source), config)
    (tmp_path / "birds" / "two.txt").write_text("a blue bird")
    found = detect_changes([source], models, config)
    assert found["reason"] == "training: sources are not those of the last model"


def test_a_source_in_the_cloud_is_compared_without_a_download(tmp_path, storage_server, bucket):
    models, config = "gs://pictures/models", configs.load()
    bucket.blob("birds/one.txt").upload_from_string("a red bird")
    decide(models, detect_changes(["gs://pictures/birds"], models, config)["inputs"], config)
    storage_server.requests.clear()
    assert not detect_changes(["gs://pictures/birds"], models, config)["retrain"]
    assert not [path for _, path in storage_server.requests if "birds%2Fone.txt" in path]
    bucket.blob("birds/one.txt").upload_from_string("a blue bird")
    assert detect_changes(["gs://pictures/birds"], models, config)["retrain"]


def test_a_source_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        detect_changes([str(tmp_path / "none")], str(tmp_path / "models"), configs.load())
