"""The gate: only a better model becomes the champion, and the one before can come back."""

import re

import pytest
from candidates import candidate, champion

from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.pages import model_page
from attngan.steps.publish import publish, restore_previous
from attngan.storage import places, uris
from attngan.storage.champion import ModelFolder, origin


@pytest.fixture
def models(root):
    """Give a model folder that does not exist yet."""
    return root


def test_the_first_model_is_promoted_and_then_only_better_ones(tmp_path, models):
    config = configs.load()
    assert publish(*candidate(tmp_path, "first", 0.5), models, config)["promoted"]
    worse = publish(*candidate(tmp_path, "worse", 0.4), models, config)
    assert not worse["promoted"] and "r_precision 0.4, the champion has 0.5" in worse["reason"]
    assert champion(models) == "first"
    assert publish(*candidate(tmp_path, "better", 0.6), models, config)["promoted"]
    assert champion(models) == "better"
    folder = ModelFolder(models)
    history = [folder.decision(name) for name in folder.decisions()]
    assert [entry["promoted"] for entry in history] == [True, False, True]
    assert (history[1]["challenger"], history[1]["champion"]) == (0.4, 0.5)


def test_a_second_judge_may_decide(tmp_path, models):
    config = configs.load(overrides=["publish.metric=r_precision_second_judge"])
    assert publish(*candidate(tmp_path, "first", 0.5, r_precision_second_judge=0.4), models, config)["promoted"]
    flatterer = candidate(tmp_path, "flatterer", 0.9, r_precision_second_judge=0.3)
    assert publish(*flatterer, models, config)["reason"].startswith("not promoted: r_precision_second_judge 0.3, ")
    with pytest.raises(InputError, match=r"publish\.metric r_precision_second_judge: .* has no such figure"):
        publish(*candidate(tmp_path, "unjudged", 0.9), models, config)


def test_a_model_that_has_not_learnt_is_published_by_force_alone_also_as_the_first_one(tmp_path, models):
    config = configs.load()
    grey = candidate(tmp_path, "grey", 0.5, not_learnt=["its pictures are grey."])
    refused = publish(*grey, models, config)
    assert not refused["promoted"]
    assert refused["reason"] == "not promoted: the model has not learnt: its pictures are grey."
    assert ModelFolder(models).champion is None
    assert publish(*grey, models, config, force=True)["promoted"]
    assert champion(models) == "grey"


def test_better_must_be_better_by_more_than_the_least_improvement(tmp_path, models):
    config = configs.load("publish: {min_improvement: 0.2}")
    publish(*candidate(tmp_path, "first", 0.5), models, config)
    assert not publish(*candidate(tmp_path, "little", 0.6), models, config)["promoted"]


def test_where_lower_is_better_lower_wins(tmp_path, models):
    fid = "fid_inception-fid-6726825d"
    config = configs.load(overrides=[f"publish.metric={fid}"])
    publish(*candidate(tmp_path, "first", 0.5, **{fid: 20.0}), models, config)
    assert publish(*candidate(tmp_path, "lower", 0.5, **{fid: 10.0}), models, config)["promoted"]
    assert not publish(*candidate(tmp_path, "higher", 0.5, **{fid: 30.0}), models, config)["promoted"]


def test_of_a_metric_that_may_go_either_way_the_setting_says_which(tmp_path, models):
    config = configs.load(overrides=["publish.metric=contrast_pixels", "publish.higher_is_better=false"])
    publish(*candidate(tmp_path, "first", 0.5, contrast_pixels=0.2), models, config)
    assert publish(*candidate(tmp_path, "lower", 0.5, contrast_pixels=0.1), models, config)["promoted"]


@pytest.mark.parametrize("metric", ["kid", "r_precision_noise", "beauty"])
def test_a_metric_that_no_model_has_is_refused_before_anything_is_compared(tmp_path, models, metric):
    candidates = candidate(tmp_path, "first", 0.5, **{metric: 0.9})
    with pytest.raises(
        InputError, match=rf"publish\.metric {metric}: expected a figure that evaluations have of a model"
    ):
        publish(*candidates, models, configs.load(overrides=[f"publish.metric={metric}"]))
    assert ModelFolder(models).champion is None


def test_force_promotes_and_the_previous_champion_comes_back(tmp_path, models):
    config = configs.load()
    publish(*candidate(tmp_path, "first", 0.5), models, config)
    assert publish(*candidate(tmp_path, "worse", 0.1), models, config, force=True)["promoted"]
    assert champion(models) == "worse"
    restore_previous(models)
    assert champion(models) == "first"
    assert "first" not in restore_previous(models)["reason"] and champion(models) == "worse"


def test_publishing_the_champion_again_by_force_keeps_the_previous_one(tmp_path, models):
    config = configs.load()
    publish(*candidate(tmp_path, "first", 0.5), models, config)
    second = candidate(tmp_path, "second", 0.6)
    publish(*second, models, config)
    publish(*second, models, config, force=True)
    restore_previous(models)
    assert champion(models) == "first"


