"""`python -m benchmarks.scaling`: the model's known answers, what is counted, and the command at its smallest size."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from attngan.runtime import machine
from attngan.runtime.gradient_average import BUCKET_BYTES, GradientAverage
from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling import model
from benchmarks.scaling.model import (
    BACKWARD_END,
    BUCKET,
    GATHERED_SUMS,
    SCORE_GRADIENTS,
    SCORES,
    SUMS,
    Link,
    Message,
)
from benchmarks.scaling.timeline import Timeline

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = Link(bandwidth=math.inf, latency=0.0)
SLOW = Link(bandwidth=1000.0, latency=0.25)  # powers of two and round numbers: sums are exact
STEP = [
    Message(0.5, 1000, SUMS),
    Message(1.0, 4000, BUCKET),
    Message(1.5, 1000, SUMS),
    Message(2.0, 2000, BUCKET),
    Message(2.0, 0, BACKWARD_END),
    Message(2.5, 500, SCORES),
    Message(3.0, 500, SCORE_GRADIENTS),
]


def alone(messages, end, whole_batch=(0.0, 0.0, 0.0, 0.0)):
    return {"messages": [list(each) for each in messages], "end": end, "whole batch": whole_batch}


@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_link_that_takes_no_time_makes_efficiency_one(count):
    assert scaling.modelled_row(count, alone(STEP, 4.0), AT_ONCE)["efficiency"] == 1.0


def test_one_process_waits_for_nothing():
    assert sum(model.waits(STEP, 1, SLOW).values()) == 0.0
    assert scaling.modelled_row(1, alone(STEP, 4.0), SLOW)["efficiency"] == 1.0


def test_efficiency_falls_as_latency_grows():
    found = [
        scaling.modelled_row(4, alone(STEP, 4.0), Link(1e6, latency))["efficiency"] for latency in (0.0, 0.1, 0.2, 0.4)
    ]
    assert found == sorted(found, reverse=True) and len(set(found)) == 4


@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_single_bucket_that_is_whole_when_backward_ends_costs_all_of_its_sending(count):
    messages = [Message(1.0, 8000, BUCKET), Message(1.0, 0, BACKWARD_END)]
    cost = 2 * (count - 1) / count * 8000 / 1000 + 0.25
    assert model.waits(messages, count, SLOW) == {BACKWARD_END: cost}


def test_backward_hides_the_buckets_before_the_last_as_far_as_it_is_longer():
    early, last, end = Message(1.0, 1000, BUCKET), Message(5.0, 2000, BUCKET), Message(5.0, 0, BACKWARD_END)
    assert model.waits([early, last, end], 2, SLOW) == {BACKWARD_END: 2.25}
    larger = Message(1.0, 5000, BUCKET)  # on the link from 1 to 6.25, so the last from there to 8.5
    assert model.waits([larger, last, end], 2, SLOW) == {BACKWARD_END: 3.5}


def test_a_batch_norm_waits_for_the_gradients_that_are_on_the_link_before_it():
    messages = [Message(1.0, 4000, BUCKET), Message(2.0, 500, SUMS), Message(6.0, 0, BACKWARD_END)]
    # The bucket arrives at 5.25 and the sums at 6.0 in place of 2.0; backward has nothing left to wait for.
    assert model.waits(messages, 2, SLOW) == {SUMS: 4.0, BACKWARD_END: 0.0}


@pytest.mark.parametrize(
    ("kind", "copies"),
    [(BUCKET, 1.5), (SUMS, 1.5), (GATHERED_SUMS, 3.0), (SCORES, 12.0), (SCORE_GRADIENTS, 24.0)],
)
def test_of_four_processes_each_sends_so_many_copies_of_its_own(kind, copies):
    assert model.sending_seconds(Message(0.0, 1000, kind), 4, SLOW) == copies + 0.25


def test_what_all_processes_compute_for_the_whole_batch_makes_the_step_longer():
    row = scaling.modelled_row(8, alone([], 2.0, (1.0, 1.25, 1.5, 3.0)), AT_ONCE)
    assert (row["seconds"], row["efficiency"]) == (4.0, 0.5)


@pytest.mark.parametrize("count", [2, 8])
def test_the_link_is_found_from_the_seconds_of_two_sizes(count):
    link = Link(bandwidth=2e9, latency=3e-5)
    seconds = [model.sending_seconds(Message(0.0, size, SUMS), count, link) for size in model.LINK_BYTES]
    assert model.link_of(seconds, count) == pytest.approx(link, rel=1e-6)
    assert model.LINK_BYTES[1] == BUCKET_BYTES


def test_given_figures_of_the_link_go_before_measured_ones():
    rounds = [{"link": [1e9, 1e-5]}, {"link": [3e9, 3e-5]}, {"link": [2e9, 2e-5]}]
    assert scaling._link(rounds, None, None) == Link(2e9, 2e-5)
    assert scaling._link(rounds, 300.0, None) == Link(300e9, 2e-5)
    assert scaling._link([{}], 300.0, 20.0) == Link(300e9, 20 / 1e6)
    assert scaling._link([{}], 300.0, None) is None


def test_efficiency_is_the_ratio_of_each_rounds_steps():
    found = {1: [{"seconds": [1.0, 1.0]}, {"seconds": [3.0]}], 2: [{"seconds": [2.0]}, {"seconds": [4.0]}]}
    row = scaling.measured_row(2, found, 6)
    assert row["efficiency_range"] == [0.5, 0.75] and row["efficiency"] == 0.625
    assert (row["seconds"], row["images_per_second"]) == (3.0, 4.0)


def test_a_step_of_a_tiny_network_sends_these_messages_in_this_order():
    first, second = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 5, 1, bias=False)
    network = nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), second, nn.BatchNorm2d(5))
    # The last parameters first: 20 + 20 bytes and 80 make a full bucket, then 16 + 16 and 48.
    average = GradientAverage(network.parameters(), bucket_bytes=120)
    timeline = Timeline(torch.device("cpu"))
    timeline.watch_batch_norms(network)
    timeline.watch_gradients(average)
    pictures = torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2)
    for _ in range(2):  # a second step begins anew
        messages, seconds = timeline.step(lambda: average.backward(network(pictures).square().sum()))
        assert [(kind, size) for _, size, kind in messages] == [
            *[(SUMS, 20), (SUMS, 16), (SUMS, 24), (SUMS, 20)],
            *[(SUMS, 20), (SUMS, 24), (BUCKET, 120)],
            *[(SUMS, 16), (SUMS, 20), (BUCKET, 80), (BACKWARD_END, 0)],
        ]
        times = [0.0, *(each.when for each in messages), seconds]
        assert times == sorted(times)


def test_a_bucket_whose_gradients_do_not_all_come_is_sent_when_backward_ends():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    average = GradientAverage([used, unused], bucket_bytes=8)
    timeline = Timeline(torch.device("cpu"))
    timeline.watch_gradients(average)
    messages, _ = timeline.step(lambda: average.backward(used.sum()))
    assert [(kind, size) for _, size, kind in messages] == [(BUCKET, 12), (BUCKET, 8), (BACKWARD_END, 0)]


def test_scores_are_noted_in_float32_and_so_are_their_gradients():
    timeline = Timeline(torch.device("cpu"))
    scores = torch.ones(2, 3, requires_grad=True)
    messages, _ = timeline.step(lambda: timeline.gather(2 * scores).sum().backward())
    assert [(kind, size) for _, size, kind in messages] == [(SCORES, 24), (SCORE_GRADIENTS, 24)]


def test_a_batch_norm_sends_once_in_each_direction_on_cuda_and_twice_on_a_cpu():
    assert model.sums_sent(10, "cuda") == ([(84, GATHERED_SUMS)], [(80, SUMS)])
    assert model.sums_sent(10, "cpu") == ([(44, SUMS), (40, SUMS)], [(40, SUMS), (44, SUMS)])


@pytest.mark.slow
@pytest.mark.skipif(machine.num_cores() < 2, reason="needs two cores")
def test_the_command_measures_two_processes_and_models_more(tmp_path):
    out = tmp_path / "scaling.json"
    flags = ["--quick", "--batch", "2", "--steps", "1", "--rounds", "1", "--most", "2", "--device", "cpu"]
    command = [sys.executable, "-m", "benchmarks.scaling", *flags, "--latency", "100", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    one, two = report["measured"]
    assert (one["processes"], two["processes"], one["efficiency"]) == (1, 2, 1.0)
    assert two["images_per_second"] == pytest.approx(4 / two["seconds"])
    model = report["model"]
    assert model["link"]["latency"] == pytest.approx(1e-4) and model["link"]["bandwidth"] > 0
    assert [row["processes"] for row in model["rows"]] == [2, 4, 8]
    # The generator has 5 batch norms; the discriminator 3, met by real, drawn and drawn again, and that of 3 + 1 pairs.
    assert model["messages"][SUMS]["count"] == 4 * (5 + 3 * 3 + 3 + 1)
    assert model["messages"][SCORES] == {"count": 2, "bytes": 2 * 4 * 2 * 2}
    updates = model["to_the_end_of_each_backward"]
    assert [len(each["buckets"]) for each in updates.values()] == [1, 1] and "discriminator 64" in updates
    assert sum(each["seconds"] for each in updates.values()) < model["seconds_alone"]
    assert "MEASURED" in done.stdout and "MODEL, from one process's step" in done.stdout
