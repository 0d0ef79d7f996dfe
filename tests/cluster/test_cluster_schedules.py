"""Schedules declared by the real client over HTTP: again and again, interrupted, side by side."""

import pytest

pytest.importorskip("kfp")

import cluster_cli
import kfp_contract

import pipeline
from components import compiled
from components.cluster import schedules

CRON = ["--cron", "0 3 * * 1"]
pytestmark = pytest.mark.usefixtures("storage_server")  # without the bucket of these schedules


def schedule(cluster, name="weekly", *flags, cron=CRON):
    return cluster_cli.run("schedule", name, "--host", cluster.host, *cluster_cli.WORK, *cron, *flags)


def ask(cluster, *words):
    return cluster_cli.run(*words, "--host", cluster.host)


def test_a_schedule_is_created_with_its_next_three_times(cluster):
    ended = schedule(cluster, "weekly", "--time-zone", "Europe/Berlin", "--max-concurrency", "2")
    assert ended.status == 0, ended
    made = cluster.state.only("recurringruns")
    lines = ended.out.splitlines()
    assert lines[0] == "weekly: created"
    assert lines[1] == "cron  0 0 3 * * 1 (seconds first)"
    assert [line.endswith(" 03:00:00 Europe/Berlin") for line in lines[2:5]] == [True] * 3
    assert lines[5] == f"link  {cluster.host}/#/recurringrun/details/{made['recurring_run_id']}"
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1"}}
    assert (made["status"], made["no_catchup"], made["max_concurrency"]) == ("ENABLED", True, "2")
    assert made["runtime_config"]["parameters"]["checkpoint_root"] == "gs://birds/runs/state"
    (version,) = [one for one in cluster.state.tables["versions"].values() if one["display_name"].startswith("sha-")]
    assert made["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]


def test_the_same_command_again_writes_nothing(cluster):
    schedule(cluster)
    before = list(cluster.state.writes)
    ended = schedule(cluster)
    assert ended.out.startswith("weekly: unchanged\n")
    assert cluster.state.writes == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--gpus", "4"],
        ["--set", "damsm.epochs=9"],
        ["--catchup"],
        ["--max-concurrency", "3"],
        ["--service-account", "x"],
    ],
)
def test_another_plan_replaces_the_schedule_and_only_then_fires(cluster, flags):
    schedule(cluster)
    first = cluster.state.only("recurringruns")
    count = len(cluster.state.writes)
    ended = schedule(cluster, "weekly", *flags)
    assert ended.out.startswith("weekly: updated\n")
    second = cluster.state.only("recurringruns")
    assert second["recurring_run_id"] != first["recurring_run_id"]
    assert second["status"] == "ENABLED"
    assert cluster.state.writes[count:] == [
        "POST /apis/v2beta1/recurringruns",
        f"DELETE /apis/v2beta1/recurringruns/{first['recurring_run_id']}",
        f"POST /apis/v2beta1/recurringruns/{second['recurring_run_id']}:enable",
    ]
    assert next(one for one in reversed(cluster.state.requests) if one["body"])["body"]["mode"] == "DISABLE"


def test_a_schedule_is_paused_and_resumed_in_place(cluster):
    schedule(cluster)
    key = cluster.state.only("recurringruns")["recurring_run_id"]
    paused = schedule(cluster, "weekly", "--paused")
    assert paused.out.startswith("weekly: paused\n") and "if it were not paused" in paused.out
    assert cluster.state.only("recurringruns")["status"] == "DISABLED"
    assert schedule(cluster, "weekly", "--paused").out.startswith("weekly: unchanged\n")
    assert schedule(cluster).out.startswith("weekly: resumed\n")
    assert cluster.state.only("recurringruns")["recurring_run_id"] == key


def test_a_schedule_made_paused_never_fires(cluster):
    assert schedule(cluster, "weekly", "--paused").out.startswith("weekly: created\n")
    assert not any(write.endswith(":enable") for write in cluster.state.writes)


@pytest.mark.parametrize("at", [("DELETE", ""), ("POST", ":enable")])
def test_a_crash_on_the_way_is_repaired_by_the_same_command(cluster, at):
    schedule(cluster)
    cluster.state.fail_on = at
    assert schedule(cluster, "weekly", "--gpus", "4").status == 2
    enabled = [one for one in cluster.state.tables["recurringruns"].values() if one["status"] == "ENABLED"]
    assert len(enabled) <= 1
    cluster.state.fail_on = ("", "")
    assert schedule(cluster, "weekly", "--gpus", "4").status == 0
    left = cluster.state.only("recurringruns")
    assert left["status"] == "ENABLED"
    assert left["runtime_config"]["parameters"]["num_gpus"] == "4"


