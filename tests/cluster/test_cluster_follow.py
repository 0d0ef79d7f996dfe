"""What the API tells of a run's tasks, as steps on a screen."""

import datetime
import io

import pytest

pytest.importorskip("kfp")

from components.cluster import follow


def task(name, **rest):
    from kfp_server_api import V2beta1PipelineTaskDetail

    return V2beta1PipelineTaskDetail(display_name=name, **rest)


def run_of(*tasks):
    from kfp_server_api import V2beta1Run, V2beta1RunDetails

    return V2beta1Run(run_details=V2beta1RunDetails(task_details=list(tasks)))


def test_a_run_without_details_has_steps_that_wait():
    from kfp_server_api import V2beta1Run

    assert follow.steps_of(V2beta1Run(), ["a"]) == [follow.Step("a", "WAITING")]


def test_a_step_whose_driver_fails_has_failed():
    from kfp_server_api import GoogleRpcStatus, V2beta1RuntimeStatus

    history = [V2beta1RuntimeStatus(state="FAILED", error=GoogleRpcStatus(message="no\nsuch bucket"))]
    run = run_of(task("a-driver", state="FAILED", state_history=history), task("b-driver", state="SUCCEEDED"))
    assert follow.steps_of(run, ["a", "b"]) == [follow.Step("a", "FAILED", None, "no such bucket"), follow.Step("b")]


def test_times_that_have_not_come_are_no_times():
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=90)
    never = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
    (running,) = follow.steps_of(run_of(task("a", state="RUNNING", start_time=start, end_time=never)), ["a"])
    assert running.seconds == pytest.approx(90, abs=5)
    (waiting,) = follow.steps_of(run_of(task("a", state="PENDING", start_time=never)), ["a"])
    assert waiting == follow.Step("a", "PENDING")


def test_on_a_terminal_the_table_stays_in_place():
    from rich.console import Console

    text = io.StringIO()
    with follow._Screen(["a", "b"], Console(file=text, force_terminal=True, width=60)) as screen:
        screen.show([follow.Step("a", "RUNNING", 3.0), follow.Step("b")])
        screen.show([follow.Step("a", "FAILED", 65.4, "[boom]"), follow.Step("b")])
    assert "a  FAILED      0:01:05  [boom]" in text.getvalue()
    assert "\x1b[1A" in text.getvalue()
