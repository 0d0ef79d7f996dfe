"""How runs ended, from what their steps left as logs: here, and in cloud storage."""

import time

import pytest
import run_logs
from run_logs import done, put

from attngan.storage import places, run_ending
from attngan.storage.champion import ModelFolder
from attngan.storage.run_ending import Ending

FAILED = f"{run_logs.BEGUN}step 100, loss 0.5\nattngan: training.batch_size: lower it.\n"
LOST = "its pod was lost, or never started, or the run was terminated."


def ending(root, *, has_succeeded=False) -> Ending:
    return run_ending.ending_of(root, has_succeeded=has_succeeded)


def test_the_step_that_decides_says_what_became_of_the_model(root):
    put(root, "detect-changes", done("training: no model was trained for gs://birds/models yet"))
    put(root, "publish", done(run_logs.KEPT))
    assert ending(root) == Ending("kept", run_logs.KEPT)
    put(root, "publish", done(run_logs.PROMOTED))
    assert ending(root) == Ending("promoted", run_logs.PROMOTED)


@pytest.mark.parametrize("said", ["promoted by force: kid 0.08, the champion has 0.0713", run_logs.PROMOTED])
def test_every_promotion_is_one(tmp_path, said):
    put(str(tmp_path), "publish", done(said))
    assert ending(str(tmp_path)) == Ending("promoted", said)


def test_a_run_that_found_nothing_new_says_so(root):
    put(root, "detect-changes", done(run_logs.NOTHING_NEW))
    assert ending(root, has_succeeded=True) == Ending("nothing new", run_logs.NOTHING_NEW)


def test_the_last_step_that_left_a_log_is_the_one_that_failed(root):
    put(root, "preprocess", done())
    put(root, "train-generator", FAILED)
    assert ending(root) == Ending("failed", "training.batch_size: lower it.", "train-generator")
    assert ending(root).title == "failed at train-generator"


def test_of_a_sweep_the_step_that_failed_is_told_too(root):
    for step in ("detect-changes", "preprocess", "sweep-encoders"):
        put(root, step, done())
    assert ending(root).reason == f"the step after sweep-encoders left no log: {LOST}"
    put(root, "sweep-member", done())
    put(root, "sweep-table", f"{run_logs.BEGUN}attngan: no member of the sweep is done; of seed=1: lower it.\n")
    assert ending(root) == Ending("failed", "no member of the sweep is done; of seed=1: lower it.", "sweep-table")


def test_a_decision_that_a_step_said_before_it_failed_is_none(tmp_path):
    root = str(tmp_path)
    put(root, "publish", f"{run_logs.BEGUN}{run_logs.PROMOTED}\nTraceback (most recent call last):\nKeyError: 'x'\n")
    found = ending(root)
    assert (found.verdict, found.step) == ("failed", "publish")
    assert found.reason.endswith("its last line is: KeyError: 'x'")


def test_of_several_attempts_the_last_counts(tmp_path):
    root = str(tmp_path)
    put(root, "train-generator", FAILED)
    time.sleep(0.01)
    put(root, "train-generator", done(), name="executor-logs-1")
    put(root, "publish", done(run_logs.PROMOTED))
    assert ending(root).verdict == "promoted"


def test_a_step_that_left_no_log_is_told_by_the_one_before(root):
    put(root, "pretrain-damsm", done())
    assert ending(root) == Ending("failed", f"the step after pretrain-damsm left no log: {LOST}")


def test_a_run_without_logs_says_so(root):
    assert ending(root) == Ending("failed", f"no step left a log below {root}: {LOST}")
    assert ending(root, has_succeeded=True) == Ending("succeeded")


def test_only_logs_of_steps_are_looked_at(tmp_path):
    root = str(tmp_path)
    put(root, "publish", done(run_logs.PROMOTED), name="bundle/executor-logs-0")
    put(root, "notify", done("no notice was sent"))
    assert ending(root).reason.startswith("no step left a log")


def test_storage_that_cannot_be_read_leaves_what_kubeflow_says(storage_server):
    found = ending("gs://absent/runs/attngan/1", has_succeeded=True)
    assert found.verdict == "succeeded"
    assert found.reason.startswith("its logs below gs://absent/runs/attngan/1 cannot be read here: ")


def test_storage_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(run_ending, "SECONDS", 0.05)
    monkeypatch.setattr(places, "names", lambda _: time.sleep(5))
    start = time.monotonic()
    assert ending("gs://birds/runs/attngan/1").reason.endswith("cannot be read here: no answer in time.")
    assert time.monotonic() - start < 2


def test_what_a_log_says_is_shown_within_bounds(tmp_path):
    put(str(tmp_path), "publish", done("promoted: " + "\x1b[31mx" * 9000))
    assert ending(str(tmp_path)).reason.isprintable() and len(ending(str(tmp_path)).reason) < 2000


def remember(model_uri, reason, **figures):
    ModelFolder(model_uri).remember({"promoted": True, "reason": reason, "origin": None, **figures})


def test_the_figures_of_a_decision_are_found_by_its_reason(root):
    remember(root, run_logs.PROMOTED, metric="kid", challenger=0.05123, champion=0.07131)
    remember(root, run_logs.KEPT, metric="kid", challenger=0.08, champion=0.0713)
    assert run_ending.figures_of(root, run_logs.PROMOTED) == {
        "metric": "kid",
        "challenger": 0.05123,
        "champion": 0.07131,
    }
    assert run_ending.figures_of(root, "promoted: another") == {}
