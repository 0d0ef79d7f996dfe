"""Training in float16: scaled losses, updates that are left out where gradients overflow, and states that hold both."""

import copy
import functools

import pytest
import torch
from frozen_network import projects

from attngan.data.dataset import Dataset
from attngan.losses.damsm import damsm_losses
from attngan.runtime import acceleration
from attngan.runtime.loss_scale import FIRST, GROWTH_INTERVAL, LossScale
from attngan.runtime.step_graph import NUM_WARM_UPS
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.steps.train_generator import train_generator
from attngan.training import damsm_step, gan_step
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun
from attngan.training.learner import Learner
from attngan.training.states import StateStore

CPU = torch.device("cpu")
DEVICES = [CPU, pytest.param(torch.device("cuda", 0), marks=pytest.mark.gpu)]


@pytest.fixture(autouse=True)
def float16(monkeypatch):
    """Let this processor have float16: torch computes it everywhere, fast or not."""
    monkeypatch.setattr(acceleration, "has_float16", lambda device: True)


@pytest.fixture
def wide(smoke):
    """Networks wide enough for less precision: an almost constant channel would be blown up by its batch norm."""
    return smoke.model_copy(
        update={
            "precision": "float16",
            "generator": smoke.generator.model_copy(update={"channels": 16}),
            "discriminator": smoke.discriminator.model_copy(update={"channels": 16}),
        }
    )


def weights_of(run):
    return {
        f"{name} {key}": each.clone() for name, net in run.networks().items() for key, each in net.state_dict().items()
    }


def take_steps(run, train, step, count, first=0):
    for run.step in range(first, first + count):
        step.take_step(run, step.batch_for(run, train, run.step, 0))
    run.step += 1


