"""What the API tells of a run's tasks, as steps on a screen, and what it comes to."""

import datetime
import io

import pytest

pytest.importorskip("kfp")

from attngan.storage.step_logs import Reason
from components.cluster import follow, outcome
from components.cluster.outcome import Outcome, Step

MISTAKE, LOST = Reason("raise it.", True), Reason("its log is missing.", False)


def task(name, **rest):
    from kfp_server_api import V2beta1PipelineTaskDetail

    return V2beta1PipelineTaskDetail(display_name=name, **rest)


def run_of(*tasks):
    from kfp_server_api import V2beta1Run, V2beta1RunDetails

    return V2beta1Run(run_details=V2beta1RunDetails(task_details=list(tasks)))


def moment(second):
    return datetime.datetime(2026, 1, 1, 0, 0, second, tzinfo=datetime.UTC)


def test_a_run_without_details_has_steps_that_wait():
    from kfp_server_api import V2beta1Run

    assert outcome.steps_of(V2beta1Run(), ["a"]) == [Step("a", "WAITING")]


def test_a_step_whose_driver_fails_has_failed_though_the_api_says_it_waits():
    run = run_of(task("a", state="PENDING"), task("a-driver", state="FAILED"), task("b-driver", state="SUCCEEDED"))
    assert outcome.steps_of(run, ["a", "b"]) == [Step("a", "FAILED", None, "its driver failed;"), Step("b")]
    (only_driver,) = outcome.steps_of(run_of(task("a-driver", state="FAILED")), ["a"])
    assert only_driver.state == "FAILED"


def test_of_two_tasks_of_one_name_the_later_counts():
    run = run_of(task("a", state="RUNNING", start_time=moment(9)), task("a", state="FAILED", start_time=moment(1)))
    assert outcome.steps_of(run, ["a"])[0].state == "RUNNING"


def test_times_that_have_not_come_are_no_times():
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=90)
    never = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
    (running,) = outcome.steps_of(run_of(task("a", state="RUNNING", start_time=start, end_time=never)), ["a"])
    assert running.seconds == pytest.approx(90, abs=5)
    (waiting,) = outcome.steps_of(run_of(task("a", state="PENDING", start_time=never)), ["a"])
    assert waiting == Step("a", "PENDING")


def steps(*states):
    return [Step(name, state) for name, state in zip("abcd", states)]


@pytest.mark.parametrize(
    ("state", "told", "is_settled"),
    [
        ("FAILED", ["SUCCEEDED", "RUNNING", "PENDING"], False),
        ("FAILED", ["SUCCEEDED", "PENDING", "PENDING"], False),
        ("FAILED", ["FAILED", "RUNNING", "PENDING"], False),
        ("FAILED", ["SUCCEEDED", "FAILED", "PENDING"], True),
        ("SUCCEEDED", ["SUCCEEDED", "SUCCEEDED", "RUNNING"], False),
        ("SUCCEEDED", ["SUCCEEDED", "SUCCEEDED", "PENDING"], False),
        ("SUCCEEDED", ["SUCCEEDED", "SUCCEEDED", "SUCCEEDED"], True),
        ("SUCCEEDED", ["SUCCEEDED", "PENDING", "WAITING"], True),
        ("SKIPPED", ["PENDING", "PENDING", "PENDING"], True),
    ],
)
def test_states_are_believed_when_they_fit_the_state_of_the_run(state, told, is_settled):
    assert outcome.is_settled(state, steps(*told)) == is_settled


@pytest.mark.parametrize(
    ("history", "was_terminated"),
    [
        (["PENDING", "RUNNING", "CANCELING", "FAILED"], True),
        (["PENDING", "RUNNING", "FAILED"], False),
        (["RUNNING", "CANCELING", "FAILED", "RUNNING", "FAILED"], False),  # retried since
        (["FAILED"], False),
        ([], False),
    ],
)
def test_a_run_was_terminated_if_that_is_the_last_that_happened_to_it(history, was_terminated):
    from kfp_server_api import V2beta1Run, V2beta1RuntimeStatus

    run = V2beta1Run(state_history=[V2beta1RuntimeStatus(state=state) for state in history])
    assert outcome.was_terminated(run) == was_terminated


@pytest.mark.parametrize(
    ("ended", "is_lost"),
    [
        (Outcome("FAILED", [], reasons={"a": LOST}), True),
        (Outcome("FAILED", []), True),
        (Outcome("FAILED", [], reasons={"a": LOST, "b": MISTAKE}), False),
        (Outcome("FAILED", [], was_terminated=True, reasons={"a": LOST}), False),
        (Outcome("SUCCEEDED", []), False),
        (Outcome("CANCELED", []), False),
    ],
)
def test_a_run_is_lost_if_it_failed_and_no_step_names_a_mistake(ended, is_lost):
    assert ended.is_lost == is_lost


def test_the_logs_of_failed_steps_are_asked_or_else_of_those_that_seem_to_run():
    assert outcome.suspects(steps("SUCCEEDED", "FAILED", "RUNNING", "PENDING")) == ["b"]
    assert outcome.suspects(steps("SUCCEEDED", "RUNNING", "PENDING")) == ["b"]


def test_in_the_end_what_never_ran_is_not_run_and_what_failed_has_its_reason():
    ended = outcome.final(steps("SUCCEEDED", "FAILED", "PENDING", "WAITING"), {"b": MISTAKE})
    assert ended == [
        Step("a", "SUCCEEDED"),
        Step("b", "FAILED", None, "raise it."),
        *steps("", "", *["not run"] * 2)[2:],
    ]


def test_on_a_terminal_the_table_stays_in_place():
    from rich.console import Console

    text = io.StringIO()
    with follow._Screen(["a", "b"], Console(file=text, force_terminal=True, width=60)) as screen:
        screen.show([Step("a", "RUNNING", 3.0), Step("b")])
        screen.show([Step("a", "FAILED", 65.4), Step("b")])
        screen.end([Step("a", "FAILED", 65.4, "[boom]"), Step("b", "not run")])
    assert "a  FAILED      0:01:05  [boom]" in text.getvalue()
    assert "b  not run" in text.getvalue()
    assert "\x1b[1A" in text.getvalue()
