"""What the logs of a run's steps say, here and in cloud storage, and what keeps them from us."""

import ast
import errno
import signal
import time
from pathlib import Path

import pytest

import attngan
from attngan.errors import InputError, TransientError
from attngan.runtime import exit_status, launcher
from attngan.storage import cloud, places, step_logs
from attngan.storage.step_logs import Reason, StepLogs

STEP = "train-generator"
BEFORE = "step 100, loss 0.5\nTraceback (most recent call last):\n"


def put(root, name, text):
    uri = f"{root}/{STEP}/{name}"
    places.write(uri, text.encode() if isinstance(text, str) else text, generation=places.read(uri)[1])


def wait_a_tick(root):
    """Wait until what is written has a later time; S3 counts in seconds."""
    time.sleep(1.05 if root.startswith("s3") else 0.01)


def reason(root):
    return StepLogs(root).reasons([STEP])[STEP]


def test_the_last_sentence_is_the_reason(root):
    put(root, "1f0e/executor-logs-0", f"attngan: a note.\n{BEFORE}attngan: training.epochs: raise it.\nbye\n")
    assert reason(root) == Reason("training.epochs: raise it.", True)


def test_of_several_attempts_the_newest_counts_whatever_its_number(root):
    """A retry of the run counts from 0 again, and a new driver has a new folder."""
    put(root, "1f0e/executor-logs-10", "attngan: the first.")
    wait_a_tick(root)
    put(root, "1f0e/executor-logs-2", "attngan: the second.")
    assert reason(root).text == "the second."
    wait_a_tick(root)
    put(root, "9abc/executor-logs-0", "attngan: the third.")
    assert reason(root).text == "the third."


def test_of_attempts_written_at_once_the_last_counts(root, monkeypatch):
    monkeypatch.setattr(places, "modified", lambda _: 1.0)
    for number in (9, 10, 2):
        put(root, f"1f0e/executor-logs-{number}", f"attngan: number {number}.")
    assert reason(root).text == "number 10."


def test_a_server_that_does_not_number_its_logs_is_understood(root):
    put(root, "1f0e/executor-logs", "attngan: old.")
    assert reason(root) == Reason("old.", True)


def test_only_logs_of_the_step_itself_are_read(root):
    put(root, "1f0e/gallery/executor-logs-0", "attngan: no log.")
    put(root, "1f0e/executor-logs-0.txt", "attngan: no log.")
    places.write(f"{root}/evaluate/1f0e/executor-logs-0", b"attngan: another's.", generation=0)
    assert reason(root) == Reason(f"its log below {root}/{STEP} is missing: its pod was lost, or never started.", False)


def test_a_log_without_a_sentence_shows_its_last_line(root):
    put(root, "1f0e/executor-logs-0", f"{BEFORE}RuntimeError: CUDA error: uncorrectable ECC error\n\n")
    found = reason(root)
    assert not found.is_mistake
    last = "RuntimeError: CUDA error: uncorrectable ECC error"
    assert found.text.endswith(f"/executor-logs-0 has no sentence of attngan; its last line is: {last}")
    put(root, "1f0e/executor-logs-0", b"")
    assert reason(root).text.endswith("it is empty")


def test_bytes_that_are_no_text_and_lines_that_never_end_are_borne(root):
    put(root, "1f0e/executor-logs-0", b"\xff\xfe\rattngan: \x1b[31m" + b"x" * 9000)
    found = reason(root)
    assert found.is_mistake and found.text.isprintable() and len(found.text) < 500


def test_logs_of_an_attempt_before_count_no_more(root):
    put(root, "1f0e/executor-logs-0", "attngan: raise it.")
    logs = StepLogs(root)
    logs.remember([STEP])
    assert "is missing" in logs.reasons([STEP])[STEP].text
    wait_a_tick(root)
    put(root, "1f0e/executor-logs-0", "attngan: raise it once more.")
    assert logs.reasons([STEP])[STEP] == Reason("raise it once more.", True)


def test_every_step_has_its_own_reason(root):
    put(root, "1f0e/executor-logs-0", "attngan: raise it.")
    found = StepLogs(root).reasons(["evaluate", STEP])
    assert [found["evaluate"].is_mistake, found[STEP].is_mistake] == [False, True]


def said(capsys, end):
    with pytest.raises(SystemExit):
        end()
    return capsys.readouterr().err


def out_of_memory():
    launcher._judged([("", None), ("", None)], {1: -signal.SIGKILL}, [])


def lost_node():
    from attngan.training import train_job

    nodes = type("Nodes", (), {"tell": lambda _: None, "tail": ["step 1"], "summary": "node 1 is gone"})()
    train_job._fail("attngan-1f0e", {"reason": "JobsFailed"}, nodes)


def interrupted():
    with exit_status.reported():
        raise exit_status.Terminated


