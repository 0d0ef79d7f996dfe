"""Training on several nodes: the TrainJob that is submitted, how it is waited for, and what every bad answer says."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("kubeflow_trainer_api")

import kubernetes_api
import local_server
from kubeflow_trainer_api import models
from kubernetes_api import condition, pod

from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.storage import places
from attngan.training import train_job, train_job_cluster

SETTINGS = """
nodes: 3
gpus: 4
image: registry/attngan@sha256:1
cpu: 16
memory: 64Gi
node_selector: {gpu: h100}
tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
service_account: trainer
deadline_seconds: 3600
"""
COMMAND = ["torchrun", "-m", "attngan", "train-generator", "--dataset", "gs://b/dataset"]
FAILED = condition("Failed", reason="JobsFailed", message="jobset failed due to one or more job failures")


@pytest.fixture
def api(monkeypatch, tmp_path):
    with local_server.running(kubernetes_api.Api()) as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.setattr(train_job, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(train_job_cluster, "RETRY_SECONDS", 0.01)
        monkeypatch.setattr(train_job_cluster, "PATIENCE_SECONDS", 0.2)
        yield server


def made(settings=SETTINGS, command=COMMAND):
    return train_job.body(train_job.load(settings), "train-generator", command)


def run(job=None):
    train_job.run(train_job_cluster.Cluster(), job or made())


def test_the_body_is_one_of_the_published_schema():
    assert models.TrainerV1alpha1TrainJob.from_dict(made()).to_dict() == made()


def test_the_body_asks_for_what_the_settings_say():
    spec = made()["spec"]
    trainer = spec["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (3, 4, "registry/attngan@sha256:1")
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "4"}
    assert trainer["resourcesPerNode"]["requests"] == trainer["resourcesPerNode"]["limits"]
    assert trainer["command"] == COMMAND
    assert (spec["activeDeadlineSeconds"], spec["runtimeRef"]) == (3600, {"name": "torch-distributed"})
    (node,) = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pods = node["template"]["spec"]["template"]["spec"]
    assert pods["nodeSelector"] == {"gpu": "h100"} and pods["serviceAccountName"] == "trainer"
    assert pods["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pods["volumes"] == [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}]
    assert pods["containers"] == [{"name": "node", "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}]


def test_nodes_without_gpus_run_one_process_each():
    trainer = made("nodes: 2\nimage: x\ngpus: 0")["spec"]["trainer"]
    assert trainer["numProcPerNode"] == 1
    assert set(trainer["resourcesPerNode"]["limits"]) == {"cpu", "memory"}


def test_kubernetes_fills_nothing_into_the_command():
    assert made(command=["a $(HOME) bird"])["spec"]["trainer"]["command"] == ["a $$(HOME) bird"]


@pytest.mark.parametrize("step", ["pretrain-damsm", "train-generator"])
def test_the_name_is_a_label_that_leaves_room_for_those_of_its_pods(step):
    name = train_job.body(train_job.load(SETTINGS), step, COMMAND)["metadata"]["name"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(f"{name}-node-0-00-xxxxx") <= 63


def test_the_name_changes_with_command_image_and_nodes_only():
    names = [made()["metadata"]["name"]]
    names += [
        made(SETTINGS.replace(old, new))["metadata"]["name"] for old, new in [("sha256:1", "sha256:2"), ("3", "2")]
    ]
    names += [made(command=[*COMMAND, "--set", "seed=1"])["metadata"]["name"]]
    assert len(set(names)) == 4
    assert made()["metadata"]["name"] == names[0]


def test_every_mistake_in_the_settings_is_said_at_once():
    with pytest.raises(InputError) as caught:
        train_job.load("nodes: 1\nimag: x\nmemory: 32GB\ntolerations: [{effct: NoSchedule}]")
    for part in ("nodes: ", "did you mean image?", "image: missing", "memory: ", "did you mean tolerations.0.effect?"):
        assert part in str(caught.value)
    with pytest.raises(InputError, match=r"train_job: not readable as YAML"):
        train_job.load("a: b: c")


@pytest.mark.parametrize("name", configs.shipped())
def test_the_config_survives_as_overrides(name):
    config = configs.load_file(Path(name), overrides=["training.generator_learning_rate=0.00001"])
    captions = ("a $(red) bird: ü, [x]", "two\nlines", "'quoted' #1")
    config = config.model_copy(update={"samples": config.samples.model_copy(update={"captions": captions})})
    assert configs.load(overrides=configs.overrides(config)) == config


def test_a_new_job_is_submitted_strictly_and_awaited(api, capsys):
    api.script = [[], [], [condition("Complete")]]
    waiting = [condition("PodScheduled", status="False", reason="Unschedulable", message="0/5 nodes have a GPU")]
    evicted = pod("p0-evicted", 0, "Failed")
    evicted["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    api.pods = [pod("p1", 1, "Pending", conditions=waiting), pod("p0", 0, "Running"), evicted]
    api.log = [("2026-01-01T00:00:01Z", "generator: 5 %"), ("2026-01-01T00:00:02Z", "generator: 6 %")]
    run()
    assert api.writes == ["POST"]
    ((_, path, request),) = [one for one in api.requests if one[0] == "POST"]
    assert path == kubernetes_api.JOBS and request["body"] == made()
    assert request["query"] == {"fieldValidation": "Strict"}  # an older Trainer drops the node selector otherwise
    output = capsys.readouterr().out
    assert output.count("node 0 Running, node 1 Pending (0/5 nodes have a GPU)") == 1
    assert output.count("node 0 | generator: 5 %") == output.count("node 0 | generator: 6 %") == 1
    assert output.rstrip().endswith("complete")


def test_a_retry_goes_on_waiting_for_a_job_that_runs(api):
    api.jobs[made()["metadata"]["name"]] = made()
    api.script = [[], [], [condition("Complete")]]
    run()
    assert api.writes == []


def test_a_retry_takes_the_success_of_a_finished_job(api):
    api.jobs[made()["metadata"]["name"]] = made()
    api.script = [[condition("Complete")]]
    run()
    assert api.writes == []


def test_a_retry_replaces_a_failed_job_once_it_is_gone(api):
    api.jobs[made()["metadata"]["name"]] = made()
    api.script = [[FAILED], [condition("Complete")]]
    api.lingering = 3
    run()
    assert api.writes == ["DELETE", "POST"]


def test_two_that_submit_the_same_job_wait_for_one(api):
    taken = made()

    def create(body):
        api.jobs[body["metadata"]["name"]] = taken  # the other was faster
        return False

    cluster = train_job_cluster.Cluster()
    cluster.create = create
    train_job.run(cluster, made())
    assert api.writes == []


def test_a_failed_job_ends_with_its_reason_and_the_log_of_node_0(api, capsys):
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    status = {"name": "node", "state": killed, "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    api.script = [[], [FAILED]]
    api.pods = [pod("p0", 0, "Running"), pod("p1", 1, "Failed", containerStatuses=[status])]
    api.log = [("2026-01-01T00:00:01Z", "generator: 5 %"), ("2026-01-01T00:00:02Z", '{"peer": "lost"}')]
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["node 0 | generator: 5 %", 'node 0 | {"peer": "lost"}']
    assert "failed (JobsFailed: jobset failed due to one or more job failures)" in lines[2]
    assert "node 1 Failed (OOMKilled, exit status 137)" in lines[2]
    assert api.writes == ["POST"]  # a job that failed while awaited is not tried again here: the pipeline does that


def test_a_job_that_fails_before_it_was_looked_at_is_not_submitted_again(api, capsys):
    api.script = [[FAILED]]
    with pytest.raises(SystemExit):
        run()
    assert api.writes == ["POST"]
    assert "no pods left" in capsys.readouterr().err


def test_a_job_that_somebody_deletes_is_missed(api, monkeypatch):
    api.script = [[]]
    monkeypatch.setattr(train_job_cluster.Nodes, "tell", lambda self: api.jobs.clear())
    with pytest.raises(InputError, match="somebody deleted it"):
        run()


WEBHOOK = 'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request: spec.runtimeRef: '


@pytest.mark.parametrize(
    ("request_", "refusal", "says"),
    [
        (("GET", "/pods"), (401, "Unauthorized"), "does not accept this process's token"),
        (
            ("GET", "/pods"),
            (403, "pods is forbidden"),
            "not allowed to list pods .* the role of docs/kubeflow-reference.md",
        ),
        (("GET", "/trainjobs"), (403, "trainjobs is forbidden"), "not allowed to get trainjobs"),
        (("POST", "/trainjobs"), (403, "trainjobs is forbidden"), "not allowed to create trainjobs .* the role"),
        (("POST", "/trainjobs"), (403, WEBHOOK + "must be created before"), "runtime is missing .* install it"),
        (("POST", "/trainjobs"), (403, WEBHOOK + "no torch"), "refused to create .*no torch.* correct the settings"),
        (("POST", "/trainjobs"), (404, "plain: 404 page not found"), "install Kubeflow Trainer v2"),
        (("POST", "/trainjobs"), (404, 'namespaces "birds" not found'), "no such namespace"),
        (("POST", "/trainjobs"), (400, 'unknown field "spec.runtimePatches"'), "2.2 or newer is needed"),
        (("POST", "/trainjobs"), (422, "quantities must match"), "refused to create .*quantities must match"),
        (("GET", "/trainjobs"), (503, "plain: upgrading"), "no answer from the Kubernetes API .*503, upgrading"),
    ],
)
def test_each_bad_answer_says_what_to_do(api, request_, refusal, says):
    api.refusals[request_] = refusal
    with pytest.raises(InputError, match=says):
        run()
    assert not api.jobs


def test_an_api_that_is_away_for_a_moment_is_waited_for(api, monkeypatch):
    told = []
    monkeypatch.setattr(train_job_cluster, "say", lambda line: (told.append(line), api.refusals.clear()))
    api.refusals["GET", "/trainjobs"] = (503, "upgrading")
    run()
    assert told[0] == "no answer from the Kubernetes API (503, upgrading); trying again"
    assert api.writes == ["POST"]


def test_a_log_that_may_not_be_read_does_not_end_the_waiting(api, capsys):
    api.script = [[], [], [], [condition("Complete")]]
    api.pods = [pod("p0", 0, "Running")]
    api.refusals["GET", "/log"] = (403, "pods/log is forbidden")
    run()
    assert capsys.readouterr().out.count("not allowed to get pods/log") == 1


def test_without_a_cluster_the_sentence_says_where_to_run(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"no access to a cluster .* point KUBECONFIG"):
        train_job_cluster.Cluster()


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_coordinator_that_is_stopped_deletes_its_job(api, sent, status):
    api.script = [[]]
    script = (
        "import sys, json\nfrom attngan.runtime import exit_status; from attngan.training import train_job\n"
        "from attngan.training.train_job_cluster import Cluster\n"
        "with exit_status.reported():\n    train_job.run(Cluster(), json.loads(sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, json.dumps(made())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    deadline = time.monotonic() + 60
    while not api.jobs and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    assert not api.jobs and api.writes == ["POST", "DELETE"]
    assert "deleted" in output


def test_without_settings_the_step_trains_in_its_own_pod():
    assert train_job.train("", "train-generator", {}, configs.load(), Path("out"), here=lambda: {"loss": 1.0}) == {
        "loss": 1.0
    }


def test_local_folders_are_refused_before_anything_is_submitted(tmp_path):
    flags = {"dataset": "/data/d", "damsm": "gs://b/e", "out": "gs://b/generator"}
    with pytest.raises(InputError, match=r"share their folders in cloud storage, found dataset /data/d;"):
        train_job.train(SETTINGS, "train-generator", flags, configs.load(), tmp_path / "generator", here=dict)


@pytest.mark.parametrize(
    ("file", "text", "figures"),
    [
        ("metrics.jsonl", '{"step": 1, "kl": 3.0}\n{"step": 2, "kl": 2.0}\n', {"kl": 2.0}),
        ("retrieval.json", '{"epoch": 3.0, "recall_at_1": 0.5}', {"epoch": 3.0, "recall_at_1": 0.5}),
    ],
)
def test_the_result_of_the_nodes_is_fetched_with_its_figures(api, bucket, tmp_path, file, text, figures):
    (tmp_path / file).write_text(text)
    places.send(tmp_path / file, f"gs://pictures/run/generator/{file}")
    flags = {"inception-weights": "", "dataset": "gs://b/dataset", "out": "gs://pictures/run/generator"}
    config = configs.load(overrides=["seed=7", "training={epochs: 3}"])
    out = tmp_path / "generator"
    assert train_job.train(SETTINGS, "train-generator", flags, config, out, here=dict) == figures
    assert (out / file).read_text() == text
    ((_, _, request),) = [one for one in api.requests if one[0] == "POST"]
    folders = ["--dataset", "gs://b/dataset", "--out", "gs://pictures/run/generator"]
    command = ["torchrun", "-m", "attngan", "train-generator", *folders, "--set", "seed=7"]
    assert request["body"]["spec"]["trainer"]["command"] == [
        *(*command, "--set", "training={epochs: 3}", "--set", "device=cuda"),
    ]


def start_step_pod(api, monkeypatch, name):
    for variable, value in api.start_step_pod(name).items():
        monkeypatch.setenv(variable, value)


def owners(api):
    (job,) = api.jobs.values()
    return job["metadata"].get("ownerReferences")


def test_a_job_belongs_to_the_steps_pod_and_goes_when_that_is_deleted(api, monkeypatch):
    start_step_pod(api, monkeypatch, "attngan-x7k2p-1")
    run()
    (owner,) = owners(api)
    assert owner == {"apiVersion": "v1", "kind": "Pod", "name": "attngan-x7k2p-1", "uid": os.environ["KFP_POD_UID"]}
    assert "ownerReferences" not in made()["metadata"]  # the name does not follow from it: a retry finds the job
    api.delete_step_pod("attngan-x7k2p-1")
    assert not api.jobs


def test_outside_of_a_steps_pod_a_job_belongs_to_nobody(api, monkeypatch):
    monkeypatch.setenv("KFP_POD_NAME", "attngan-x7k2p-1")
    monkeypatch.delenv("KFP_POD_UID", raising=False)
    run()
    assert owners(api) is None


def stopped(api, monkeypatch):
    """Submit a job in a pod that is stopped then, as a cluster does: not one line more of ours runs."""
    start_step_pod(api, monkeypatch, "attngan-x7k2p-1")
    train_job_cluster.Cluster().create(made())
    start_step_pod(api, monkeypatch, "attngan-x7k2p-2")
    api.requests.clear()


def test_the_next_attempt_takes_over_the_job_of_a_pod_that_was_stopped(api, monkeypatch):
    stopped(api, monkeypatch)
    api.script = [[], [], [condition("Complete")]]
    before = ["attngan-x7k2p-1"]  # whose pod "retry run" deletes, perhaps only now
    monkeypatch.setattr(train_job_cluster.Nodes, "tell", lambda self: before and api.delete_step_pod(before.pop()))
    run()
    assert api.writes == ["PATCH"] and not before
    assert [owner["name"] for owner in owners(api)] == ["attngan-x7k2p-2"]


def test_a_job_that_may_not_be_taken_over_is_replaced_and_only_that_one(api, monkeypatch, capsys):
    stopped(api, monkeypatch)
    api.refusals["PATCH", "/trainjobs"] = (403, "trainjobs is forbidden")
    api.script, api.lingering = [[], [condition("Complete")]], 2
    before = next(iter(api.jobs.values()))["metadata"]["uid"]
    run()
    assert api.writes == ["PATCH", "DELETE", "POST"]
    ((_, _, request),) = [one for one in api.requests if one[0] == "DELETE"]
    assert request["body"]["preconditions"] == {"uid": before}
    assert [owner["name"] for owner in owners(api)] == ["attngan-x7k2p-2"]
    assert "to take it over is not allowed" in capsys.readouterr().out


def test_a_job_that_was_replaced_meanwhile_is_neither_taken_over_nor_deleted(api, monkeypatch):
    stopped(api, monkeypatch)
    cluster, name = train_job_cluster.Cluster(), made()["metadata"]["name"]
    found = cluster.find(name)
    api.jobs.clear()
    assert cluster.create(made())
    assert not cluster.take_over(found)
    cluster.delete(found)
    assert cluster.find(name)["metadata"]["uid"] != found["metadata"]["uid"]


def test_half_an_owner_is_refused_as_the_real_api_does(api, monkeypatch):
    cluster = train_job_cluster.Cluster()
    cluster._owner = {"apiVersion": "v1", "kind": "Pod", "name": "attngan-x7k2p-1", "uid": ""}
    with pytest.raises(InputError, match="uid: must not be empty"):
        cluster.create(made())
