"""Training that is killed again and again, also inside a save, ends with the weights of one that never was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import Command

from attngan.config import settings as configs
from attngan.steps.train_generator import train_generator
from attngan.storage import artifacts

pytestmark = pytest.mark.slow

KILLS = 20
LONGEST_WAIT = 0.1  # seconds before a kill, some steps: all kills together must come before the training ends
PATIENCE_SECONDS = 400  # other work may be on the machine


@pytest.fixture(scope="module")
def settings(smoke):
    """Give the smallest training, long enough to be killed often, with its state saved at every step."""
    changed = {"epochs": 20, "checkpoint_every_seconds": 0.0}
    watch = smoke.watch.model_copy(update={"every_epochs": 5.0})
    return smoke.model_copy(update={"training": smoke.training.model_copy(update=changed), "watch": watch})


@pytest.fixture
def command(dataset, damsm, settings, tmp_path):
    """Give the step as a command line, without the folder of its state."""
    (tmp_path / "config.yaml").write_text(configs.dump(settings))
    flags = {"--dataset": dataset, "--damsm": damsm, "--out": tmp_path / "out", "--config": tmp_path / "config.yaml"}
    arguments = [str(part) for pair in flags.items() for part in pair]
    return [sys.executable, "-m", "attngan", "train-generator", *arguments, "--state"]


def digest(folder):
    return artifacts.check(folder, "generator", contents=True)["files"]["generator.safetensors"]["sha256"]


@pytest.fixture(scope="module")
def uninterrupted(dataset, damsm, settings, made_once):
    """Give the digest of the weights of a run that nobody killed."""
    return digest(made_once("uninterrupted", lambda whole: train_generator(dataset, damsm, whole, settings)))


def start(command, output):
    process = Command(command[command.index("attngan") + 1 :], output)
    said = process.wait_for_line("generator: ", PATIENCE_SECONDS)
    assert "generator: " in said and process.status is None, said
    return process


def wait_for(condition, process):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition() and process.status is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill(process):
    """Kill a run that must still be at work."""
    assert process.status is None, process.said
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def finish(command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    last = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stdout + last.stderr
    assert "goes on after step" in last.stdout


def test_twenty_kills_with_the_state_in_a_folder(command, uninterrupted, tmp_path):
    dice = random.Random(5)
    state = tmp_path / "state"
    inside = 0

    def pointer():
        return [path.read_text() for path in state.glob("*/latest.json")]

    for number in range(KILLS):
        before = pointer()
        process = start([*command, str(state)], tmp_path / "said")
        wait_for(lambda before=before: pointer() != before, process)  # it has got on
        time.sleep(dice.uniform(0, LONGEST_WAIT))
        if number % 2:
            wait_for(lambda: list(state.glob("*/.step-*.part")), process)
        kill(process)
        inside += bool(list(state.glob("*/.step-*.part")))
    assert inside > 0, "no kill came inside a save"
    finish([*command, str(state)])
    assert digest(tmp_path / "out") == uninterrupted


def test_twenty_kills_with_the_state_in_the_cloud(command, uninterrupted, storage_server, bucket, tmp_path):
    dice = random.Random(6)
    moments = {
        "sending the state": lambda method, path: method == "POST" and "ifGenerationMatch" not in path,
        "moving the pointer": lambda method, path: method == "POST" and "ifGenerationMatch" in path,
        "removing an old state": lambda method, path: method == "DELETE",
    }
    killed_while = []

    def pointer():
        return [blob.generation for blob in bucket.list_blobs() if blob.name.endswith("latest.json")]

    for number in range(KILLS):
        storage_server.choose_fault = lambda *_: None
        before = pointer()
        process = start([*command, "gs://pictures/state"], tmp_path / "said")
        wait_for(lambda before=before: pointer() != before, process)
        time.sleep(dice.uniform(0, LONGEST_WAIT))
        name = [None, *moments][number % 4]
        if name is not None:
            reached = []

            def choose(method, path, _, name=name, reached=reached, process=process):
                if moments[name](method, path) and not reached:
                    process.send_signal(signal.SIGKILL)
                    reached.append(name)
                return dice.choice([None, "reset"]) if reached else None  # the request of a dead client may arrive

            storage_server.choose_fault = choose
            wait_for(lambda reached=reached: reached, process)
            assert process.wait() == -signal.SIGKILL
            killed_while += reached
        else:
            kill(process)
    assert set(killed_while) == set(moments)
    storage_server.choose_fault = lambda *_: None
    finish([*command, "gs://pictures/state"])
    assert digest(tmp_path / "out") == uninterrupted
    left = [blob.name for blob in bucket.list_blobs() if blob.name.endswith(".pt")]
    assert len(left) == 2, left


@pytest.mark.parametrize("state", ["folder", "gs://pictures/state"])
def test_of_two_runs_on_one_key_one_stops_with_a_sentence_and_the_other_ends_as_if_alone(
    state, command, uninterrupted, bucket, tmp_path
):
    where = state if state.startswith("gs://") else str(tmp_path / state)
    outs = [tmp_path / name for name in ("first", "second")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    runs = [
        subprocess.Popen([*command, where, "--out", str(out)], env=environment, text=True, **streams) for out in outs
    ]
    ended = [(run.communicate(timeout=PATIENCE_SECONDS)[0], run.returncode) for run in runs]
    assert sorted(status for _, status in ended) == [0, 2], ended
    for out, (said, status) in zip(outs, ended, strict=True):
        if status == 0:
            assert digest(out) == uninterrupted
        else:
            assert "another run of the same settings and data saves its state here" in said
            assert "Traceback" not in said


def test_a_result_in_the_cloud_made_from_the_cloud_is_that_of_local_folders(dataset, damsm, smoke, generator, bucket):
    """The step as a pod would run it by itself: every folder is gs://, the state too."""
    from attngan.storage import delivery, places

    delivery.deliver(dataset, "gs://pictures/dataset")
    delivery.deliver(damsm, "gs://pictures/damsm")
    config = Path(generator).parent / "cloud.yaml"
    config.write_text(configs.dump(smoke))
    flags = ["--dataset", "gs://pictures/dataset", "--damsm", "gs://pictures/damsm", "--out", "gs://pictures/generator"]
    command = [sys.executable, "-m", "attngan", "train-generator", *flags, "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    with places.local_input("gs://pictures/generator") as folder:
        assert digest(folder) == digest(generator)
    assert any(name.endswith("latest.json") for name in places.names("gs://pictures/generator.state"))
