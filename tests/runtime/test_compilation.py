"""What is compiled: the whole step, without a gap, and with the same losses; when it is worth it; where it is kept."""

import datetime
import os
import types

import pytest
import torch
from frozen_network import projects, with_all_parts
from torch._dynamo.utils import counters
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.runtime import acceleration, compilation
from attngan.runtime.compilation import CACHE, COMPILING_SECONDS, NUM_TIMED, SAVED_SHARE, Compilation
from attngan.runtime.step_graph import NUM_WARM_UPS
from attngan.steps.train_generator import train_generator
from attngan.training import gan_step
from attngan.training.gan_run import GanRun

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def compiler(monkeypatch):
    """Stand in for torch's compiler: it traces forward and backward, makes no code, and fails where it is told to."""
    found, whole = types.SimpleNamespace(functions=[], fails=False), torch.compile

    def compile_(function, **settings):
        def backend(graph, inputs):
            if found.fails:
                raise RuntimeError("no such kernel")
            return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

        found.functions.append(function.__name__)
        return whole(function, backend=backend, **settings)

    monkeypatch.setattr(torch, "compile", compile_)
    torch._dynamo.reset()
    counters.clear()
    yield found
    torch._dynamo.reset()


def steps(run, dataset, count=2):
    train, rows = Dataset.open(dataset, "train"), []
    for run.step in range(count):
        batch = gan_step.batch_for(run, train, run.step, 0)
        rows.append({name: loss.item() for name, loss in gan_step.training_step(run, batch).items()})
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(("spectral_norm", "is_projected"), [(False, False), (True, False), (False, True)])
def test_a_whole_step_is_compiled_without_a_gap_and_has_the_same_losses(
    dataset, damsm, smoke, compiler, efficientnet_file, capsys, spectral_norm, is_projected
):
    discriminator = smoke.discriminator.model_copy(update={"spectral_norm": spectral_norm})
    generator = smoke.generator.model_copy(update={"num_stages": 2})
    config = smoke.model_copy(update={"discriminator": discriminator, "generator": generator})
    config = projects(config, efficientnet_file) if is_projected else config
    train = Dataset.open(dataset, "train")
    plain = GanRun(config, train, damsm, CPU)
    ours = GanRun(config.model_copy(update={"compile": "on"}), train, damsm, CPU)
    expected = steps(plain, dataset, 3)
    for row, other in zip(steps(ours, dataset, 3), expected):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert "generator: steps are not recorded and compiled, which takes minutes, once (compile=on)" in (
        capsys.readouterr().out
    )
    scales, test = 2, 1
    num_graphs = 1 + 2 * (scales + is_projected) + 2 + test
    assert counters["stats"]["unique_graphs"] == num_graphs == len(compiler.functions)
    assert not counters["graph_break"] and len(set(compiler.functions)) == len(compiler.functions)
    for name, network in plain.networks().items():
        theirs = ours.networks()[name].state_dict()
        for key, tensor in network.state_dict().items():
            distance = (tensor.double() - theirs[key].double()).norm()
            assert distance <= 2e-3 * tensor.double().norm() + 1e-6, (name, key)


def test_a_function_has_code_of_its_own_for_each_network(compiler):
    """Ten of one class: torch gives up at the eighth version of a code object."""
    compute = Compilation("on", CPU, is_recorded=False, name="test")
    assert compute.begins(1, period=1) and not compute.begins(1, period=1)
    networks = [torch.nn.Linear(size, 1) for size in range(1, 11)]

    def total(network, *, twice):
        return network(torch.ones(1, network.in_features)).sum() * (2 if twice else 1)

    for network in networks * 2:
        torch.testing.assert_close(compute(total, network, twice=True), total(network, twice=True))
    assert counters["stats"]["unique_graphs"] == len(networks) + 1 and not counters["graph_break"]


