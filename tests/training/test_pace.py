"""Rate, time left and cost of a training."""

import torch

from attngan.training import pace
from attngan.training.pace import Pace

CPU = torch.device("cpu")


def test_pace_counts_what_this_process_did_and_prices_the_whole_run(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    run = Pace(1000, total=3000, batch_size=10, price_per_hour=7.2, device=CPU)
    assert run.text() == ""
    now[0] += 50.0
    run.move(1100)  # half a second a step
    assert run.text() == "20 images/s, 0:15:50 left. At 7.2 an hour: 1.10 so far, 3.00 in all."


def test_going_back_is_no_progress(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    run = Pace(0, total=100, batch_size=1, price_per_hour=0.0, device=CPU)
    for step, seconds in ((10, 10.0), (5, 0.0), (15, 10.0)):
        now[0] += seconds
        run.move(step)
    assert run.text() == "1 images/s, 0:01:25 left."


def test_the_forecast_comes_once_from_steps_that_are_warm(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    run = Pace(100, total=3600, batch_size=1, price_per_hour=3.0, device=CPU)
    told = []
    for step in range(101, 140):
        now[0] += 60.0 if step <= 105 else 2.0
        told.append(run.forecast(step))
    said = "all 3,600 steps take about 2:00:00 here and cost 6.00."
    assert [text for text in told if text] == [said] and told.index(said) == 24


def test_the_forecast_counts_what_the_device_has_done(monkeypatch):
    """A host that only launches steps is ahead of its device; both ends of the counted time are waited for."""
    now, behind = [0.0], [0.0]

    def wait(device):
        now[0] += behind[0]
        behind[0] = 0.0

    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pace.acceleration, "wait", wait)
    run = Pace(0, total=3600, batch_size=1, price_per_hour=0.0, device=torch.device("cuda", 0))
    told = []
    for step in range(1, 30):
        behind[0] += 1.0  # launched in no time
        told.append(run.forecast(step))
    assert [text for text in told if text] == ["all 3,600 steps take about 1:00:00 here."]