def test_two_that_declare_the_same_at_once_keep_the_same_one(cluster, monkeypatch):
    """The other's is there when ours has just been made."""
    from kfp import Client

    create = Client.create_recurring_run

    def both(self, *arguments, **rest):
        create(self, *arguments, **rest)
        return create(self, *arguments, **rest)

    monkeypatch.setattr(Client, "create_recurring_run", both)
    assert schedule(cluster).out.startswith("weekly: created\n")
    assert cluster.state.only("recurringruns")["status"] == "ENABLED"
    assert cluster.state.requests[-1]["path"].endswith(":enable")


def test_schedules_of_other_names_are_left_alone_however_many_there_are(cluster):
    for name in ("a", "b", "c"):
        schedule(cluster, name)
    schedule(cluster, "b", "--gpus", "4")
    assert sorted(one["display_name"] for one in cluster.state.tables["recurringruns"].values()) == ["a", "b", "c"]
    assert ask(cluster, "unschedule", "b").out == "b: removed\n"
    assert sorted(one["display_name"] for one in cluster.state.tables["recurringruns"].values()) == ["a", "c"]


def by_default(cluster, key):
    """Delete a schedule as kfp's own client does."""
    import kfp

    kfp.Client(host=cluster.host, namespace="kubeflow").delete_recurring_run(key)


def test_the_default_deletion_takes_the_pods_of_a_run_in_progress(cluster):
    schedule(cluster)
    key = cluster.state.only("recurringruns")["recurring_run_id"]
    run = cluster.state.fire(key)
    by_default(cluster, key)
    assert run not in cluster.state.workflows
    assert cluster.state.tables["runs"][run]["state"] == "RUNNING"


@pytest.mark.parametrize(
    "words", [["schedule", "weekly", *CRON, *cluster_cli.WORK, "--gpus", "4"], ["unschedule", "weekly"]]
)
def test_a_run_in_progress_outlives_its_schedule(cluster, words):
    schedule(cluster)
    run = cluster.state.fire(cluster.state.only("recurringruns")["recurring_run_id"])
    assert ask(cluster, *words).out.splitlines()[0] in ("weekly: updated", "weekly: removed")
    assert cluster.state.workflows == {run}


ODD = ["a+b", "50%", "100%25", "%41", "a b", "#1 or ?x=1&y", "'\"\\", "V\u00f6gel \u9ce5", "\U0001f426"]


@pytest.mark.parametrize("name", ODD)
def test_a_schedule_of_any_name_is_found_again(cluster, name):
    flags = ["--experiment", f"birds {name}"]
    assert schedule(cluster, name, *flags).out.startswith(f"{name}: created\n")
    made = cluster.state.only("recurringruns")
    assert (made["display_name"], made["mode"]) == (name, "ENABLE")
    assert schedule(cluster, name, *flags).out.startswith(f"{name}: unchanged\n")
    assert cluster.state.only("experiments")["display_name"] == f"birds {name}"
    assert name in ask(cluster, "schedules", *flags).out
    assert ask(cluster, "unschedule", name, *flags).out == f"{name}: removed\n"
    assert cluster.state.tables["recurringruns"] == {}


def test_names_that_differ_only_when_unescaped_are_two_schedules(cluster):
    schedule(cluster, "%41")
    schedule(cluster, "A")
    assert ask(cluster, "unschedule", "A").out == "A: removed\n"
    assert cluster.state.only("recurringruns")["display_name"] == "%41"


def test_an_experiment_that_another_command_makes_at_the_same_time_is_taken(cluster, monkeypatch):
    from components.cluster import names

    find, asked = names.experiment, []

    def late(client, connection):
        asked.append(connection.experiment)
        return find(client, connection) if len(asked) != 2 else None

    schedule(cluster, "first")
    asked.append("made already")
    monkeypatch.setattr(names, "experiment", late)
    assert schedule(cluster, "second").out.startswith("second: created\n")
    assert cluster.state.only("experiments")["display_name"] == "attngan"


