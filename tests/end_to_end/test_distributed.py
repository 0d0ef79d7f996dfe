"""Several processes that train together: how they start, save and end, and that they make what one process makes.

After all steps of the smallest training, in float32, tensors may differ by 2e-4 of their norm, of which 3e-6 was
measured, and 0.2 % of how far Adam can have taken them: a first bias is 0, and Adam makes a whole step of a gradient
that is mere rounding. `test_distributed_steps.py` is exact, in float64.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import pytest
import safetensors.torch
import saved_states
import torch
from typer.testing import CliRunner

from attngan import cli
from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.models.batch_norm import SynchronizedBatchNorm, synchronize_batch_norms_
from attngan.runtime import distributed, exit_status, launcher
from attngan.storage import artifacts, delivery, places

TOLERANCE = 2e-4
ADAMS_SHARE = 2e-3
GENERATOR_RATE = configs.load().training.generator_learning_rate
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def settings(smoke):
    """Give the smallest training: as in the paper, with batch norm in generator, discriminators and image encoder."""
    assert not smoke.discriminator.spectral_norm
    return smoke


def command(step, settings, folder, **flags):
    config = folder / f"{step}.yaml"
    config.write_text(configs.dump(settings), encoding="utf-8")
    pairs = [(f"--{name}", str(value)) for name, value in flags.items()]
    return [sys.executable, "-m", "attngan", step, "--config", str(config), *(text for pair in pairs for text in pair)]


def ran(arguments, num_processes=2):
    arguments = [*arguments, "--set", f"num_processes={num_processes}"]
    return subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def alone(dataset, damsm, settings, made_once) -> Path:
    """Give the generator that one process trains, and what it printed beside it."""

    def train(folder):
        folder.mkdir()
        flags = {"dataset": dataset, "damsm": damsm, "out": folder / "generator"}
        done = ran(command("train-generator", settings, folder, **flags), 1)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "printed").write_text(done.stdout, encoding="utf-8")

    return made_once("trained-alone", train)


def assert_alike(one: Path, two: Path, names, rate=GENERATOR_RATE):
    way = rate * json.loads((one / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    for name in names:
        first, second = (safetensors.torch.load_file(folder / f"{name}.safetensors") for folder in (one, two))
        assert first.keys() == second.keys()
        for key, tensor in first.items():
            difference = (second[key].double() - tensor.double()).norm()
            allowed = TOLERANCE * tensor.double().norm() + ADAMS_SHARE * way * tensor.numel() ** 0.5
            assert difference <= allowed, f"{name}: {key} differs by {difference}"


@pytest.mark.slow
def test_two_processes_train_the_generator_that_one_does(dataset, damsm, settings, alone, tmp_path):
    one, two = alone / "generator", tmp_path / "2"
    done = ran(command("train-generator", settings, tmp_path, dataset=dataset, damsm=damsm, out=two))
    assert done.returncode == 0, done.stdout + done.stderr
    for printed in ((alone / "printed").read_text(encoding="utf-8"), done.stdout):
        assert printed.count("starts from the beginning") == 1, printed
    artifacts.check(two, "generator", contents=True)
    assert_alike(one, two, ["generator"])
    rows = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (one, two)]
    for first, second in zip(*rows, strict=True):
        losses = {name for name in first if not name.startswith(("kid_", "r_precision", "variety"))}
        assert {name: second[name] for name in losses} == pytest.approx(
            {name: first[name] for name in losses}, rel=1e-4
        )
        assert second.keys() == first.keys()


@pytest.mark.slow
def test_two_processes_go_back_together(dataset, damsm, settings, tmp_path):
    """Learning rates so high that all breaks in the first step, and as they should be once they were lowered."""
    high = settings.training.model_copy(update={"generator_learning_rate": 1e9, "discriminator_learning_rate": 1e9})
    watch = settings.watch.model_copy(update={"learning_rate_factor": 1e-13})
    settings = settings.model_copy(update={"training": high, "watch": watch})
    done = ran(command("train-generator", settings, tmp_path, dataset=dataset, damsm=damsm, out=tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("back from step 2 to 0, with 1e-13 of the learning rate") == 1
    state = saved_states.newest(f"{tmp_path / 'out'}.state")
    assert state["attempt"] == 1 and all(tensor.isfinite().all() for tensor in state["generator"].values())


@pytest.mark.slow
def test_two_processes_train_the_encoders_that_one_does(dataset, settings, tmp_path):
    noisy = settings.image_encoder.model_copy(update={"noise": 0.1})
    settings = settings.model_copy(update={"image_encoder": noisy})
    for count in (1, 2):
        done = ran(command("pretrain-damsm", settings, tmp_path, dataset=dataset, out=tmp_path / str(count)), count)
        assert done.returncode == 0, done.stdout + done.stderr
    assert_alike(tmp_path / "1", tmp_path / "2", ["text_encoder", "image_encoder"], settings.damsm.learning_rate)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(dataset, damsm, settings, tmp_path):
    half = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 1})})
    more = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 2})})

    def trained(config, count, folder):
        folder.mkdir(exist_ok=True)
        flags = {"dataset": dataset, "damsm": damsm, "out": folder / "generator"}
        done = ran(command("train-generator", config, folder, **flags), count)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for first in (1, 2):
        trained(half, first, tmp_path / str(first))
    for first, second in ((1, 1), (2, 1), (1, 2)):
        shutil.copytree(tmp_path / str(first), tmp_path / f"{first}-{second}")
        assert "goes on after step" in trained(more, second, tmp_path / f"{first}-{second}")
    for other in ("2-1", "1-2"):
        assert_alike(tmp_path / "1-1" / "generator", tmp_path / other / "generator", ["generator"])


@pytest.mark.slow
def test_processes_that_a_torchrun_started_train_together(dataset, damsm, settings, alone, tmp_path):
    arguments = command("train-generator", settings, tmp_path, dataset=dataset, damsm=damsm, out=tmp_path / "2")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments[1:]]
    done = subprocess.run(torchrun, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_alike(alone / "generator", tmp_path / "2", ["generator"])


@pytest.mark.slow
def test_two_nodes_fetch_their_inputs_once_each_and_deliver_one_result(
    dataset, damsm, settings, alone, tmp_path, storage_server, bucket
):
    """Two agents with a process each, as a TrainJob starts them, every folder in the cloud."""
    delivery.deliver(dataset, "gs://pictures/dataset")
    delivery.deliver(damsm, "gs://pictures/damsm")
    storage_server.requests.clear()
    flags = {"dataset": "gs://pictures/dataset", "damsm": "gs://pictures/damsm", "out": "gs://pictures/generator"}
    arguments = command("train-generator", settings, tmp_path, **flags)[1:]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"--rdzv-endpoint=localhost:{free.getsockname()[1]}"
    rendezvous = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", endpoint]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *rendezvous, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    nodes = [subprocess.Popen(torchrun, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for node in nodes:
        assert node.wait(timeout=300) == 0, node.stderr.read()
    asked = [(method, unquote(path)) for method, path in storage_server.requests]
    assert sum("dataset/vocabulary.json" in path and "alt=media" in path for _, path in asked) == 2
    assert sum(method == "DELETE" and "/generator/manifest.json" in path for method, path in asked) == 1
    with places.local_input("gs://pictures/generator") as two:
        assert_alike(alone / "generator", two, ["generator"])


@pytest.mark.slow
def test_a_mistake_is_one_sentence_and_status_two(dataset, damsm, settings, tmp_path):
    (tmp_path / "broken").mkdir()
    arguments = command(
        "train-generator", settings, tmp_path, dataset=dataset, damsm=tmp_path / "broken", out=tmp_path / "out"
    )
    done = ran(arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("attngan: ") == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "no manifest.json" in done.stderr
    odd = ran(arguments, 3)
    assert odd.returncode == 2 and "cannot be shared out among 3 processes" in odd.stderr


def long_training(dataset, damsm, settings, tmp_path):
    changed = settings.training.model_copy(update={"epochs": 500, "checkpoint_every_seconds": 0.0})
    settings = settings.model_copy(update={"training": changed, "num_processes": 2})
    arguments = command("train-generator", settings, tmp_path, dataset=dataset, damsm=damsm, out=tmp_path / "out")
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out.state/*/latest.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    return process


def workers(process):
    """Return the processes that a step has started, by their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"attngan.runtime.distributed_worker" in words and str(process.pid).encode() in words:
            found.append(int(path.parent.name))
    return found


