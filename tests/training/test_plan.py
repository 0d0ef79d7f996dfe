"""What a schedule takes, measured before it is spent."""

import contextlib
import time
import types
import weakref
from pathlib import Path

import pytest
import torch
import torchvision
from frozen_network import projects
from typer.testing import CliRunner

from attngan.cli import app
from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.models import image_encoder
from attngan.runtime import acceleration
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.steps.train_generator import train_generator
from attngan.training import gan_step, plan
from attngan.training.states import StateStore

CPU = torch.device("cpu")


class Stop(Exception):
    """What ends a plan once a test has seen enough."""


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
    """Within a half of the processor's time, as the machine may be busy; docs/performance.md has it by the clock."""
    monkeypatch.setattr(plan, "SECONDS", 3.0)
    monkeypatch.setattr(time, "perf_counter", time.process_time)
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


def test_on_several_gpus_one_is_measured_with_its_share_and_records_nothing(smoke, monkeypatch, capsys):
    monkeypatch.setattr(plan.launcher, "num_processes", lambda config, batch_size: 4)
    config, share = plan._as_one_of_all(smoke, torch.device("cuda", 0), 20)
    assert (config.cuda_graph, share) == ("off", 5)
    assert "one of 4 GPUs with its share of each batch, not recorded" in capsys.readouterr().out
    assert plan._as_one_of_all(smoke, CPU, 20) == (smoke, 20)


@pytest.mark.parametrize(("num_gpus", "measured"), [(1, "auto"), (4, "off")])
def test_steps_are_recorded_where_the_training_would_record_them(
    dataset, damsm, smoke, monkeypatch, num_gpus, measured
):
    seen = []

    def make(config, *_):
        seen.append(config.cuda_graph)
        raise Stop

    monkeypatch.setattr(plan.acceleration, "set_up_device", lambda config: torch.device("cuda", 0))
    monkeypatch.setattr(plan.launcher, "num_processes", lambda config, batch_size: num_gpus)
    monkeypatch.setattr(plan, "GanRun", make)
    with pytest.raises(Stop):
        plan.generator(dataset, damsm, smoke)
    assert seen == [measured]


@pytest.mark.parametrize(("every_steps", "expected"), [(1, 2.2), (2, 1.65), (4, 1.375)])
def test_steps_of_both_kinds_have_their_part_in_the_mean(
    dataset, damsm, smoke, efficientnet_file, monkeypatch, every_steps, expected
):
    """A step takes 2.2 seconds where the projected discriminator takes part, others 1.1."""
    clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)

    def take_seconds(seconds):
        clock.now += seconds

    @contextlib.contextmanager
    def no_snapshot(*_):
        yield lambda: take_seconds(10.0)

    monkeypatch.setattr(plan, "time", clock)
    monkeypatch.setattr(gan_step, "training_step", lambda run, batch: take_seconds(2.2 if run.step in taking else 1.1))
    monkeypatch.setattr(plan, "_snapshot", no_snapshot)
    taking = range(0, 1000, every_steps)
    config = projects(smoke, efficientnet_file, every_steps=every_steps)
    for seconds in (1.0, 20.0):  # less than a period takes, and more
        parts = {part.name: part for part in plan.generator(dataset, damsm, config, seconds=seconds)}
        assert parts["steps of the generator"].seconds == pytest.approx(expected)


def test_steps_of_both_kinds_are_recorded_before_any_counts(dataset, damsm, smoke, efficientnet_file, monkeypatch):
    runs, recorded = [], []

    def record(call):
        recorded.append(runs[0].step)
        outputs = {}
        return outputs, lambda: outputs.update(call())

    def make(*args):
        runs.append(made(*args))
        runs[0].recorder = record
        return runs[0]

    def measure(work, *, warm_up, **_):
        for _ in range(warm_up):
            work()
        raise Stop

    made = plan.GanRun
    monkeypatch.setattr(plan, "GanRun", make)
    monkeypatch.setattr(plan, "_seconds", measure)
    with pytest.raises(Stop):
        plan.generator(dataset, damsm, projects(smoke, efficientnet_file, every_steps=2))
    assert recorded == [6, 7]  # the fourth of each kind


@pytest.mark.parametrize(
    ("validate_every", "state_every", "expected"),
    [(0.5, 1.0, [12, 24]), (0.25, 0.6, [6, 12, 18, 24]), (2.0, 5.0, [24])],
)
def test_good_states_of_the_encoders_are_counted_as_they_are_saved(
    dataset, smoke, tmp_path, monkeypatch, validate_every, state_every, expected
):
    saved = []
    save = StateStore.save

    def noting(store, step, state, *, good=False):
        saved.extend([step] if good and step else [])
        save(store, step, state, good=good)

    damsm = smoke.damsm.model_copy(update={"validate_every_epochs": validate_every})
    watch = smoke.watch.model_copy(update={"every_epochs": state_every})
    config = smoke.model_copy(update={"damsm": damsm, "watch": watch})
    assert numbers(plan.encoders(dataset, config))["states saved"] == len(expected)
    monkeypatch.setattr(StateStore, "save", noting)
    pretrain_damsm(dataset, tmp_path / "out", config)
    assert saved == expected


def test_a_training_that_does_not_fit_says_so(dataset, damsm, smoke, tmp_path, monkeypatch):

    def step(run, batch):
        if len(batch.lengths) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return {}

    monkeypatch.setattr(gan_step, "training_step", step)
    with pytest.raises(InputError, match=r"training.batch_size: a batch of 8 pictures does not fit .* one of 2 does"):
        train_generator(dataset, damsm, tmp_path / "out", smoke)
