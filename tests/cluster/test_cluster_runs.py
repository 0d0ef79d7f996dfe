"""Runs submitted by the real client over HTTP, and followed to their end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("kfp")

import cluster_cli
import kfp_server
import local_server

from components import compiled
from components.cluster import follow

ROOT = Path(__file__).resolve().parents[2]
STEPS = ["detect-changes", "preprocess", "pretrain-damsm", "train-generator", "evaluate", "export-samples", "publish"]
DONE = dict.fromkeys(STEPS, "SUCCEEDED")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(follow, "POLL_SECONDS", (0.01, 0.02))


def submit(cluster, *flags, **environment):
    return cluster_cli.run("submit", "--host", cluster.host, *cluster_cli.WORK, *flags, **environment)


def test_a_run_is_submitted_with_what_the_flags_say(cluster):
    ended = submit(
        cluster, "--config", "smoke", "--set", "damsm.epochs=3", "--gpus", "2", "--service-account", "trainer"
    )
    assert ended.status == 0, ended
    run = cluster.state.only("runs")
    assert f"run   {run['run_id']}" in ended.out
    assert f"link  {cluster.host}/#/runs/details/{run['run_id']}" in ended.out
    assert run["display_name"].startswith("attngan 20")
    assert run["service_account"] == "trainer"
    assert run["runtime_config"]["pipeline_root"] == "gs://birds/runs"
    parameters = run["runtime_config"]["parameters"]
    assert parameters["source"] == "gs://birds/cub.tgz"
    assert parameters["num_gpus"] == "2"
    assert "epochs: 3" in parameters["config"]
    assert parameters["image"] == "registry.test/attngan:1a2b3c"
    assert cluster.state.only("experiments")["namespace"] == "kubeflow"


def test_the_second_run_finds_the_experiment_of_the_first(cluster):
    first = submit(cluster, "--experiment", "owls", "--run-name", "one")
    second = submit(
        cluster, "--experiment", "owls", "--run-name", "two", KF_PIPELINES_UI_ENDPOINT="https://ui.example.com/"
    )
    assert first.status == second.status == 0
    assert cluster.state.only("experiments")["display_name"] == "owls"
    assert {run["display_name"] for run in cluster.state.tables["runs"].values()} == {"one", "two"}
    assert "link  https://ui.example.com/#/runs/details/" in second.out


def caching(run) -> dict[str, bool]:
    specification = run["pipeline_spec"].get("pipeline_spec", run["pipeline_spec"])
    tasks = compiled.six_steps(specification) | specification["root"]["dag"]["tasks"]
    return {name: bool(task.get("cachingOptions", {}).get("enableCache")) for name, task in tasks.items()}


def test_without_cache_no_step_takes_earlier_outputs_and_with_it_publish_still_does_not(cluster):
    submit(cluster)
    assert caching(cluster.state.only("runs"))["preprocess"] is True
    assert caching(cluster.state.only("runs"))["publish"] is False
    cluster.state.tables["runs"].clear()
    submit(cluster, "--no-cache")
    assert not any(caching(cluster.state.only("runs")).values())


def test_following_shows_each_change_and_ends_with_the_table(cluster):
    running = {"preprocess": "SUCCEEDED", "pretrain-damsm": "RUNNING"}
    cluster.state.script = [("PENDING", {}), ("RUNNING", running), ("RUNNING", running), ("SUCCEEDED", DONE)]
    ended = submit(cluster, "--wait")
    assert ended.status == 0, ended
    assert sum("pretrain-damsm" in line for line in ended.out.splitlines()) == 3  # running, done, the table
    assert ended.out.splitlines()[-2].startswith("publish          SUCCEEDED   0:01:05")
    assert ended.out.endswith("the run SUCCEEDED\n")


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_a_run_that_does_not_succeed_ends_with_status_one(cluster, state):
    cluster.state.script = [("RUNNING", {}), (state, {"preprocess": "SUCCEEDED"})]
    ended = submit(cluster, "--wait")
    assert ended.status == 1, ended
    assert f"the run ended as {state}; its logs: http" in ended.err


def test_the_states_of_steps_are_awaited_after_the_end_of_the_run(cluster, bucket):
    early = DONE | {"publish": "RUNNING"}
    cluster.state.script = [("SUCCEEDED", early), ("SUCCEEDED", early), ("SUCCEEDED", DONE)]
    ended = submit(cluster, "--wait")
    assert ended.out.splitlines()[-2].startswith("publish          SUCCEEDED")


def test_states_that_never_fit_are_not_awaited_for_ever(cluster, bucket):
    cluster.state.script = [("SUCCEEDED", DONE | {"publish": "RUNNING"})]
    ended = submit(cluster, "--wait")
    assert ended.status == 0
    assert ended.out.splitlines()[-2].startswith("publish          RUNNING")


def test_an_api_that_is_away_after_the_end_hides_it_not(cluster, monkeypatch):
    monkeypatch.setattr(follow._Screen, "show", lambda *_: cluster.state.unwell.append(503))
    cluster.state.script = [("SUCCEEDED", DONE | {"publish": "RUNNING"})]
    ended = submit(cluster, "--wait")
    assert ended.status == 0, ended
    assert ended.out.endswith("the run SUCCEEDED\n")


def test_a_run_that_found_nothing_new_says_so(cluster):
    cluster.state.script = [("RUNNING", {"detect-changes": "RUNNING"}), ("SUCCEEDED", {"detect-changes": "SUCCEEDED"})]
    ended = submit(cluster, "--wait")
    assert ended.status == 0
    *_, publish, last = ended.out.splitlines()
    assert publish.split() == ["publish", "not", "run"]
    assert last == "the run SUCCEEDED; detect-changes found nothing new to train on, and the champion stays"


def test_following_survives_an_api_that_is_away_for_a_while(cluster):
    cluster.state.unwell = [503, 500, 429]
    cluster.state.script = [("SUCCEEDED", DONE)]
    ended = submit(cluster, "--wait")
    assert ended.status == 0, ended
    assert "answered 503: not now. Asking again; the run goes on." in ended.out


def test_following_survives_lost_connections(cluster, monkeypatch):
    from kfp import Client
    from urllib3.exceptions import ProtocolError

    asked = []
    get_run = Client.get_run

    def broken_once(self, run_id):
        asked.append(run_id)
        if len(asked) == 1:
            raise ProtocolError("Connection aborted.")
        return get_run(self, run_id)

    monkeypatch.setattr(Client, "get_run", broken_once)
    ended = submit(cluster, "--wait")
    assert ended.status == 0, ended
    assert "it broke the connection off" in ended.out


def test_an_api_that_stays_away_is_given_up_with_the_link(cluster, monkeypatch):
    monkeypatch.setattr(follow, "LOST_SECONDS", 0.0)
    cluster.state.unwell = [503] * 9
    ended = submit(cluster, "--wait")
    assert ended.status == 2
    assert "The run goes on: http" in ended.err


def test_a_token_that_expires_is_read_from_its_file_again(cluster, tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text("old", encoding="utf-8")
    cluster.state.namespaces, cluster.state.token = {"kubeflow"}, "old"
    cluster.state.script = [("RUNNING", {}), ("SUCCEEDED", DONE)]
    show = follow._Screen.show

    def rotate(self, steps):
        file.write_text("new", encoding="utf-8")
        cluster.state.token = "new"
        show(self, steps)

    monkeypatch.setattr(follow._Screen, "show", rotate)
    ended = submit(cluster, "--wait", "--token-file", str(file))
    assert ended.status == 0, ended
    assert "reading the credentials again" in ended.out


def test_a_token_that_cannot_be_renewed_ends_the_following_with_a_sentence(cluster, monkeypatch):
    cluster.state.namespaces, cluster.state.token = {"kubeflow"}, "old"
    cluster.state.script = [("RUNNING", {})]
    monkeypatch.setattr(follow._Screen, "show", lambda *_: setattr(cluster.state, "token", "new"))
    ended = submit(cluster, "--wait", "--token", "old")
    assert ended.status == 2
    assert "answered 401" in ended.err and "The run goes on: http" in ended.err


def test_a_login_page_in_place_of_the_run_is_no_answer(cluster):
    cluster.state.unwell = [200]
    ended = submit(cluster, "--wait")
    assert ended.status == 0, ended
    assert "reading the credentials again" in ended.out


def test_a_run_that_takes_too_long_goes_on_alone(cluster):
    cluster.state.script = [("RUNNING", {})]
    ended = submit(cluster, "--wait", "--timeout", "0.1")
    assert ended.status == 2
    assert "had not ended after 0.1 seconds; it goes on: http" in ended.err


def test_a_server_that_refuses_the_run_is_quoted(cluster):
    cluster.state.fail_on = ("POST", "/runs")
    ended = submit(cluster)
    assert ended.status == 2
    assert f"{cluster.host} answered 500: Internal Server Error" in ended.err


def test_a_local_source_is_refused_before_anything_is_asked(cluster):
    ended = submit(cluster, "--source", "birds.tgz")
    assert ended.status == 2
    assert "expected gs://" in ended.err
    assert cluster.state.requests == []


def test_a_timeout_without_wait_is_refused(cluster):
    assert "--timeout: expected with --wait" in submit(cluster, "--timeout", "5").err
    assert cluster.state.requests == []


@pytest.mark.parametrize(
    ("signum", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_leaves_the_run_running_and_says_so(signum, status):
    with local_server.running(kfp_server.Server()) as cluster:
        cluster.state.script = [("RUNNING", {})]
        command = [sys.executable, "pipeline.py", "submit", "--host", cluster.host, *cluster_cli.WORK, "--wait"]
        with subprocess.Popen(
            ["sh", "-c", 'trap - INT; exec "$@"', "sh", *command],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process:
            while not any("/runs/" in request["path"] for request in cluster.state.requests):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signum)
            _, said = process.communicate(timeout=30)
        assert process.returncode == status
        assert "no longer following; the run goes on: http" in said
        assert "Traceback" not in said
        assert cluster.state.writes[-1] == "POST /apis/v2beta1/runs"