def assert_gone(process):
    deadline = time.monotonic() + 60
    while workers(process):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_processes_save_and_end(number, status, dataset, damsm, settings, tmp_path):
    process = long_training(dataset, damsm, settings, tmp_path)
    assert len(workers(process)) == 2
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, out + err
    assert "run the same command again to go on" in err and "Traceback" not in err
    assert_gone(process)


@pytest.mark.slow
def test_a_state_that_takes_its_time_is_saved_before_any_process_leaves(dataset, damsm, settings, tmp_path):
    (tmp_path / "slow").mkdir()
    slow = "import time, torch\nsave = torch.save\ntorch.save = lambda *a, **k: (time.sleep(4), save(*a, **k))\n"
    (tmp_path / "slow" / "sitecustomize.py").write_text(slow, encoding="utf-8")
    once = settings.training.model_copy(update={"epochs": 500, "checkpoint_every_seconds": 1e9})
    changed = settings.model_copy(update={"training": once, "num_processes": 2})
    arguments = command("train-generator", changed, tmp_path, dataset=dataset, damsm=damsm, out=tmp_path / "out")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path / "slow")}
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    assert next(line for line in process.stdout if line.startswith("generator: ")).startswith("generator: starts")
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143, process.stdout.read()
    assert saved_states.newest(tmp_path / "out.state")["step"] > 0


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_step_with_a_sentence(dataset, damsm, settings, tmp_path):
    process = long_training(dataset, damsm, settings, tmp_path)
    os.kill(max(workers(process)), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "of 2 was ended by SIGKILL" in err and "Traceback" not in err
    assert_gone(process)


@pytest.mark.slow
def test_a_process_that_is_told_to_stop_while_it_ends_says_nothing(dataset, damsm, settings, tmp_path):
    (tmp_path / "late").mkdir()
    late = (
        "import atexit, os, signal, sys\n"
        "if 'attngan.runtime.distributed_worker' in sys.orig_argv:\n"
        "    atexit.register(os.kill, os.getpid(), signal.SIGTERM)\n"
    )
    (tmp_path / "late" / "sitecustomize.py").write_text(late, encoding="utf-8")
    changed = settings.model_copy(update={"num_processes": 2})
    arguments = command("train-generator", changed, tmp_path, dataset=dataset, damsm=damsm, out=tmp_path / "out")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path / "late")}
    process = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0 and "Traceback" not in process.stderr, process.stderr


