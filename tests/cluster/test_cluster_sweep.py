"""A sweep on a cluster: what is submitted, what is compiled, and its components one after the other."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("kfp")

import cluster_cli
from kfp import dsl, local
from kfp.local.orchestrator import task_spec_utils

import components
import pipeline
from attngan.config import settings
from attngan.storage.champion import ModelFolder
from components import compiled, sweep
from components.cluster import follow
from components.local.processes import ProcessRunner

ROOT = Path(__file__).resolve().parents[2]
VARY = ["--vary", "training.damsm_weight=1,5,10", "--vary", "seed=0,1"]


def submit(cluster, *flags):
    return cluster_cli.run("submit", "--host", cluster.host, *cluster_cli.WORK, *flags)


def test_a_sweep_is_submitted_with_all_its_members(cluster):
    ended = submit(cluster, *VARY, "--parallel", "3", "--config", "smoke", "--gpus", "2")
    assert ended.status == 0, ended
    run = cluster.state.only("runs")
    assert run["display_name"].startswith("attngan-sweep 20")
    parameters = run["runtime_config"]["parameters"]
    members = [each["varied"].splitlines() for each in parameters["members"]]
    assert len(members) == 6 and members[1] == ["training.damsm_weight=1", "seed=1"]
    assert [each["varied"].splitlines() for each in parameters["encoders"]] == members[:2]
    assert parameters["checkpoint_root"] == "gs://birds/runs/state" and parameters["num_gpus"] == "2"
    assert settings.load(parameters["config"]).seed == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--vary", "seed=1"], "--vary seed=1: expected several values"),
        ([*VARY, "--nodes", "2"], "--nodes: expected 1 with --vary"),
        (["--vary", "seed=" + ",".join(map(str, range(30)))], "--vary: 30 members, and `attngan plan` says"),
        (["--parallel", "2"], "--parallel and --yes are for a sweep; give --vary too, or leave them out."),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_is_asked(cluster, flags, sentence):
    ended = submit(cluster, *flags)
    assert ended.status == 2 and sentence in ended.err and len(ended.err.splitlines()) == 1
    assert not cluster.state.requests


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "sweep.yaml"
    assert compiled.write(pipeline.attngan_sweep, path, parallel=3) == list(compiled.SWEEP)
    return compiled.read(path)


def test_at_most_so_many_members_train_at_once_after_all_encoders(documents):
    tasks = documents[0]["root"]["dag"]["tasks"]
    loops = {name: tasks[name] for name in ("for-loop-1", "for-loop-2")}
    assert all(loop["iteratorPolicy"] == {"parallelismLimit": 3} for loop in loops.values())
    assert "preprocess" in loops["for-loop-1"]["dependentTasks"]
    assert "for-loop-1" in loops["for-loop-2"]["dependentTasks"]
    assert [list(documents[0]["components"][f"comp-{name}"]["dag"]["tasks"]) for name in loops] == [
        ["sweep-encoders"],
        ["sweep-member"],
    ]


def test_the_table_is_made_whatever_became_of_members_and_the_gate_follows_it(documents):
    tasks = documents[0]["root"]["dag"]["tasks"]
    assert tasks["sweep-table"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert "for-loop-2" in tasks["sweep-table"]["dependentTasks"]
    assert "sweep-table" in tasks["publish"]["dependentTasks"]


@pytest.mark.slow
def test_a_notice_stands_around_a_sweep(cluster):
    ended = submit(cluster, *VARY, "--parallel", "2", "--notify", "attngan-notify")
    assert ended.status == 0, ended
    specification = cluster.state.only("runs")["pipeline_spec"]
    specification = specification.get("pipeline_spec", specification)
    root = specification["root"]["dag"]["tasks"]
    assert set(root) == {"exit-handler-1", "notify"}
    inside = specification["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert inside["for-loop-2"]["iteratorPolicy"] == {"parallelismLimit": 2}


def test_a_sweep_that_failed_is_retried_as_one(cluster, bucket, monkeypatch):
    monkeypatch.setattr(follow, "POLL_SECONDS", (0.01, 0.02))
    cluster.state.script = [("FAILED", {"preprocess": "FAILED"})]
    assert submit(cluster, *VARY, "--wait", "--retries", "0").status == 1
    cluster.state.attempts = [[("SUCCEEDED", dict.fromkeys(compiled.SWEEP, "SUCCEEDED"))]]
    run_id = cluster.state.only("runs")["run_id"]
    ended = cluster_cli.run("retry", run_id, "--host", cluster.host, "--wait")
    assert ended.status == 0, ended
    assert "sweep-member" in ended.out and "train-generator" not in ended.out


def test_members_are_placed_as_trainings_are(documents):
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name in ("exec-sweep-encoders", "exec-sweep-member"):
        selector = {"nodeSelectorJson": {"componentInputParameter": "pipelinechannel--node_selector"}}
        assert executors[name]["nodeSelector"] == selector


@pytest.mark.slow
def test_the_components_make_a_sweep(dataset, smoke, tmp_path):
    """Each component's own function; of the members one fails, and its step does not."""
    config = settings.dump(settings.load(settings.dump(smoke), overrides=["watch.on_trouble=stop"]))
    members = [{"varied": f"training.generator_learning_rate={rate}"} for rate in ("0.0002", "1000")]
    common = {"inputs": "abc", "checkpoint_root": str(tmp_path / "state"), "config": config}
    data = dsl.Dataset(name="dataset", uri=str(dataset))
    on = {"dataset": data, "num_gpus": "0"}
    place = sweep.sweep_encoders.python_func(**common, **on, inception_weights="", **members[0])
    done = []
    for number, member in enumerate(members):
        scores = dsl.Metrics(name="scores", uri=str(tmp_path / f"scores{number}"))
        done.append(sweep.sweep_member.python_func(**common, **on, encoders=[place], **member, scores=scores))
        assert Path(scores.path).exists()
    kinds = {"table": dsl.HTML, "results": dsl.Artifact, "bundle": dsl.Model, "metrics": dsl.Artifact}
    made = {name: kind(name=name, uri=str(tmp_path / name)) for name, kind in kinds.items()}
    best = sweep.sweep_table.python_func(**common, members=members, done=done, **made)
    assert settings.load(best).training.generator_learning_rate == 0.0002
    table = json.loads((tmp_path / "results" / "sweep.json").read_text())
    assert [bool(row["error"]) for row in table["members"]] == [False, True]
    assert "loss discriminator is nan" in Path(made["table"].path).read_text()
    models = str(tmp_path / "models")
    components.publish.python_func(
        bundle=made["bundle"], metrics=made["metrics"], model_uri=models, inputs="abc", force=True, config=best
    )
    assert ModelFolder(models).champion


