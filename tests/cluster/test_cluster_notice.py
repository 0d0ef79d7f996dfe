"""A notice at the end of a run: what may stand behind --notify, and what is compiled for it."""

import json
from pathlib import Path

import cluster_cli
import local_server
import pytest
import receiver

pytest.importorskip("kfp")

import pipeline
from attngan.errors import InputError
from components import compiled, placement
from components.cluster.notice import Notice, notice_of
from components.cluster.options import Connection

HOST = "https://kubeflow.test"
SECRET = Notice("attngan-notify/url", f"{HOST}/#/runs/details/", "gs://birds/runs")


def notice(to) -> Notice:
    return notice_of(to, Connection(host=HOST, namespace="birds"), "gs://birds/runs")


def documents(tmp_path, notice=None, **how):
    compiled.write(pipeline.cluster_pipeline(notice), tmp_path / "pipeline.yaml", **how)
    return compiled.read(tmp_path / "pipeline.yaml")


@pytest.mark.parametrize(
    ("given", "to", "secret"),
    [
        ("attngan-notify", "attngan-notify/url", ("attngan-notify", "url")),
        ("team.hooks/SLACK_URL", "team.hooks/SLACK_URL", ("team.hooks", "SLACK_URL")),
        ("http://receiver.monitoring.svc:8080/runs", "http://receiver.monitoring.svc:8080/runs", None),
        ("https://ci.test/hooks/attngan-runs", "https://ci.test/hooks/attngan-runs", None),
    ],
)
def test_an_address_or_a_secret_is_where_a_notice_goes(given, to, secret):
    made = notice(given)
    assert (made.to, made.secret) == (to, secret)
    assert (made.page, made.pipeline_root) == (f"{HOST}/#/runs/details/", "gs://birds/runs")


@pytest.mark.parametrize(
    "url",
    [
        f"https://hooks.slack.com/services/{receiver.SECRET}",
        "https://hooks.slack.com/services/T00/B00/hunter2hunter2",
        "https://discord.com/api/webhooks/1/hunter2/slack",
        "https://acme.webhook.office.com/hunter2",
        "https://chat.test/hooks/hunter2a8x9k2q1m3nzp7rtw6y",
        "https://receiver.test/run?token=hunter2",
        "https://receiver.test/run#hunter2",
    ],
)
def test_an_address_that_holds_a_secret_is_refused_unseen(url):
    with pytest.raises(InputError) as error:
        notice(url)
    said = str(error.value)
    assert "the address holds a secret" in said and "-n birds --from-file=url=FILE" in said
    assert "hunter2" not in said and receiver.SECRET.split("/")[0] not in said


@pytest.mark.parametrize(
    "to",
    ["https://me:hunter2@host/", "ftp://hunter2", "Hunter2", "name/", "name/a b", "hooks.slack.com/a/hunter2", "/"],
)
def test_what_is_neither_is_refused_unseen(to):
    with pytest.raises(InputError) as error:
        notice(to)
    assert str(error.value).startswith("--notify: expected an address such as https://host/path")
    assert "unter2" not in str(error.value)


def test_only_with_a_notice_is_there_an_exit_handler(tmp_path):
    plain, platform = documents(tmp_path)
    assert not {"exit-handler", "notify"} & set(json.dumps([plain, platform]).split('"'))
    assert set(plain["root"]["dag"]["tasks"]) == {"detect-changes", "condition-1"}


