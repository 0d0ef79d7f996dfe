"""The gate: only a better model becomes the champion, and the one before can come back."""

import json

import pytest

from attngan import artifacts
from attngan import config as configs
from attngan.errors import InputError
from attngan.publish import publish, restore_previous


def candidate(folder, name, r_precision, **figures):
    """Return a bundle and its metrics folder."""
    bundle, metrics = folder / f"{name}-bundle", folder / f"{name}-metrics"
    for each in (bundle, metrics):
        each.mkdir()
        (each / "content").write_text(name)
    artifacts.finish(bundle, "bundle", ["content"], generator=name)
    figures = {"r_precision": r_precision, **figures}
    artifacts.finish(metrics, "metrics", ["content"], generator=name, figures=figures)
    return bundle, metrics


def champion(models):
    entry = json.loads((models / "champion.json").read_text())["champion"]
    return (models / entry["model"] / "content").read_text()


def test_the_first_model_is_promoted_and_then_only_better_ones(tmp_path):
    models, config = tmp_path / "models", configs.load()
    assert publish(*candidate(tmp_path, "first", 0.5), models, config)["promoted"]
    worse = publish(*candidate(tmp_path, "worse", 0.4), models, config)
    assert not worse["promoted"] and "r_precision 0.4, the champion has 0.5" in worse["reason"]
    assert champion(models) == "first"
    assert publish(*candidate(tmp_path, "better", 0.6), models, config)["promoted"]
    assert champion(models) == "better"
    history = [json.loads(line) for line in (models / "history.jsonl").read_text().splitlines()]
    assert [entry["promoted"] for entry in history] == [True, False, True]
    assert (history[1]["challenger"], history[1]["champion"]) == (0.4, 0.5)


def test_better_must_be_better_by_more_than_the_least_improvement(tmp_path):
    models, config = tmp_path / "models", configs.load("publish: {min_improvement: 0.2}")
    publish(*candidate(tmp_path, "first", 0.5), models, config)
    assert not publish(*candidate(tmp_path, "little", 0.6), models, config)["promoted"]


def test_where_lower_is_better_lower_wins(tmp_path):
    models, config = tmp_path / "models", configs.load("publish: {metric: fid, higher_is_better: false}")
    publish(*candidate(tmp_path, "first", 0.5, fid=20.0), models, config)
    assert publish(*candidate(tmp_path, "lower", 0.5, fid=10.0), models, config)["promoted"]
    assert not publish(*candidate(tmp_path, "higher", 0.5, fid=30.0), models, config)["promoted"]


def test_force_promotes_and_the_previous_champion_comes_back(tmp_path):
    models, config = tmp_path / "models", configs.load()
    publish(*candidate(tmp_path, "first", 0.5), models, config)
    assert publish(*candidate(tmp_path, "worse", 0.1), models, config, force=True)["promoted"]
    assert champion(models) == "worse"
    restore_previous(models)
    assert champion(models) == "first"
    assert "first" not in restore_previous(models)["reason"] and champion(models) == "worse"


def test_publishing_the_champion_again_by_force_keeps_the_previous_one(tmp_path):
    models, config = tmp_path / "models", configs.load()
    publish(*candidate(tmp_path, "first", 0.5), models, config)
    second = candidate(tmp_path, "second", 0.6)
    publish(*second, models, config)
    publish(*second, models, config, force=True)
    restore_previous(models)
    assert champion(models) == "first"


def test_what_cannot_be_compared_is_refused(tmp_path):
    models = tmp_path / "models"
    bundle, metrics = candidate(tmp_path, "first", 0.5)
    with pytest.raises(InputError, match=r"did you mean r_precision\?"):
        publish(bundle, metrics, models, configs.load("publish: {metric: r_precison}"))
    with pytest.raises(InputError, match="no previous champion"):
        restore_previous(models)
    other = candidate(tmp_path, "other", 0.9)
    with pytest.raises(InputError, match="another generator"):
        publish(bundle, other[1], models, configs.load())
    publish(bundle, metrics, models, configs.load())
    fresh = candidate(tmp_path, "fresh", 0.9, body_colour=0.9)
    with pytest.raises(InputError, match="without it"):
        publish(*fresh, models, configs.load("publish: {metric: body_colour}"))
    (models / "champion.json").write_text("[]")
    with pytest.raises(InputError, match="restore the file"):
        publish(*fresh, models, configs.load())