def test_why_an_upload_is_refused_is_said(cluster):
    cluster.state.fail_on = ("POST", "/upload")
    ended = schedule(cluster)
    assert ended.status == 2
    assert "answered 500: Internal Server Error." in ended.err


def test_a_second_version_of_the_pipeline_is_uploaded_only_when_it_says_something_else(cluster, monkeypatch):
    schedule(cluster)
    schedule(cluster, "other")
    uploads = [write for write in cluster.state.writes if "upload" in write]
    assert uploads == ["POST /apis/v2beta1/pipelines/upload", "POST /apis/v2beta1/pipelines/upload_version"]
    monkeypatch.setattr(schedules, "digest", lambda _: "0" * 64)
    assert schedule(cluster).out.startswith("weekly: updated\n")
    assert sum("upload" in write for write in cluster.state.writes) == 3


def test_two_compilations_have_one_digest(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        compiled.write(pipeline.attngan_pipeline, tmp_path / name)
    assert schedules.digest(tmp_path / "a.yaml") == schedules.digest(tmp_path / "b.yaml")
    text = (tmp_path / "b.yaml").read_text(encoding="utf-8").replace("description: 'AttnGAN", "description: 'GAN")
    changed = tmp_path / "c.yaml"
    changed.write_text(text.replace("attngan/python", "attngan/other"), encoding="utf-8")
    assert schedules.digest(tmp_path / "a.yaml") != schedules.digest(changed)


def test_a_schedule_that_had_a_failed_run_is_still_enabled(cluster):
    schedule(cluster)
    cluster.state.only("recurringruns").update(status="STATUS_UNSPECIFIED", mode="ENABLE")
    assert schedule(cluster).out.startswith("weekly: unchanged\n")


def test_in_a_cluster_of_many_users_pipeline_and_experiment_belong_to_the_namespace(cluster):
    cluster.state.namespaces = {"birds"}
    assert schedule(cluster, "weekly", "--namespace", "birds").status == 0
    assert ask(cluster, "schedules", "--namespace", "birds").out.startswith("weekly: Mondays at 03:00 UTC, enabled\n")
    (upload,) = [one for one in cluster.state.requests if one["path"].endswith("/upload")]
    assert upload["query"]["namespace"] == "birds"
    assert cluster.state.only("experiments")["namespace"] == "birds"
    assert {one["query"].get("namespace", "birds") for one in cluster.state.requests} == {"birds"}


def test_no_schedules_is_an_answer_and_asking_makes_no_experiment(cluster):
    assert ask(cluster, "schedules").out == "no schedules in the experiment attngan\n"
    assert cluster.state.writes == []


def test_an_unknown_schedule_is_refused_with_those_there_are(cluster):
    assert "there is none" in ask(cluster, "unschedule", "weekly").err
    schedule(cluster, "monthly")
    ended = ask(cluster, "unschedule", "weekly")
    assert ended.status == 2
    assert "weekly: expected a schedule of the experiment attngan, found monthly." in ended.err
    assert len(cluster.state.tables["recurringruns"]) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--cron", "0 3 * *"], "found 4"),
        ([*CRON, "--time-zone", "Mars/Olympus"], "no such time zone"),
        ([*CRON, "--time-zone", "../../etc/passwd"], "no such time zone"),
        ([*CRON, "--source", "birds"], "expected gs://"),
    ],
)
def test_a_bad_plan_is_refused_before_anything_is_asked(cluster, flags, said):
    ended = schedule(cluster, "weekly", cron=flags)
    assert ended.status == 2
    assert said in ended.err
    assert cluster.state.requests == []


@pytest.mark.skipif(not kfp_contract.SWAGGER.is_file(), reason="upstream's API description is not beside the checkout")
def test_all_commands_together_ask_only_what_upstream_describes(cluster):
    schedule(cluster)
    schedule(cluster, "weekly", "--gpus", "0", "--paused")
    ask(cluster, "schedules")
    ask(cluster, "unschedule", "weekly")
    cluster_cli.run("submit", "--host", cluster.host, *cluster_cli.WORK, "--wait")
    swagger = kfp_contract.description()
    for request in cluster.state.requests:
        kfp_contract.check(request, swagger)
    asked = {(request["method"], request["path"].split("/")[3].partition(":")[0]) for request in cluster.state.requests}
    assert {("POST", "runs"), ("POST", "recurringruns"), ("DELETE", "recurringruns"), ("GET", "runs")} <= asked
