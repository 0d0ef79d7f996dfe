"""Each component's own function on drawn birds, in pipeline order."""

import inspect
import json
from pathlib import Path

import pytest

pytest.importorskip("kfp")

from kfp import dsl

import components
from attngan.config import settings
from attngan.data.toy import drawn_birds
from attngan.steps import train
from attngan.storage import artifacts, json_text, run_ending
from components import sweep

SWEEP = (sweep.sweep_encoders, sweep.sweep_member, sweep.sweep_table)
COMPONENTS = {name: getattr(components, name) for name in components.__all__}
COMPONENTS |= {component.name.replace("-", "_"): component for component in SWEEP}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run the six components and return their outputs by name."""
    root = tmp_path_factory.mktemp("components")
    drawn_birds.draw(root / "birds", count=len(drawn_birds.bird_classes()) * 2, seed=1)
    kinds = {
        "dataset": dsl.Dataset,
        "damsm": dsl.Model,
        "generator": dsl.Model,
        "bundle": dsl.Model,
        "metrics": dsl.Artifact,
        "gallery": dsl.Artifact,
        "damsm_progress": dsl.HTML,
        "progress": dsl.HTML,
        "report": dsl.HTML,
        "page": dsl.HTML,
        "damsm_scores": dsl.Metrics,
        "generator_scores": dsl.Metrics,
        "scores": dsl.Metrics,
    }
    made = {name: kind(name=name, uri=str(root / "out" / name)) for name, kind in kinds.items()}
    (root / "out").mkdir()
    config = settings.dump(settings.load_file(Path("smoke")))
    state = str(root / "state")

    def take(*names: str) -> dict:
        return {name: made[name] for name in names}

    sources = {"source": str(root / "birds"), "captions": "", "inception_weights": ""}
    question = {**sources, "model_uri": str(root / "models"), "config": config}
    written = {"inputs": str(root / "inputs"), "reason": str(root / "reason")}
    made["first"] = components.detect_changes.python_func(**question, always=False, **written)
    inputs = (root / "inputs").read_text(encoding="utf-8")
    components.preprocess.python_func(
        source=sources["source"], captions="", inputs=inputs, config=config, **take("dataset")
    )
    components.pretrain_damsm.python_func(
        **take("dataset", "damsm"),
        inception_weights="",
        inputs=inputs,
        checkpoint_root=state,
        config=config,
        num_gpus="0",
        train_job="",
        progress=made["damsm_progress"],
        scores=made["damsm_scores"],
    )
    components.train_generator.python_func(
        **take("dataset", "damsm", "generator", "progress"),
        checkpoint_root=state,
        config=config,
        num_gpus="0",
        train_job="",
        scores=made["generator_scores"],
    )
    components.evaluate.python_func(
        **take("dataset", "damsm", "generator", "metrics", "report", "scores"),
        checkpoint_root=state,
        num_gpus="0",
        config=config,
    )
    components.export_samples.python_func(
        **take("generator", "dataset", "damsm", "metrics", "gallery", "page", "bundle"), config=config
    )
    made["decision"] = components.publish.python_func(
        **take("bundle", "metrics"), model_uri=str(root / "models"), inputs=inputs, force=True, config=config
    )
    made["second"] = components.detect_changes.python_func(**question, always=False, **written)
    made["reason"] = (root / "reason").read_text(encoding="utf-8")
    return made


@pytest.mark.parametrize("kind", ["dataset", "damsm", "generator", "metrics", "gallery", "bundle"])
def test_each_folder_is_a_complete_result(ran, kind):
    artifacts.check(Path(ran[kind].path), kind, contents=True)


@pytest.mark.parametrize("page", ["damsm_progress", "progress", "report", "page"])
def test_each_page_is_html_by_itself(ran, page):
    text = Path(ran[page].path).read_text(encoding="utf-8")
    assert "<html" in text
    assert 'src="http' not in text


def test_the_dataset_carries_its_fingerprint(ran):
    info = json_text.read(Path(ran["dataset"].path) / "dataset.json")
    assert ran["dataset"].metadata["fingerprint"] == info["fingerprint"] != ""


@pytest.mark.parametrize("name", ["damsm_scores", "generator_scores", "scores"])
def test_scores_are_logged_and_written(ran, name):
    written = json.loads(Path(ran[name].path).read_text(encoding="utf-8"))
    assert {key: ran[name].metadata[key] for key in written} == written != {}


def test_a_bundle_that_has_learnt_nothing_becomes_the_champion_by_force(ran):
    assert ran["decision"].promoted is True
    assert ran["decision"].reason.startswith("promoted: the first model here")


def test_the_second_run_on_the_same_pictures_has_nothing_to_train(ran):
    assert (ran["first"], ran["second"]) == (True, False)
    assert "the champion stays" in ran["reason"]


def test_what_a_person_can_put_right_ends_a_component_with_status_two(tmp_path, capsys):
    dataset = dsl.Dataset(name="dataset", uri=str(tmp_path / "dataset"))
    with pytest.raises(SystemExit) as stop:
        components.preprocess.python_func(
            source=str(tmp_path / "none"), captions="", inputs="", config="", dataset=dataset
        )
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("attngan: ")


def given_to(name, root):
    """Return arguments for a component, whose settings are a mistake."""
    function = COMPONENTS[name].python_func
    values = {"config": "nonsense: 1", "num_gpus": "0", "always": False, "force": False, "checkpoint_root": ""}
    values |= {"varied": "seed=1", "members": [{"varied": "seed=1"}], "encoders": [], "done": []}
    if name.startswith("sweep"):
        values["checkpoint_root"] = str(root)
    arguments = {}
    for parameter in inspect.signature(function).parameters:
        if parameter in values:
            arguments[parameter] = values[parameter]
        elif parameter in ("dataset", "damsm", "generator", "metrics", "bundle", "gallery", "results"):
            arguments[parameter] = dsl.Artifact(name=parameter, uri=str(root / "out" / parameter))
        elif parameter in ("report", "page", "progress", "scores", "table"):
            arguments[parameter] = dsl.HTML(name=parameter, uri=str(root / "out" / f"{parameter}.html"))
        else:
            arguments[parameter] = "" if parameter in ("captions", "train_job", "inception_weights") else str(root)
    return function, arguments


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_mistake_is_tried_once_by_every_component(name, tmp_path, monkeypatch, capsys):
    function, arguments = given_to(name, tmp_path / "run")
    loaded, load = [], settings.load
    monkeypatch.setattr(settings, "load", lambda *texts, **how: (loaded.append(1), load(*texts, **how))[1])
    monkeypatch.setenv("KFP_POD_NAME", "attngan-x7k2p-retry-system-container-impl-1")
    said = []
    for attempt in ("0", "1", "2", "0"):  # the last one is "retry run"
        monkeypatch.setenv("KFP_RETRY_INDEX", attempt)
        with pytest.raises(SystemExit) as stop:
            function(**arguments)
        assert stop.value.code == 2
        said.append(capsys.readouterr().err)
    assert len(loaded) == 2 and len(set(said)) == 1 and said[0].startswith("attngan: config: ")
    assert len(list(tmp_path.rglob(f"mistakes/{name}-*.json"))) == 1
    monkeypatch.setenv("KFP_RETRY_INDEX", "1")
    with pytest.raises(SystemExit):
        function(**arguments | {"config": "nonsense: 2"})
    assert len(loaded) == 3  # other settings are another mistake


def test_steps_have_one_name_and_one_order():
    assert [name.replace("_", "-") for name in components.__all__] == [*run_ending.RUN]
    assert [name.replace("_", "-") for name in train.READ] == [*run_ending.STEPS]
    assert [*train.READ] == [*train.TITLES] == [*train.MADE]


def test_every_component_is_reported_in_the_one_place():
    for name, component in COMPONENTS.items():
        text = Path(inspect.getsourcefile(component.python_func)).read_text(encoding="utf-8")
        assert text.count(f'with mistakes.reported("{name}"') + text.count(f'    mistakes.reported("{name}"') == 1
        assert "exit_status" not in text