def test_a_function_that_cannot_be_compiled_runs_as_it_is_and_is_named_once(compiler, capsys):
    compute = Compilation("on", CPU, is_recorded=False, name="test")
    assert compute.begins(1, period=1)
    compiler.fails = True
    capsys.readouterr()

    def double(numbers):
        return 2 * numbers

    for _ in range(2):
        assert compute(double, torch.ones(1)).item() == 2
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and said[0].startswith("double cannot be compiled here and runs as it is: ")
    assert "no such kernel" in said[0]


def test_where_compiling_does_not_work_it_is_said_once_and_steps_run_as_they_are(compiler, capsys):
    compute = Compilation("on", CPU, is_recorded=False, name="test")
    compiler.fails = True
    assert not compute.begins(1, period=1) and not compute.begins(1, period=1)
    assert capsys.readouterr().out.count("compiling does not work here, so steps run as they are: ") == 1
    assert compute(torch.sin, torch.zeros(1)).item() == 0


@pytest.fixture
def clock(monkeypatch):
    """A second a step, by a clock that steps alone move on; no device is there to wait for."""
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(compilation.time, "monotonic", lambda: now.seconds)
    monkeypatch.setattr(acceleration, "wait", lambda device: None)
    monkeypatch.setattr(Compilation, "_is_possible", lambda self: True)
    return now


@pytest.mark.parametrize("pays", [True, False])
def test_auto_compiles_recorded_steps_if_what_is_left_saves_more_than_compiling_takes(pays, clock, capsys):
    compute = Compilation("auto", CUDA, is_recorded=True, name="generator")
    num_left = round(COMPILING_SECONDS / SAVED_SHARE) + (1 if pays else -1)
    answers = []
    for step in range(NUM_TIMED + 4):
        answers.append(compute.begins(num_left, period=1))
        clock.seconds += 100.0 if step == 0 else 1.0  # kernels are chosen in the first step
    assert answers == [*[False] * (1 + NUM_TIMED), pays, False, False] and compute.is_on == pays
    said = capsys.readouterr().out
    assert said.count("generator: steps are recorded as a CUDA graph and ") == said.count("\n") == 1
    assert ("not compiled" not in said) == pays and f"the {num_left} left take about 0:08:" in said


@pytest.mark.parametrize("period", [2, 3, 4, 7])
def test_the_pace_is_that_of_a_whole_period(period, clock, capsys):
    """One step of each takes eleven times as long as the others, and the first ones of all longer."""
    compute, left = Compilation("auto", CUDA, is_recorded=True, name="generator"), 1000 * period
    for step in range(2 * period + 1):
        assert not compute.is_decided
        compute.begins(left, period=period)
        clock.seconds += 500.0 if step < period else 1.0 if step % period else 11.0
    assert compute.is_decided
    seconds = 1000 * (11 + period - 1)
    assert f"the {left:,} left take about {datetime.timedelta(seconds=seconds)}" in capsys.readouterr().out


def test_no_step_is_recorded_before_that_is_decided(dataset, damsm, smoke, monkeypatch):
    run, recorded = GanRun(smoke, Dataset.open(dataset, "train"), damsm, CPU), []
    run.recorder = lambda call: (recorded.append(run.step), (call(), lambda: None))[1]
    run.compute.is_decided = False
    monkeypatch.setattr(run.compute, "begins", lambda *_, **__: setattr(run.compute, "is_decided", run.step >= 6))
    steps(run, dataset, 9)
    assert recorded == [6]


@pytest.mark.parametrize(
    ("setting", "device", "is_recorded", "says"),
    [
        ("auto", CPU, False, False),
        ("off", CPU, False, False),
        ("auto", CUDA, False, True),  # several processes, or cuda_graph=off
        ("off", CUDA, True, True),
        ("off", CUDA, False, False),
    ],
)
def test_other_steps_are_compiled_only_if_somebody_says_so(setting, device, is_recorded, says, clock, capsys):
    compute = Compilation(setting, device, is_recorded=is_recorded, name="generator")
    assert not any(compute.begins(10**9, period=1) for _ in range(NUM_TIMED + 4))
    assert capsys.readouterr().out.count("not compiled") == says
    assert Compilation("on", device, is_recorded=is_recorded, name="generator").begins(1, period=1)


