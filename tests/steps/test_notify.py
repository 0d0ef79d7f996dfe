"""The notice of a run's end, as a receiver gets it, and what keeps it from being sent."""

import time

import local_server
import pytest
import receiver
import run_logs

pytest.importorskip("kfp")

from kfp.dsl import PipelineTaskFinalStatus

from attngan.runtime import webhook
from attngan.steps import notify as step
from attngan.storage import places, run_ending
from attngan.storage.champion import ModelFolder
from attngan.storage.run_ending import Ending
from components.notify import notify

RUN = "7b1f2a34-9c0d-4e5f-8a6b-0123456789ab"
PAGE = "https://kubeflow.test/#/runs/details/"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(webhook, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(webhook, "SECONDS", 0.15)
    with local_server.running(receiver.Server()) as server:
        yield server


def sent(root, *, to="attngan-notify/url", state="COMPLETE", models="models"):
    """Let the component do its work as the exit task of a run below a root."""
    status = PipelineTaskFinalStatus(state, "attngan-x7k2p", "exit-handler-1", None, None)
    given = {"run_id": RUN, "run_name": "weekly <1> & more", "page": PAGE, "runs": f"{root}/attngan"}
    notify.python_func(to=to, **given, model_uri=f"{root}/{models}", status=status)


@pytest.fixture
def secret(server, monkeypatch):
    monkeypatch.setenv("ATTNGAN_NOTIFY_URL", f"{server.url}\n")  # as a file with a line in it becomes a secret


def put(root, name, log):
    run_logs.put(f"{root}/attngan/{RUN}", name, log)


def body(server):
    (request,) = server.requests
    return request["body"]


def test_a_promotion_is_told_with_its_figures(root, server, secret, capsys):
    put(root, "publish", run_logs.done(run_logs.PROMOTED))
    figures = {"metric": "kid", "challenger": 0.05123, "champion": 0.07131}
    ModelFolder(f"{root}/models").remember({"promoted": True, "reason": run_logs.PROMOTED, "origin": None, **figures})
    sent(root)
    assert body(server) == {
        "text": f"<{PAGE}{RUN}|weekly &lt;1&gt; &amp; more>: *promoted*\nkid 0.0512, the champion has 0.0713",
        "run_id": RUN,
        "run_name": "weekly <1> & more",
        "link": f"{PAGE}{RUN}",
        "verdict": "promoted",
        "reason": run_logs.PROMOTED,
        "failed_step": None,
        **figures,
    }
    assert capsys.readouterr().out == f"the notice was sent to {server.host}: promoted\n"


def test_a_failure_is_told_with_its_step_and_its_sentence(root, server, secret):
    put(root, "preprocess", run_logs.done())
    put(root, "train-generator", f"{run_logs.BEGUN}attngan: training.batch_size: lower it.\n")
    sent(root, state="FAILED")
    told = body(server)
    assert (told["verdict"], told["failed_step"]) == ("failed", "train-generator")
    assert told["reason"] == "training.batch_size: lower it."
    assert told["text"].endswith(": *failed at train-generator*\ntraining.batch_size: lower it.")
    assert (told["metric"], told["challenger"], told["champion"]) == (None, None, None)


@pytest.mark.parametrize(
    ("state", "verdict"),
    [("COMPLETE", "succeeded"), ("SUCCEEDED", "succeeded"), ("FAILED", "failed"), ("RUNNING", "failed")],
)
def test_without_logs_there_is_what_kubeflow_says(tmp_path, server, secret, state, verdict):
    """RUNNING is what it says where a pod went away without a word, as of a run that was terminated."""
    sent(str(tmp_path), state=state)
    assert body(server)["verdict"] == verdict


def test_nothing_new_and_a_model_that_was_not_better_are_told(tmp_path, server, secret):
    root = str(tmp_path)
    put(root, "detect-changes", run_logs.done(run_logs.NOTHING_NEW))
    sent(root)
    put(root, "publish", run_logs.done(run_logs.KEPT))
    sent(root)
    first, second = (request["body"] for request in server.requests)
    assert (first["verdict"], second["verdict"]) == ("nothing new", "kept")
    assert first["text"].endswith(f": *nothing new*\n{run_logs.NOTHING_NEW}")
    assert second["text"].endswith(": *kept*\nkid 0.08, the champion has 0.0713; better by more than 0 is asked for")


def test_a_history_that_cannot_be_read_leaves_out_the_figures(tmp_path, server, secret, capsys):
    root = str(tmp_path)
    put(root, "publish", run_logs.done(run_logs.PROMOTED))
    places.write(f"{root}/models/champion.json", b"{", generation=0)
    sent(root)
    assert body(server)["verdict"] == "promoted" and body(server)["metric"] is None
    assert "the notice goes without figures: " in capsys.readouterr().out


def test_a_history_that_does_not_answer_is_not_waited_for(tmp_path, server, secret, monkeypatch):
    root = str(tmp_path)
    put(root, "publish", run_logs.done(run_logs.PROMOTED))
    monkeypatch.setattr(run_ending, "SECONDS", 0.2)
    monkeypatch.setattr(run_ending, "figures_of", lambda *_: time.sleep(5))
    sent(root)
    assert body(server)["verdict"] == "promoted" and body(server)["metric"] is None


def test_an_address_without_a_secret_is_given_as_it_is(tmp_path, server, monkeypatch):
    monkeypatch.delenv("ATTNGAN_NOTIFY_URL", raising=False)
    sent(str(tmp_path), to=f"{server.host}/hook")
    assert server.requests[0]["path"] == "/hook"


def said(root, capsys, **how):
    """Return what the component prints that could send nothing; it must not fail, and must not tell the address."""
    sent(root, **how)
    said = capsys.readouterr()
    assert said.err == "" and not any(part in said.out for part in receiver.SECRET.split("/"))
    assert said.out.startswith("no notice was sent: ")
    return said.out.removeprefix("no notice was sent: ").rstrip()


@pytest.mark.parametrize("answer", [(500,), (301, "", {"Location": receiver.ELSEWHERE}), (404,), "nothing", "garbage"])
def test_a_receiver_that_takes_nothing_fails_no_run(tmp_path, server, secret, capsys, answer):
    server.answers = [answer]
    assert said(str(tmp_path), capsys).startswith(f"{server.host}: ")


def test_a_receiver_that_is_down_for_a_moment_gets_its_notice(tmp_path, server, secret):
    server.answers = [(500,), (200, "ok")]
    sent(str(tmp_path))
    assert len(server.requests) == 2


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_secret_that_is_not_there_is_named(tmp_path, capsys, monkeypatch, value):
    monkeypatch.delenv("ATTNGAN_NOTIFY_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("ATTNGAN_NOTIFY_URL", value)
    expected = "the secret attngan-notify is not in the namespace of this run, or has no key url; make it."
    assert said(str(tmp_path), capsys) == expected


def test_a_secret_that_is_no_address_is_not_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ATTNGAN_NOTIFY_URL", receiver.SECRET)
    assert said(str(tmp_path), capsys).startswith("expected an address such as https://host/path")


def test_a_bug_fails_no_run_and_tells_no_secret(tmp_path, server, secret, capsys, monkeypatch):
    def broken(*_):
        raise RuntimeError(server.url)

    monkeypatch.setattr(webhook, "post", broken)
    sent(str(tmp_path))
    told = capsys.readouterr()
    assert told.out == "no notice was sent: RuntimeError\n"
    assert "in broken" in told.err and receiver.SECRET not in told.err


def test_a_message_of_a_run_without_a_reason_is_one_line():
    assert step.message(Ending("succeeded"), "weekly", PAGE) == f"<{PAGE}|weekly>: *succeeded*"