@pytest.mark.slow
def test_the_whole_sweep_runs_through_kfp(birds, smoke, tmp_path, monkeypatch):
    """The pipeline for a cluster, run by kfp.local, whose loops put their item in place of other tasks' outputs."""
    made = task_spec_utils.create_parameter_loop_iteration_task_spec

    def mended(task, item, name):
        iteration = made(task, item, name)
        for key, given in task.inputs.parameters.items():
            if given.HasField("task_output_parameter"):
                iteration.inputs.parameters[key].CopyFrom(given)
        return iteration

    monkeypatch.setattr(task_spec_utils, "create_parameter_loop_iteration_task_spec", mended)
    runner = ProcessRunner(tmp_path / "logs", ROOT, sys.stdout)
    runner.logs.mkdir()
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "runs"))
    members = [{"varied": f"training.damsm_weight={weight}"} for weight in (1, 5)]
    with runner.installed():
        pipeline.attngan_sweep(
            source=str(birds),
            model_uri=str(tmp_path / "models"),
            checkpoint_root=str(tmp_path / "state"),
            encoders=members[:1],
            members=members,
            config=settings.dump(smoke),
            force=True,
            num_gpus="0",
        )
    assert sorted(runner.ran) == sorted([*(name.replace("-", "_") for name in compiled.SWEEP), "sweep_member"])
    assert ModelFolder(str(tmp_path / "models")).champion