@pytest.mark.slow
def test_processes_do_not_outlive_the_step_that_started_them(dataset, damsm, settings, tmp_path):
    process = long_training(dataset, damsm, settings, tmp_path)
    process.kill()
    process.communicate()
    assert_gone(process)


def test_the_end_of_the_step_follows_from_the_ends_of_its_processes(capsys):
    done, bug, stopped = (launcher.DONE, {"loss": 1.0}), (launcher.BUG, "Traceback: x"), (launcher.STOPPED, None)
    mistake, nothing = (launcher.MISTAKE, "give another."), ("", None)
    judged = launcher._judged
    assert judged([done, done], {}, []) == {"loss": 1.0}
    with pytest.raises(InputError, match="give another"):
        judged([nothing, mistake], {0: -15, 1: 2}, [])
    with pytest.raises(RuntimeError, match="process 1 of 2 failed:\nTraceback: x"):
        judged([stopped, bug], {0: 143, 1: 1}, [])
    with pytest.raises(SystemExit) as stop:
        judged([bug, nothing], {0: 1, 1: -signal.SIGKILL}, [])
    assert stop.value.code == 1 and "process 1 of 2 was ended by SIGKILL" in capsys.readouterr().err
    with pytest.raises(exit_status.Terminated):
        judged([stopped, bug], {0: 143, 1: 1}, [signal.SIGTERM])
    with pytest.raises(KeyboardInterrupt):
        judged([stopped, stopped], {0: 143, 1: 143}, [signal.SIGINT])


@pytest.mark.parametrize(
    ("text", "batch_size", "num_devices", "expected"),
    [
        ("device: cpu", 20, 4, 1),
        ("{device: cpu, num_processes: 2}", 20, 4, 2),
        ("device: cuda", 20, 4, 4),
        ("device: cuda", 20, 8, 5),
        ("device: cuda", 20, 1, 1),
        ("device: cuda", 20, 0, 1),
        ('device: "cuda:1"', 20, 8, 1),
        ("{device: cuda, num_processes: 2}", 20, 8, 2),
    ],
)
def test_there_is_a_process_for_each_gpu_that_shares_the_batch(text, batch_size, num_devices, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_devices)
    assert launcher.num_processes(configs.load(text), batch_size) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_step_that_must_have_a_gpu_and_has_none_says_so(dataset, tmp_path):
    arguments = ["pretrain-damsm", "--dataset", str(dataset), "--out", str(tmp_path / "out"), "--config", "smoke"]
    done = CliRunner().invoke(cli.app, [*arguments, "--set", "device=cuda", "--set", "num_processes=0"])
    assert done.exit_code == exit_status.PERSON and "'cuda' cannot be used here" in done.stderr, done.output


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="3 are asked for"):
        launcher.num_processes(configs.load("{device: cuda, num_processes: 3}"), 12)


def test_alone_a_process_has_the_whole_batch_and_its_own_numbers():
    values = torch.arange(6.0, requires_grad=True)
    assert distributed.part(6) == slice(0, 6)
    assert distributed.gather(values) is values and distributed.average(values) is values
    assert distributed.in_any_process(0, 1, None) == [False, True, False]
    assert distributed.from_first(lambda: 7) == 7


def test_a_synchronized_batch_norm_keeps_names_and_parameters():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    before = network.state_dict()
    synchronize_batch_norms_(network, torch.device("cpu"))
    assert isinstance(network[1], SynchronizedBatchNorm)
    assert list(network.state_dict()) == list(before)
    assert network[1].weight.data_ptr() == before["1.weight"].data_ptr()
