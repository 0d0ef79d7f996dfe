"""What a schedule takes, measured before it is spent."""

import time
import weakref
from pathlib import Path

import pytest
import torch
import torchvision
from typer.testing import CliRunner

from attngan.cli import app
from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.models import image_encoder
from attngan.runtime import acceleration
from attngan.steps.train_generator import train_generator
from attngan.training import gan_step, plan

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(plan, "SECONDS", 0.2)


def numbers(parts):
    return {part.name: part.number for part in parts}


def test_parts_are_counted_as_the_trainings_count_them(dataset, smoke):
    parts = plan.plan(dataset, smoke)
    assert numbers(parts) == {
        "steps of the encoders": 24,
        "validations": 2,
        "states saved": 2,
        "steps of the generator": 24,
        "snapshots": 2,
    }
    assert all(part.seconds > 0 for part in parts)


@pytest.mark.parametrize(("setting", "measured"), [("auto", "off"), ("on", "on")])
def test_nothing_is_compiled_for_minutes_only_to_be_measured(dataset, damsm, smoke, monkeypatch, setting, measured):
    class Stop(Exception):
        pass

    def make(config, *_):
        assert config.compile == measured
        raise Stop

    monkeypatch.setattr(plan, "GanRun", make)
    with pytest.raises(Stop):
        plan.generator(dataset, damsm, smoke.model_copy(update={"compile": setting}))


@pytest.mark.slow
def test_features_that_are_kept_are_part_of_the_plan(dataset, smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(image_encoder, "INCEPTION_SIDE", 107)  # pixels that it looks at: a tenth of the work
    network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    encoder = smoke.image_encoder.model_copy(update={"kind": "inception_v3"})
    damsm = smoke.damsm.model_copy(update={"trunk_views": 3})
    config = smoke.model_copy(update={"image_encoder": encoder, "damsm": damsm})
    parts = plan.plan(dataset, config, inception_weights=tmp_path / "inception.pth")
    assert numbers(parts)["views of pictures"] == 3 * 96 + 16


@pytest.mark.parametrize("setting", ["damsm.batch_size", "training.batch_size"])
def test_a_batch_of_more_pictures_than_there_are_is_one_sentence(dataset, setting):
    flags = ["plan", "--dataset", str(dataset), "--config", "smoke", "--set", f"{setting}=1000"]
    done = CliRunner().invoke(app, flags)
    assert done.exit_code == 2
    assert f"96 training pictures are fewer than {setting} 1000; lower it." in done.stderr


@pytest.mark.slow
def test_the_command_prints_time_memory_and_cost(dataset):
    done = CliRunner().invoke(app, ["plan", "--dataset", str(dataset), "--config", "smoke", "--price-per-hour", "3600"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    while not lines[0].startswith("cpu, "):
        del lines[0]  # progress
    assert lines[0].endswith("float32")
    assert [line.split("  ")[0] for line in lines[2:-1]] == [
        "steps of the encoders",
        "validations",
        "states saved",
        "steps of the generator",
        "snapshots",
        "all",
    ]
    cost = float(lines[-2].split()[-1])
    assert cost > 0.1 and lines[-1].startswith("memory: ")  # one a second


@pytest.mark.slow
def test_the_plan_of_a_short_training_is_what_it_takes(dataset, damsm, smoke, tmp_path, monkeypatch):
    """Within a half: the machine may be busy; alone on a machine it is within 15 %, see docs/performance.md."""
    monkeypatch.setattr(plan, "SECONDS", 3.0)
    config = smoke.model_copy(update={"training": smoke.training.model_copy(update={"epochs": 20})})
    parts = {part.name: part for part in plan.generator(dataset, damsm, config)}
    start = time.perf_counter()
    train_generator(dataset, damsm, tmp_path / "out", config)
    taken = time.perf_counter() - start
    assert taken == pytest.approx(parts["steps of the generator"].total + parts["snapshots"].total, rel=0.5)


def test_a_batch_that_does_not_fit_is_told_with_one_that_does():
    tried = []

    def step(size):
        tried.append(size)
        if size > 12:
            raise torch.OutOfMemoryError("no room")

    with (
        pytest.raises(
            InputError, match=r"damsm.batch_size: a batch of 100 pictures does not fit .* cpu; one of 12 does"
        ),
        acceleration.fitting("damsm.batch_size", 100, CPU, step),
    ):
        step(100)
    assert tried == [100, 50, 25, 12]


def test_what_the_failed_step_held_is_free_before_fewer_are_tried():
    held = []

    def step(size):
        tensors = torch.ones(size)
        if size > 12:
            held.append(weakref.ref(tensors))
            raise RuntimeError("CUDA error: out of memory")
        assert all(each() is None for each in held)

    with pytest.raises(InputError, match="one of 12 does"), acceleration.fitting("damsm.batch_size", 25, CPU, step):
        step(25)
    assert len(held) == 1


def test_another_error_is_no_lack_of_memory():
    def step(size):
        raise AssertionError

    with pytest.raises(RuntimeError, match="shapes differ"), acceleration.fitting("x", 8, CPU, step):
        raise RuntimeError("shapes differ")


def test_a_missing_kernel_is_no_lack_of_memory_unless_fewer_pictures_run():
    words = "GET was unable to find an engine to execute this computation"

    def step(size):
        if size > limit:
            raise RuntimeError(words)

    limit = 0
    with pytest.raises(RuntimeError, match=words), acceleration.fitting("x", 8, CPU, step):
        step(8)
    limit = 3
    with pytest.raises(InputError, match="one of 2 does"), acceleration.fitting("x", 8, CPU, step):
        step(8)


def test_a_batch_whose_making_does_not_fit_says_so(dataset, damsm, smoke, tmp_path, monkeypatch):

    def make(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(gan_step, "batch_for", make)
    with pytest.raises(InputError, match=r"training.batch_size: a batch of 8 .* set a smaller one"):
        train_generator(dataset, damsm, tmp_path / "out", smoke)


@pytest.mark.slow
def test_features_for_which_there_is_no_room_are_said_by_the_plan(dataset, smoke, tmp_path, monkeypatch):
    network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    overrides = ["image_encoder.kind=inception_v3", "damsm.trunk_views=1000000", "device=cpu"]
    config = configs.load_file(Path("smoke"), overrides=overrides)
    with pytest.raises(InputError, match=r"image encoder's trunk need [\d,.]+ GB, found .* or lower damsm"):
        plan.encoders(dataset, config, inception_weights=tmp_path / "inception.pth")


def test_on_several_gpus_one_is_measured_with_its_share(smoke, monkeypatch, capsys):
    monkeypatch.setattr(plan.launcher, "num_processes", lambda config, batch_size: 4)
    assert plan._share(smoke, torch.device("cuda", 0), 20) == 5
    assert "one of 4 GPUs with its share of each batch" in capsys.readouterr().out
    assert plan._share(smoke, CPU, 20) == 20


def test_a_training_that_does_not_fit_says_so(dataset, damsm, smoke, tmp_path, monkeypatch):

    def step(run, batch):
        if len(batch.lengths) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return {}

    monkeypatch.setattr(gan_step, "training_step", step)
    with pytest.raises(InputError, match=r"training.batch_size: a batch of 8 pictures does not fit .* one of 2 does"):
        train_generator(dataset, damsm, tmp_path / "out", smoke)