def test_what_cannot_be_compared_is_refused(tmp_path, models):
    bundle, metrics = candidate(tmp_path, "first", 0.5)
    with pytest.raises(InputError, match=r"did you mean r_precision\?"):
        publish(bundle, metrics, models, configs.load("publish: {metric: r_precison}"))
    with pytest.raises(InputError, match=f"{re.escape(models)}: expected a model folder, found no champion there"):
        restore_previous(models)
    other = candidate(tmp_path, "other", 0.9)
    with pytest.raises(InputError, match="another generator"):
        publish(bundle, other[1], models, configs.load())
    publish(bundle, metrics, models, configs.load())
    with pytest.raises(InputError, match="no previous champion"):
        restore_previous(models)
    fresh = candidate(tmp_path, "fresh", 0.9, body_colour=0.9)
    with pytest.raises(InputError, match="without it"):
        publish(*fresh, models, configs.load("publish: {metric: body_colour}"))
    pointer = uris.join(models, "champion.json")
    places.write(pointer, b"[]", generation=places.read(pointer)[1])
    with pytest.raises(InputError, match="restore the file"):
        publish(*fresh, models, configs.load())


def test_a_try_after_one_that_ended_before_its_decision_was_kept_says_what_is_so(tmp_path, models, monkeypatch):
    config, first = configs.load(), candidate(tmp_path, "first", 0.5)

    def die(*_):
        raise RuntimeError("the node is gone")

    with monkeypatch.context() as context:
        context.setattr(ModelFolder, "remember", die)
        with pytest.raises(RuntimeError):
            publish(*first, models, config, inputs="pictures")
    again = publish(*first, models, config, inputs="pictures")
    assert again["promoted"] and "it is the champion" in again["reason"]
    assert ModelFolder(models).previous is None
    assert ModelFolder(models).find(origin("pictures", config))["promoted"]


@pytest.mark.parametrize("value", [0.6, 0.4])
def test_a_try_after_one_that_ended_after_its_decision_was_kept_keeps_no_second_one(
    value, tmp_path, models, monkeypatch
):
    config, second = configs.load(), candidate(tmp_path, "second", value)
    publish(*candidate(tmp_path, "first", 0.5), models, config, inputs="other pictures")

    def die(*_):
        raise RuntimeError("the node is gone")

    with monkeypatch.context() as context:
        context.setattr(model_page, "write", die)
        with pytest.raises(RuntimeError):
            publish(*second, models, config, inputs="pictures")
    again = publish(*second, models, config, inputs="pictures")
    folder = ModelFolder(models)
    kept = [folder.decision(name) for name in folder.decisions()]
    assert len(kept) == 2 and again == kept[1] and f"r_precision {value}, the champion has 0.5" in again["reason"]
    assert champion(models) == ("second" if value > 0.5 else "first")


def test_a_decision_that_differs_is_kept_also_on_the_same_bundle(tmp_path, models):
    first, worse = candidate(tmp_path, "first", 0.5), candidate(tmp_path, "worse", 0.4, kid_pixels=0.1)
    config, by_kid = configs.load(), configs.load("publish: {metric: kid_pixels}")
    publish(*first, models, config, inputs="pictures")
    for how in ({"config": config}, {"config": config, "force": True}, {"config": by_kid}):
        publish(*worse, models, inputs="pictures", **how)
    assert len(ModelFolder(models).decisions()) == 4
    for _ in range(2):  # as people do it by hand, who know no sources
        publish(*worse, models, config)
    assert len(ModelFolder(models).decisions()) == 6


def test_a_challenger_is_compared_with_the_champion_of_the_moment(tmp_path, models, monkeypatch):
    config = configs.load()
    set_champion, rival = ModelFolder.set_champion, candidate(tmp_path, "rival", 0.9)

    def rival_is_faster(folder, *arguments):
        monkeypatch.setattr(ModelFolder, "set_champion", set_champion)
        publish(*rival, models, config)
        set_champion(folder, *arguments)

    monkeypatch.setattr(ModelFolder, "set_champion", rival_is_faster)
    decision = publish(*candidate(tmp_path, "slow", 0.5), models, config)
    assert not decision["promoted"] and decision["champion"] == 0.9
    assert champion(models) == "rival"


def test_a_model_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(InputError, match="found a file"):
        ModelFolder(str(tmp_path / "models"))


def test_a_decision_is_found_again_by_what_the_model_was_made_from(tmp_path, models):
    config = configs.load()
    publish(*candidate(tmp_path, "first", 0.5), models, config, inputs="pictures")
    publish(*candidate(tmp_path, "second", 0.4), models, config, inputs="other pictures")
    folder = ModelFolder(models)
    assert folder.find(origin("pictures", config))["challenger"] == 0.5
    assert folder.find(origin("other pictures", config))["challenger"] == 0.4
    assert folder.find(origin("pictures", configs.load("seed: 2"))) is None
    assert folder.find(origin("pictures", configs.load("device: cpu")))["challenger"] == 0.5
