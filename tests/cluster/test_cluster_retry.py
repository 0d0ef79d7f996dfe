"""Runs that fail: why, as their logs tell, and whether and how they are retried."""

import signal
import threading

import cluster_cli
import pytest

pytest.importorskip("kfp")

from attngan.storage.step_logs import StepLogs
from components.cluster import commands, follow

ROOT = "gs://pictures/runs"
BEFORE = {"detect-changes": "SUCCEEDED", "preprocess": "SUCCEEDED"}
FAILED = BEFORE | {"pretrain-damsm": "FAILED"}
DONE = dict.fromkeys(
    ["detect-changes", "preprocess", "pretrain-damsm", "train-generator", "evaluate", "export-samples", "publish"],
    "SUCCEEDED",
)
MISTAKE = {"pretrain-damsm": "step 1\nattngan: damsm.batch_size: a batch of 512 does not fit; lower it.\n"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(follow, "POLL_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(follow, "REFUSED_SECONDS", 5.0)


def submit(cluster, *flags):
    return cluster_cli.run(
        "submit", "--host", cluster.host, *cluster_cli.WORK, "--pipeline-root", ROOT, "--wait", *flags
    )


def retry(cluster, run_id, *flags):
    return cluster_cli.run("retry", run_id, "--host", cluster.host, *flags)


def retries(cluster):
    return sum(write.endswith(":retry") for write in cluster.state.writes)


def rows(ended):
    """Return the table that following ends with: the last words on each step."""
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in ended.out.splitlines() if line[:1].islower()}


def test_the_step_that_failed_says_why_and_those_after_it_did_not_run(cluster, bucket):
    cluster.state.script = [("RUNNING", BEFORE), ("FAILED", BEFORE | {"pretrain-damsm": "RUNNING"}), ("FAILED", FAILED)]
    cluster.state.logs = [MISTAKE]
    ended = submit(cluster)
    assert ended.status == 1, ended
    last = rows(ended)
    assert last["pretrain-damsm"] == "FAILED      0:01:05  damsm.batch_size: a batch of 512 does not fit; lower it."
    assert last["preprocess"].startswith("SUCCEEDED")
    assert [last[name] for name in ("train-generator", "evaluate", "export-samples", "publish")] == ["not run"] * 4
    assert "attngan: the run ended as FAILED at pretrain-damsm; its logs: http" in ended.err


def test_a_mistake_is_not_retried(cluster, bucket):
    cluster.state.script, cluster.state.logs = [("FAILED", FAILED)], [MISTAKE]
    assert submit(cluster, "--retries", "5").status == 1
    assert retries(cluster) == 0


@pytest.mark.parametrize(
    "log",
    [
        {},
        {"pretrain-damsm": "step 1\nattngan: process 1 of 2 was ended by SIGKILL, as when memory runs out; again.\n"},
        {"pretrain-damsm": "step 1\nRuntimeError: CUDA error: uncorrectable ECC error encountered\n"},
        {"pretrain-damsm": "attngan: this may pass: gs://b/x: cloud storage does not answer (503); run it again.\n"},
    ],
    ids=["no log", "out of memory", "no sentence", "may pass"],
)
def test_a_lost_node_is_retried_and_the_run_followed_to_its_end(cluster, bucket, log):
    cluster.state.script, cluster.state.logs = [("FAILED", FAILED)], [log]
    cluster.state.attempts = [[("RUNNING", FAILED), ("RUNNING", BEFORE), ("SUCCEEDED", DONE)]]
    ended = submit(cluster)
    assert ended.status == 0, ended
    assert retries(cluster) == 1
    assert (
        f"no step names a mistake that would be made again; the run is retried (1 of {commands.RETRIES})" in ended.out
    )
    assert ended.out.endswith("the run SUCCEEDED\n")


def test_a_driver_that_failed_is_retried(cluster, bucket):
    cluster.state.script = [("FAILED", BEFORE | {"pretrain-damsm-driver": "FAILED"})]
    cluster.state.attempts = [[("SUCCEEDED", DONE)]]
    ended = submit(cluster)
    assert ended.status == 0, ended
    assert "its driver failed; its log below gs://pictures/runs/attngan/" in ended.out


@pytest.mark.parametrize("most", [0, 2])
def test_a_node_that_is_lost_again_and_again_is_given_up(cluster, bucket, most):
    cluster.state.script = [("FAILED", FAILED)]
    cluster.state.attempts = [[("RUNNING", BEFORE), ("FAILED", FAILED)] for _ in range(5)]
    ended = submit(cluster, "--retries", str(most))
    assert ended.status == 1
    assert retries(cluster) == most
    assert "is missing: its pod was lost, or never started." in rows(ended)["pretrain-damsm"]


def test_a_log_of_the_attempt_before_is_not_taken_for_the_new_one(cluster, bucket):
    """The first attempt ends by a mistake, is retried by hand, and the second is lost with its node."""
    cluster.state.script, cluster.state.logs = [("FAILED", FAILED)], [MISTAKE]
    submit(cluster)
    run_id = cluster.state.only("runs")["run_id"]
    cluster.state.attempts = [[("RUNNING", BEFORE), ("FAILED", FAILED)], [("RUNNING", BEFORE), ("SUCCEEDED", DONE)]]
    ended = retry(cluster, run_id, "--wait")
    assert ended.status == 0, ended
    assert retries(cluster) == 2


def test_a_log_of_the_try_before_is_no_reason_of_the_next(cluster, bucket):
    log = "attngan: process 1 of 2 was ended by SIGKILL, as when memory runs out; again.\n"
    cluster.state.script, cluster.state.logs = [("FAILED", FAILED)], [{"pretrain-damsm": log}]
    cluster.state.attempts = [[("RUNNING", BEFORE), ("FAILED", FAILED)]]
    ended = submit(cluster, "--retries", "1")
    assert "was ended by SIGKILL" in ended.out
    assert "is missing: its pod was lost" in rows(ended)["pretrain-damsm"]


def test_a_mistake_that_is_made_again_is_seen_again(cluster, bucket):
    cluster.state.script, cluster.state.logs = [("FAILED", FAILED)], [MISTAKE, MISTAKE]
    submit(cluster)
    cluster.state.attempts = [[("RUNNING", BEFORE), ("FAILED", FAILED)]]
    ended = retry(cluster, cluster.state.only("runs")["run_id"], "--wait")
    assert ended.status == 1
    assert "does not fit; lower it." in rows(ended)["pretrain-damsm"]
    assert retries(cluster) == 1


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_run_that_somebody_terminated_is_not_retried(cluster, bucket, is_seen, monkeypatch):
    """Real: such a run ends as FAILED, and its pods leave no logs. That it was cancelled is seen, or in its history."""
    from components.cluster import outcome

    monkeypatch.setattr(outcome, "was_terminated", lambda run: run.state == "FAILED" and not is_seen)
    cluster.state.script = [("RUNNING", BEFORE), *([("CANCELING", BEFORE)] if is_seen else []), ("FAILED", FAILED)]
    ended = submit(cluster)
    assert ended.status == 1
    assert retries(cluster) == 0
    assert "the run was terminated, and ended as FAILED; its logs: http" in ended.err


def test_without_the_bucket_the_failure_is_said_all_the_same(cluster, storage_server):
    cluster.state.script = [("FAILED", FAILED)]
    ended = submit(cluster, "--retries", "0")
    assert ended.status == 1
    assert "FAILED      0:01:05  its log below gs://pictures/runs/attngan/" in ended.out
    assert "/pretrain-damsm cannot be read here: gs://pictures/" in ended.out
    assert "the run ended as FAILED at pretrain-damsm" in ended.err


def test_a_retry_that_is_refused_ends_with_the_failure(cluster, bucket):
    cluster.state.script = [("FAILED", FAILED)]
    cluster.state.refusal = 409
    ended = submit(cluster)
    assert ended.status == 1
    assert "not retried: http" in ended.out and "Workflow must be Failed/Error to retry" in ended.out
    assert "the run ended as FAILED" in ended.err


def test_a_retry_that_the_server_cannot_take_yet_is_asked_for_again(cluster, bucket):
    """By its source it answers 500 while a pod of the attempt before has not ended."""
    cluster.state.script, cluster.state.attempts = [("FAILED", FAILED)], [[("SUCCEEDED", DONE)]]
    cluster.state.busy = 2
    assert submit(cluster).status == 0
    assert retries(cluster) == 3


def test_a_server_that_never_takes_the_retry_is_given_up(cluster, bucket, monkeypatch):
    monkeypatch.setattr(follow, "REFUSED_SECONDS", 0.1)
    cluster.state.script, cluster.state.busy = [("FAILED", FAILED)], 10**6
    ended = submit(cluster)
    assert ended.status == 1
    assert "not retried: http" in ended.out


def test_a_retry_whose_answer_was_lost_is_not_asked_for_again(cluster, bucket, monkeypatch):
    from components.cluster import runs

    ask = runs.retry

    def answer_lost(client, run, connection):
        from components.cluster.client import Unreachable

        ask(client, run, connection)
        raise Unreachable("the connection broke.")

    monkeypatch.setattr(runs, "retry", answer_lost)
    cluster.state.script, cluster.state.attempts = [("FAILED", FAILED)], [[("RUNNING", BEFORE), ("SUCCEEDED", DONE)]]
    ended = submit(cluster)
    assert ended.status == 0, ended
    assert retries(cluster) == 1


def failed_run(cluster, state="FAILED"):
    cluster.state.script = [(state, FAILED if state == "FAILED" else DONE)]
    submit(cluster, "--retries", "0")
    cluster.state.requests.clear()
    return cluster.state.only("runs")["run_id"]


def test_a_run_is_retried_by_hand(cluster, bucket):
    run_id = failed_run(cluster)
    cluster.state.attempts = [[("RUNNING", {})]]
    ended = retry(cluster, run_id)
    assert ended.status == 0, ended
    assert ended.out == f"run   {run_id}\nlink  {cluster.host}/#/runs/details/{run_id}\n"
    assert cluster.state.writes == [f"POST /apis/v2beta1/runs/{run_id}:retry"]


def test_a_run_that_succeeded_is_not_retried(cluster, bucket):
    run_id = failed_run(cluster, "SUCCEEDED")
    ended = retry(cluster, run_id)
    assert ended.status == 2
    assert ended.err == f"attngan: {run_id}: the run SUCCEEDED, so there is nothing to retry; submit another one.\n"
    assert cluster.state.writes == []


def test_a_run_that_is_running_is_not_retried(cluster, bucket):
    run_id = failed_run(cluster)
    cluster.state.script = [("RUNNING", BEFORE)]
    ended = retry(cluster, run_id)
    assert ended.status == 2
    assert f"{run_id}: expected a run that failed, found one that is RUNNING; wait for its end" in ended.err
    assert cluster.state.writes == []


@pytest.mark.parametrize("run_id", ["1f0e", "..", "a/b", "%41", ""])
def test_a_run_that_is_not_there_is_said_so(cluster, run_id):
    ended = retry(cluster, run_id)
    assert ended.status == 2
    assert ended.err.startswith(f"attngan: {run_id}: {cluster.host} knows no such run;") and ended.err.count("\n") == 1
    assert cluster.state.writes == []


def test_a_refused_retry_by_hand_says_what_the_server_says(cluster, bucket):
    run_id = failed_run(cluster)
    cluster.state.refusal = 409
    ended = retry(cluster, run_id)
    assert ended.status == 2
    assert "answered 409: Failed to retry run" in ended.err


def test_a_run_without_a_root_of_its_own_is_retried_and_followed(cluster):
    """A run that was made elsewhere may leave the root to the server, which does not tell it."""
    run_id = cluster.state.fire("none")
    cluster.state.tables["runs"][run_id]["state"] = "FAILED"
    cluster.state.script, cluster.state.attempts = [("FAILED", {})], [[("FAILED", FAILED)]]
    ended = retry(cluster, run_id, "--wait", "--retries", "0")
    assert ended.status == 1
    assert "its log cannot be read here: the API does not tell the run's pipeline root." in ended.out


@pytest.mark.parametrize("flag", ["--timeout", "--retries"])
def test_what_is_only_for_who_waits_is_refused_otherwise(cluster, flag):
    assert f"{flag}: expected with --wait" in retry(cluster, "1f0e", flag, "5").err
    assert f"{flag}: expected with --wait" in cluster_cli.run(
        "submit", "--host", cluster.host, *cluster_cli.WORK, flag, "5"
    ).err  # fmt: skip
    assert cluster.state.requests == []


def test_an_interruption_after_the_end_says_that_the_run_ended(cluster, monkeypatch):
    def interrupted(*_):
        signal.raise_signal(signal.SIGINT)
        threading.Event().wait(5)

    monkeypatch.setattr(StepLogs, "reasons", interrupted)
    cluster.state.script = [("FAILED", FAILED)]
    ended = submit(cluster)
    assert ended.status == 130
    assert "no longer following; the run ended as FAILED: http" in ended.err
