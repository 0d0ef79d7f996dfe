"""A step that is recorded and repeated. No CPU records: what repeats here is the call, on the record's memory."""

import functools

import pytest
import torch
from frozen_network import projects, with_all_parts

from attngan.data.dataset import Dataset
from attngan.data.sampling import BatchesAhead
from attngan.errors import InputError
from attngan.runtime import acceleration, distributed
from attngan.runtime.step_graph import NUM_WARM_UPS, StepGraph
from attngan.training import damsm_step
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun
from attngan.training.gan_step import batch_for, training_step, try_step
from attngan.training.states import StateStore

CPU = torch.device("cpu")


def record(call):
    """Stand in for CUDA: outputs appear once the record is replayed, and always in the same place."""
    outputs = {}
    return outputs, lambda: outputs.update(call())


def test_inputs_reach_the_record_and_its_outputs_come_back():
    graph = StepGraph(lambda first, second: {"sum": first + second}, record)
    for number in range(NUM_WARM_UPS + 3):
        found = graph(torch.full((2,), float(number)), torch.ones(2))
        assert found["sum"].tolist() == [number + 1.0] * 2


def test_a_step_is_recorded_once_after_it_was_warmed_up():
    recorded = []

    def counting(call):
        recorded.append(len(recorded))
        return record(call)

    graph = StepGraph(lambda numbers: {"twice": 2 * numbers}, counting)
    counts = []
    for _ in range(NUM_WARM_UPS + 2):
        graph(torch.ones(1))
        counts.append(len(recorded))
    assert counts == [0] * NUM_WARM_UPS + [1, 1]
    graph.forget()
    for _ in range(NUM_WARM_UPS):
        graph(torch.ones(1))
    assert len(recorded) == 1
    graph(torch.ones(1))
    assert len(recorded) == 2


def test_what_fails_while_a_step_is_recorded_says_how_to_do_without():
    def failing(call):
        raise RuntimeError("operation not permitted when stream is capturing")

    graph = StepGraph(lambda numbers: {"twice": 2 * numbers}, failing)
    for _ in range(NUM_WARM_UPS):
        graph(torch.ones(1))
    with pytest.raises(RuntimeError, match="not permitted") as caught:
        graph(torch.ones(1))
    assert "cuda_graph=off" in caught.value.__notes__[0]


def test_inputs_of_another_shape_are_not_put_into_the_record():
    graph = StepGraph(lambda numbers: {"sum": numbers.sum()}, record)
    for _ in range(NUM_WARM_UPS + 1):
        graph(torch.ones(4))
    assert graph(torch.ones(3))["sum"] == 3
    assert graph(torch.ones(4))["sum"] == 4


@pytest.mark.parametrize(("every_steps", "kinds"), [(0, [""]), (1, ["projecting"]), (2, ["projecting", ""])])
def test_a_training_of_recorded_steps_is_the_same_bit_for_bit(
    dataset, damsm, smoke, efficientnet_file, every_steps, kinds
):
    """Over the recording, and over a change of the rates, as after going back; of each kind of step there is a record.

    A projected discriminator takes part in no step, in each, in every second one.
    """
    train = Dataset.open(dataset, "train")
    config = projects(smoke, efficientnet_file, every_steps=every_steps) if every_steps else smoke
    plain, ours = (GanRun(config, train, damsm, CPU) for _ in range(2))
    ours.recorder = record
    for step in range((2 * NUM_WARM_UPS + 5) * len(kinds)):
        for run in (plain, ours):
            run.step = step
            if step == (NUM_WARM_UPS + 3) * len(kinds):
                assert bool(run.graphs) == (run is ours)
                run.attempt = 1
                run.set_learning_rates()
            run.add(training_step(run, batch_for(run, train, step, 0)))
    assert list(ours.graphs) == kinds and all(graph._replay is not None for graph in ours.graphs.values())
    assert torch.equal(plain.loss_sums, ours.loss_sums)
    for name, network in plain.networks().items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, ours.networks()[name].state_dict()[key]), key


def test_no_gradient_of_the_last_step_lies_beside_the_record(dataset, damsm, smoke):
    train, there = Dataset.open(dataset, "train"), []
    run = GanRun(smoke, train, damsm, CPU)

    def look_and_record(call):
        there.append(any(each.grad is not None for network in run.networks().values() for each in network.parameters()))
        return record(call)

    run.recorder = look_and_record
    for run.step in range(NUM_WARM_UPS + 1):
        training_step(run, batch_for(run, train, run.step, 0))
    assert there == [False]


def test_a_smaller_batch_that_is_tried_for_its_memory_is_never_recorded(dataset, damsm, smoke):
    train, recorded = Dataset.open(dataset, "train"), []
    run = GanRun(smoke, train, damsm, CPU)
    run.recorder = lambda call: (recorded.append(1), record(call))[1]
    for size in (7, 6, 5, 4, 3):
        try_step(run, train, size)
    assert not recorded


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_state_of_the_other_kind_of_steps_is_gone_on_from(dataset, damsm, smoke, tmp_path, is_recorded):
    """A recorded step needs an Adam that can be recorded; the state says how the Adam before was made."""
    train = Dataset.open(dataset, "train")
    before, after = (GanRun(smoke, train, damsm, CPU) for _ in range(2))
    (before, after)[is_recorded].recorder = record
    with StateStore(str(tmp_path / "state"), step_name="gan", key="") as store:
        for run in (before, after):
            run.resume(store)
            kinds = [group["capturable"] for each in run.optimizers().values() for group in each.param_groups]
            store.save(1, before.state(), good=True)
    assert set(kinds) == {is_recorded}