def test_a_record_of_steps_that_were_not_compiled_is_forgotten(dataset, damsm, smoke, monkeypatch):
    run = GanRun(smoke, Dataset.open(dataset, "train"), damsm, CPU)
    outputs, recorded = {}, []
    run.recorder = lambda call: (recorded.append(run.step), (outputs, lambda: outputs.update(call())))[1]
    begins = iter([False] * 5 + [True] + [False] * 9)
    monkeypatch.setattr(run.compute, "begins", lambda *_, **__: next(begins))
    steps(run, dataset, 10)
    assert recorded == [NUM_WARM_UPS, 5 + NUM_WARM_UPS]


@pytest.fixture
def environment(monkeypatch):
    """The variable as it is where nobody has set it: torch may have."""
    monkeypatch.setenv(CACHE, default_cache_dir())


def test_what_is_compiled_is_kept_beside_local_states_for_their_owner_alone(
    dataset, damsm, smoke, compiler, tmp_path, environment
):
    config = smoke.model_copy(update={"compile": "on"})
    compiler.fails = True  # after the folder was made: the rest is not what this is about
    train_generator(dataset, damsm, tmp_path / "out", config, state=str(tmp_path / "state"))
    folder = tmp_path / "state" / "compiled"
    assert os.environ[CACHE] == str(folder) and folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("setting", ["on", "auto"])
def test_code_is_not_kept_where_others_can_write(setting, tmp_path, compiler, environment, monkeypatch, capsys):
    compute = Compilation(setting, CUDA, is_recorded=True, name="generator")
    folder = tmp_path / "compiled"
    folder.mkdir()
    folder.chmod(0o777)
    compute.keep_in(folder)
    sentence = f"{folder}: compiled code cannot be kept here (others can write in it); mend that, set {CACHE}, or "
    if setting == "on":
        with pytest.raises(InputError) as error:
            compute.begins(1, period=1)
        assert str(error.value).startswith(sentence)
    else:
        assert not compute._is_possible() and capsys.readouterr().out.startswith(sentence)
    assert os.environ[CACHE] == default_cache_dir()


def test_a_folder_that_a_person_named_for_the_compiler_is_left(tmp_path, compiler, monkeypatch):
    monkeypatch.setenv(CACHE, "theirs")
    compute = Compilation("on", CPU, is_recorded=False, name="test")
    compute.keep_in(tmp_path / "compiled")
    assert compute.begins(1, period=1) and os.environ[CACHE] == "theirs" and not (tmp_path / "compiled").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("has_all_parts", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_compiled_and_recorded_steps_are_the_same_on_a_gpu(
    dataset, damsm, smoke, efficientnet_file, precision, has_all_parts, capsys
):
    config = with_all_parts(smoke, efficientnet_file) if has_all_parts else smoke
    train, config = Dataset.open(dataset, "train"), config.model_copy(update={"precision": precision})
    ways = ({"cuda_graph": "off", "compile": "off"}, {"cuda_graph": "on", "compile": "on"})
    plain, ours = (GanRun(config.model_copy(update=way), train, damsm, CUDA) for way in ways)
    rows = [steps(run, dataset, 2 * NUM_WARM_UPS * run.period) for run in (plain, ours)]
    assert ours.compute.is_on and all(graph._replay is not None for graph in ours.graphs.values())
    assert "cannot be compiled" not in capsys.readouterr().out
    tolerance = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}[precision]
    for found, expected in zip(*rows):
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.slow
def test_compiled_steps_are_the_same(dataset, damsm, smoke, capsys):
    """With torch's own compiler, for this processor."""
    train = Dataset.open(dataset, "train")
    plain = GanRun(smoke, train, damsm, CPU)
    ours = GanRun(smoke.model_copy(update={"compile": "on"}), train, damsm, CPU)
    found, expected = steps(ours, dataset), steps(plain, dataset)
    assert ours.compute.is_on and "cannot be compiled" not in capsys.readouterr().out
    for row, other in zip(found, expected):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-4)