def stopped():
    with exit_status.reported():
        raise SystemExit(exit_status.TERMINATED)


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (out_of_memory, "process 1 of 2 was ended by SIGKILL"),
        (lost_node, "TrainJob attngan-1f0e failed (JobsFailed); node 1 is gone"),
        (interrupted, "interrupted;"),
        (stopped, "stopped;"),
    ],
)
def test_what_attngan_says_of_lost_memory_and_nodes_is_no_mistake(tmp_path, capsys, end, text):
    put(tmp_path, "1f0e/executor-logs-0", said(capsys, end))
    found = reason(str(tmp_path))
    assert found.text.startswith(text) and not found.is_mistake


def test_what_attngan_says_of_a_mistake_is_one(tmp_path, capsys):
    def refuse():
        with exit_status.reported():
            raise InputError("training.batch_size: lower it.")

    put(tmp_path, "1f0e/executor-logs-0", said(capsys, refuse))
    assert reason(str(tmp_path)) == Reason("training.batch_size: lower it.", True)


def test_a_mistake_that_the_first_of_several_nodes_names_is_a_mistake(tmp_path, capsys):
    log = f"node 0 | attngan: training.epochs: raise it.\n{said(capsys, lost_node)}"
    put(tmp_path, "1f0e/executor-logs-0", log)
    assert reason(str(tmp_path)) == Reason("training.epochs: raise it.", True)


def test_what_may_pass_on_the_first_of_several_nodes_is_the_reason_that_they_were_given_up(tmp_path, capsys):
    log = f"node 0 | attngan: {exit_status.MAY_PASS}gs://b/x: no answer.\n{said(capsys, lost_node)}"
    put(tmp_path, "1f0e/executor-logs-0", log)
    assert reason(str(tmp_path)) == Reason(f"{exit_status.MAY_PASS}gs://b/x: no answer.", False)


def test_storage_that_was_waited_for_is_no_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cloud, "_TOLD", set())
    cloud.tell_away("storage.googleapis.com", time.monotonic() - cloud.PATIENCE_SECONDS)
    waited = capsys.readouterr().err
    assert "does not answer" in waited
    put(tmp_path, "1f0e/executor-logs-0", f"{waited}step 100, loss 0.5\nKilled\n")
    found = reason(str(tmp_path))
    assert not found.is_mistake and found.text.endswith("its last line is: Killed")


@pytest.mark.parametrize(
    ("error", "is_mistake"),
    [
        (InputError("training.batch_size: lower it."), True),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), True),
        (cloud.fault("away", "gs://birds/data", "503"), False),
        (TransientError("device: cuda cannot be used here."), False),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), False),
    ],
)
@pytest.mark.parametrize(("of", "variable"), [("", "KFP_POD_NAME"), ("node 0 | ", "PET_NNODES")])
def test_in_a_pod_the_log_tells_a_mistake_from_what_may_pass(
    error, is_mistake, of, variable, tmp_path, capsys, monkeypatch
):
    """As `errors.is_lasting` does, by which the cluster's own tries go."""

    def refuse():
        with exit_status.reported():
            raise error

    here = said(capsys, refuse)
    monkeypatch.setenv(variable, "2")
    in_a_pod = said(capsys, refuse)
    assert here == in_a_pod.replace(exit_status.MAY_PASS, "")
    put(tmp_path, "1f0e/executor-logs-0", f"{of}{in_a_pod}")
    assert reason(str(tmp_path)) == Reason(in_a_pod.removeprefix("attngan: ").rstrip(), is_mistake)


def test_only_what_ends_a_step_is_written_as_a_sentence_of_attngan():
    """A note that began like one would be taken for the reason of whatever ends the step later."""
    root = Path(attngan.__file__).parent
    writers = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and str(node.value).startswith("attngan: ")
    }
    assert writers == {"runtime/exit_status.py", "runtime/launcher.py", "training/train_job.py"}


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("", "its log cannot be read here: the API does not tell the run's pipeline root."),
        (
            "minio://birds/runs/attngan/1",
            "its log below minio://birds/runs/attngan/1/train-generator cannot be read here: minio:",
        ),
        ("gs://absent/runs/attngan/1", "its log below gs://absent/runs/attngan/1/train-generator cannot be read here"),
    ],
)
def test_a_log_that_cannot_be_read_is_said_to_be_so(storage_server, monkeypatch, folder, why):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    found = StepLogs(folder).reasons([STEP])[STEP]
    assert found.text.startswith(why) and not found.is_mistake


def test_a_storage_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(step_logs, "SECONDS", 0.05)
    monkeypatch.setattr(places, "names", lambda _: time.sleep(5))
    start = time.monotonic()
    logs = StepLogs("gs://birds/runs/attngan/1")
    logs.remember([STEP])
    assert "no answer in time" in logs.reasons([STEP])[STEP].text
    assert time.monotonic() - start < 2


def test_a_fault_of_the_storage_library_hides_nothing(monkeypatch, capsys):
    def broken(_):
        raise RuntimeError("boom\nsecond line")

    monkeypatch.setattr(places, "names", broken)
    logs = StepLogs("gs://birds/runs/attngan/1")
    logs.remember([STEP])
    assert logs.reasons([STEP])[STEP].text.endswith("cannot be read here: boom")
    assert capsys.readouterr().err == ""