def test_the_exit_handler_holds_the_whole_pipeline_and_calls_the_notice(tmp_path):
    specification, platform = documents(tmp_path, SECRET)
    (handler, task) = (specification["root"]["dag"]["tasks"][name] for name in ("exit-handler-1", "notify"))
    assert task["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert task["dependentTasks"] == ["exit-handler-1"] and task["cachingOptions"] == {}
    inside = specification["components"][handler["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inside) == {"detect-changes", "condition-2"}
    executor = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-notify"]
    (secret,) = executor["secretAsEnv"]
    assert secret["secretName"] == "attngan-notify" and secret["optional"] is True
    assert secret["keyToEnv"] == [{"secretKey": "url", "envVar": "ATTNGAN_NOTIFY_URL"}]


def test_what_the_notice_is_told_are_the_runs_own_values(tmp_path):
    specification, _ = documents(tmp_path, SECRET)
    inputs = specification["root"]["dag"]["tasks"]["notify"]["inputs"]["parameters"]
    constants = {name: value["runtimeValue"]["constant"] for name, value in inputs.items() if "runtimeValue" in value}
    assert constants.pop("base_image") == "{{$.inputs.parameters['pipelinechannel--image']}}"
    assert constants == {
        "to": "attngan-notify/url",
        "page": f"{HOST}/#/runs/details/",
        "runs": "gs://birds/runs/attngan",
        "run_id": "{{$.pipeline_job_uuid}}",
        "run_name": "{{$.pipeline_job_name}}",
    }
    assert inputs["model_uri"] == {"componentInputParameter": "model_uri"}
    assert inputs["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}


def test_the_steps_are_those_without_a_notice(tmp_path):
    """As are the parameters, the nodes and the retries of each."""
    with_notice, platform = documents(tmp_path, SECRET)
    plain, plain_platform = documents(tmp_path)
    assert compiled.before(with_notice) == compiled.before(plain) == ["detect-changes"]
    assert compiled.six_steps(with_notice).keys() == compiled.six_steps(plain).keys()
    assert with_notice["root"]["inputDefinitions"] == plain["root"]["inputDefinitions"]
    assert with_notice["pipelineInfo"] == plain["pipelineInfo"]
    for ours, theirs in (
        (with_notice, plain),
        (platform["platforms"]["kubernetes"], plain_platform["platforms"]["kubernetes"]),
    ):
        ours, theirs = ours["deploymentSpec"]["executors"], theirs["deploymentSpec"]["executors"]
        assert ours.pop("exec-notify") and ours == theirs


def test_nothing_is_cached_where_that_is_forbidden(tmp_path):
    specification, _ = documents(tmp_path, SECRET, caching=False)
    levels = [specification["root"], *specification["components"].values()]
    tasks = [task for level in levels for task in level.get("dag", {}).get("tasks", {}).values()]
    assert len(tasks) == 10 and all(task["cachingOptions"] == {} for task in tasks)


@pytest.mark.slow
def test_submit_and_schedule_send_what_was_compiled_and_no_address(cluster):
    flags = ["--host", cluster.host, *cluster_cli.WORK, "--notify", "attngan-notify"]
    assert cluster_cli.run("submit", *flags).status == 0
    sent = cluster.state.only("runs")["pipeline_spec"]["pipeline_spec"]
    assert {"exit-handler-1", "notify"} == set(sent["root"]["dag"]["tasks"])
    assert "notify" not in cluster.state.only("runs")["runtime_config"]["parameters"]
    assert cluster_cli.run("schedule", "weekly", "--cron", "@weekly", *flags).out.startswith("weekly: created\n")
    assert cluster_cli.run("schedule", "weekly", "--cron", "@weekly", *flags).out.startswith("weekly: unchanged\n")
    without = cluster_cli.run("schedule", "weekly", "--cron", "@weekly", *flags[:-2])
    assert without.out.startswith("weekly: updated\n")


@pytest.mark.parametrize("words", [["submit"], ["schedule", "weekly", "--cron", "@weekly"]])
def test_a_secret_on_the_command_line_is_refused_before_anything_is_asked(cluster, words):
    flags = ["--host", cluster.host, *cluster_cli.WORK, "--notify", f"https://hooks.slack.com/{receiver.SECRET}"]
    ended = cluster_cli.run(*words, *flags)
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert ended.err.startswith("attngan: --notify https://hooks.slack.com/...: the address holds a secret")
    assert receiver.SECRET not in ended.err and cluster.state.requests == []


def test_a_run_with_a_notice_is_followed_to_its_end(cluster):
    cluster.state.script = [("SUCCEEDED", {"detect-changes": "SUCCEEDED"})]
    flags = ["--host", cluster.host, *cluster_cli.WORK, "--notify", "attngan-notify", "--wait"]
    ended = cluster_cli.run("submit", *flags)
    assert ended.status == 0
    assert "found nothing new to train on" in ended.out and "notify" not in ended.out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what has no effect in processes
def test_the_exit_handler_of_kfp_itself_calls_the_notice_of_a_run_that_failed(tmp_path, monkeypatch):
    """What resolves the placeholders and the status on a cluster is another program."""
    from kfp import local

    monkeypatch.setattr(placement, "CPU_RETRIES", 0)  # each waits for a minute
    monkeypatch.setenv("PYTHONPATH", str(Path(pipeline.__file__).parent))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "out"))
    with local_server.running(receiver.Server()) as server:
        monkeypatch.setenv("ATTNGAN_NOTIFY_URL", server.url)
        given = {"source": str(tmp_path / "none"), "model_uri": str(tmp_path / "models"), "config": "nonsense: 1"}
        with pytest.raises(RuntimeError, match="detect-changes"):
            pipeline.cluster_pipeline(SECRET._replace(pipeline_root=str(tmp_path / "runs")))(**given)
    (request,) = server.requests
    told = request["body"]
    assert (told["verdict"], told["link"]) == ("failed", f"{SECRET.page}{told['run_id']}")
    assert told["run_id"] in told["reason"] and told["run_name"].startswith("attngan-")