@pytest.mark.parametrize("device", DEVICES)
def test_a_scale_is_that_of_torchs_own_scaler(device):
    """On gradients that overflow now and then; torch's own looks at values, ours does not."""
    first, second = (torch.nn.Linear(3, 1).to(device) for _ in range(2))
    second.load_state_dict(first.state_dict())
    ours = Learner(first, torch.optim.Adam(first.parameters(), fused=True), LossScale(device))
    adam, scaler = torch.optim.Adam(second.parameters(), fused=True), torch.amp.GradScaler(device.type)
    ours.scale.num_good += GROWTH_INTERVAL - 6  # so that it grows, too
    scaler.load_state_dict(scaler.state_dict() | {"_growth_tracker": GROWTH_INTERVAL - 6})
    scales, overflows = [], (1, 2, 9)
    for step in range(GROWTH_INTERVAL // 100 + 6):
        inputs = torch.full((2, 3), 1e38 if step in overflows else 0.1 * step, device=device)
        ours.learn(first(inputs).sum())
        adam.zero_grad()
        scaler.scale(second(inputs).sum()).backward()
        scaler.step(adam)
        scaler.update()
        scales.append(ours.scale.scale.item())
        assert scales[-1] == scaler.get_scale()
        assert torch.equal(first.weight, second.weight)
    assert scales[:3] == [FIRST, FIRST / 2, FIRST / 4] and ours.scale.num_skipped.item() == len(overflows)


@pytest.mark.parametrize("is_projected", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_a_step_in_float16_is_near_that_in_float32_and_leaves_float32_behind(
    dataset, damsm, wide, device, efficientnet_file, is_projected
):
    train, rows = Dataset.open(dataset, "train"), {}
    wide = projects(wide, efficientnet_file, channels=16) if is_projected else wide
    for precision in ("float32", "float16"):
        run = GanRun(wide.model_copy(update={"precision": precision, "cuda_graph": "off"}), train, damsm, device)
        losses = gan_step.training_step(run, gan_step.batch_for(run, train, 0, 0))
        rows[precision] = {name: loss.item() for name, loss in losses.items()}
        assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert rows["float16"] != rows["float32"]
    assert rows["float16"] == pytest.approx(rows["float32"], rel=0.02, abs=0.01)
    for network in run.networks().values():
        assert {each.dtype for each in network.state_dict().values() if each.is_floating_point()} == {torch.float32}
    assert {each.grad.dtype for each in run.generator.parameters()} == {torch.float32}


@pytest.mark.parametrize("device", DEVICES)
def test_encoders_train_in_float16_nearly_as_in_float32(dataset, smoke, device):
    train, sums = Dataset.open(dataset, "train"), []
    for precision in ("float32", "float16"):
        run = DamsmRun(smoke.model_copy(update={"precision": precision}), train, device, None)
        take_steps(run, train, damsm_step, 1)
        sums.append(run.loss_sums)
    assert not torch.equal(*sums)
    torch.testing.assert_close(*sums, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("device", DEVICES)
def test_an_update_that_overflows_is_left_out_and_counted(dataset, damsm, wide, device):
    train = Dataset.open(dataset, "train")
    run = GanRun(wide.model_copy(update={"cuda_graph": "off"}), train, damsm, device)
    take_steps(run, train, gan_step, 1)
    for scale in run.loss_scales().values():
        scale.scale.fill_(16.0)  # no overflow
    before, discriminator, count = weights_of(run), run.discriminator_learners[0], run.num_skipped()
    discriminator.scale.scale.fill_(2.0**80)
    take_steps(run, train, gan_step, 1, first=1)
    after = weights_of(run)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    parameters = {f"discriminators 0.{name}" for name, _ in discriminator.network.named_parameters()}
    assert not parameters & changed and any(name.startswith("generator ") for name in changed)
    assert run.num_skipped() == count + 1 and discriminator.scale.scale.item() == 2.0**79
    assert run.is_finite() and run.loss_sums.isfinite().all()


def test_no_sum_over_regions_overflows_in_float16():
    """Float16 ends at 65,504; 289 regions that a word looks at hard are more."""
    torch.manual_seed(0)
    regions, words = torch.randn(3, 8, 17, 17) + 8, torch.randn(3, 8, 5)
    image, sentence, no_padding = torch.randn(3, 8), torch.randn(3, 8), torch.zeros(3, 5, dtype=torch.bool)
    gammas = {"gamma1": 4.0, "gamma2": 5.0, "gamma3": 10.0}
    exact = damsm_losses((50 * regions, image), (words, sentence), no_padding, **gammas)
    with acceleration.autocast(CPU, torch.float16):
        ours = damsm_losses((50 * regions.half(), image.half()), (words, sentence), no_padding, **gammas)
    assert {name: loss.item() for name, loss in ours.items()} == pytest.approx(
        {name: loss.item() for name, loss in exact.items()}, rel=0.05, abs=0.01
    )


def record(call):
    """Stand in for CUDA's graphs: what repeats is the call, on the record's memory."""
    outputs = {}
    return outputs, lambda: outputs.update(call())


@pytest.mark.slow
def test_recorded_steps_in_float16_are_the_same_bit_for_bit(dataset, damsm, wide):
    train = Dataset.open(dataset, "train")
    plain, ours = (GanRun(wide, train, damsm, CPU) for _ in range(2))
    ours.recorder = record
    for run in (plain, ours):
        take_steps(run, train, gan_step, NUM_WARM_UPS + 1)
        run.generator_learner.scale.scale.fill_(2.0**80)  # an overflow inside of the record
        take_steps(run, train, gan_step, 2, first=NUM_WARM_UPS + 1)
    assert ours.graphs[""]._replay is not None and plain.num_skipped() == ours.num_skipped() > 0
    assert torch.equal(plain.loss_sums, ours.loss_sums)
    for name, tensor in weights_of(plain).items():
        assert torch.equal(tensor, weights_of(ours)[name]), name


@pytest.mark.parametrize(
    ("kind", "step"), [("encoders", damsm_step), pytest.param("generator", gan_step, marks=pytest.mark.slow)]
)
def test_a_run_goes_on_bit_for_bit_with_its_scales(dataset, damsm, wide, tmp_path, kind, step):
    train = Dataset.open(dataset, "train")
    make = {
        "encoders": functools.partial(DamsmRun, wide, train, CPU, None),
        "generator": functools.partial(GanRun, wide, train, damsm, CPU),
    }[kind]
    whole, stopped, resumed = make(), make(), make()
    for run in (whole, stopped):
        next(iter(run.loss_scales().values())).scale.fill_(2.0**80)
    take_steps(whole, train, step, 4)
    take_steps(stopped, train, step, 2)
    with StateStore(str(tmp_path / "state"), step_name="test", key="") as store:
        store.save(stopped.step, copy.deepcopy(stopped.state()), good=True)
        store.wait()
        resumed.resume(store)
    assert resumed.step == 2 and resumed.num_skipped() >= 1
    take_steps(resumed, train, step, 2, first=2)
    for name, scale in whole.loss_scales().items():
        for key, tensor in scale.state_dict().items():
            assert torch.equal(tensor, resumed.loss_scales()[name].state_dict()[key]), (name, key)
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(resumed)[name]), name


@pytest.mark.slow
def test_updates_that_were_left_out_are_in_the_log(dataset, damsm, wide, tmp_path, monkeypatch):
    monkeypatch.setattr("attngan.runtime.loss_scale.FIRST", 2.0**80)
    generator = train_generator(dataset, damsm, tmp_path / "generator", wide)
    assert generator["skipped_updates"] >= 3 * (1 + len(wide.resolutions))
    pretrain_damsm(dataset, tmp_path / "damsm", wide)
    assert '"skipped_updates": ' in (tmp_path / "damsm" / "metrics.jsonl").read_text()


def test_other_precisions_know_nothing_of_scales(dataset, damsm, smoke):
    run = GanRun(smoke, Dataset.open(dataset, "train"), damsm, CPU)
    assert not run.loss_scales() and not any("scale" in name for name in run.state())