@pytest.mark.parametrize(
    ("setting", "device", "count", "is_recorded"),
    [
        ("auto", "cpu", 1, False),
        ("off", "cuda:0", 1, False),
        ("auto", "cuda:0", 1, True),
        ("on", "cuda:0", 1, True),
        ("auto", "cuda:0", 2, False),
    ],
)
def test_steps_are_recorded_on_exactly_one_cuda_device(setting, device, count, is_recorded, monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: count)
    assert (acceleration.choose_recorder(setting, torch.device(device)) is not None) == is_recorded


def test_where_nothing_can_be_recorded_but_shall_be_one_sentence_says_so(dataset, damsm, smoke, monkeypatch):
    config = smoke.model_copy(update={"cuda_graph": "on"})
    with pytest.raises(InputError, match="cuda_graph: a step is recorded on one CUDA device alone, found cpu; set"):
        GanRun(config, Dataset.open(dataset, "train"), damsm, CPU)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(InputError, match="found 2 processes"):
        acceleration.choose_recorder("on", torch.device("cuda", 0))


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_pretraining_of_recorded_steps_is_the_same_bit_for_bit(dataset, smoke, is_cut):
    """Over a change of the rates, which the record holds, and over going back, which gives Adam another state."""
    train = Dataset.open(dataset, "train")
    data = smoke.data.model_copy(update={"max_words": 5 if is_cut else 40})
    config = smoke.model_copy(update={"data": data})
    plain, ours = (DamsmRun(config, train, CPU, None) for _ in range(2))
    ours.recorder = record
    num_recorded = []
    for run in (plain, ours):
        run.padded_to = min(data.max_words, train.longest_caption)
    for step in range(2 * NUM_WARM_UPS + 5):
        for run in (plain, ours):
            run.step = step
            run.attempt = int(step >= NUM_WARM_UPS + 3)
            run.set_learning_rates()
            damsm_step.training_step(run, damsm_step.batch_for(run, train, step, 0))
        num_recorded.append(ours.graphs[""]._replay is not None)
    change = NUM_WARM_UPS + 3
    assert num_recorded[change - 1] and not num_recorded[change] and num_recorded[-1]
    assert torch.equal(plain.loss_sums, ours.loss_sums) and plain.loss_sums.isfinite().all()
    for name, network in plain.networks().items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, ours.networks()[name].state_dict()[key]), key


def test_captions_padded_to_one_length_for_all_batches_train_the_same(dataset, smoke):
    train, sums = Dataset.open(dataset, "train"), []
    config = smoke.model_copy(update={"text_encoder": smoke.text_encoder.model_copy(update={"dropout": 0.0})})
    for padded_to in (0, train.longest_caption + 3):
        run = DamsmRun(config, train, CPU, None)
        run.padded_to = padded_to
        for run.step in range(3):
            damsm_step.training_step(run, damsm_step.batch_for(run, train, run.step, 0))
        sums.append(run.loss_sums)
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_a_pretraining_of_cuda_graphs_is_the_same(dataset, smoke):
    train, device = Dataset.open(dataset, "train"), torch.device("cuda", 0)
    config = smoke.model_copy(update={"precision": "float32"})
    plain, ours = (
        DamsmRun(config.model_copy(update={"cuda_graph": graph}), train, device, None) for graph in ("off", "on")
    )
    for step in range(NUM_WARM_UPS + 5):
        for run in (plain, ours):
            run.step = step
            run.set_learning_rates()
            damsm_step.training_step(run, damsm_step.batch_for(run, train, step, 0))
    assert ours.graphs[""]._replay is not None and not plain.graphs
    torch.testing.assert_close(ours.loss_sums, plain.loss_sums, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("has_all_parts", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_training_of_cuda_graphs_is_the_same(dataset, damsm, smoke, efficientnet_file, precision, has_all_parts):
    train, device = Dataset.open(dataset, "train"), torch.device("cuda", 0)
    config = with_all_parts(smoke, efficientnet_file) if has_all_parts else smoke
    config = config.model_copy(update={"precision": precision})
    plain, ours = (
        GanRun(config.model_copy(update={"cuda_graph": graph}), train, damsm, device) for graph in ("off", "on")
    )
    with BatchesAhead(functools.partial(batch_for, plain, train), device) as batches:
        for step in range(plain.period * (NUM_WARM_UPS + 5)):
            batch = batches.take(step, 0)
            for run in (plain, ours):
                run.step = step
                run.add(training_step(run, batch))
    assert not plain.graphs and len(ours.graphs) == ours.period
    assert all(graph._replay is not None for graph in ours.graphs.values())
    tolerance = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}[precision]
    torch.testing.assert_close(ours.loss_sums, plain.loss_sums, rtol=tolerance, atol=tolerance / 10)
