"""Trackers get what is logged, once, and never stop or delay a training."""

import contextlib
import logging
import sys
import time
import types

import local_server
import mlflow_server
import pytest
from PIL import Image

from attngan.training import mlflow_run, trackers, wandb_run
from attngan.training.run_log import RunLog

MINE = ("MLFLOW_", "WANDB_")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Leave no variable of a tracker behind, as its client and ours set some."""
    import os

    for name in [name for name in os.environ if name.startswith(MINE)]:
        monkeypatch.delenv(name)
    before = dict(os.environ)
    levels = {name: logging.getLogger(name).level for name in ("mlflow", "urllib3.connectionpool")}
    monkeypatch.setattr(trackers, "PAUSE_SECONDS", 0.02)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("mlflow", reason="needs attngan[mlflow]")
    with local_server.running(mlflow_server.Server()) as running:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", running.url.replace("//", "//anna:Geheim4@"))
        yield running


@contextlib.contextmanager
def logged(folder, config, rows=(), kind="generator"):
    """Give the log of a training that begins, or goes on from rows."""
    folder.mkdir(exist_ok=True)
    with trackers.opened(kind, config, "state") as tracked:
        log = RunLog(folder, list(rows), tracked)
        yield log
        log.close()


def wait_until(is_so):
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_mlflow_gets_figures_settings_pictures_and_pages(server, smoke, tmp_path):
    with logged(tmp_path, smoke) as log:
        log.write(step=1, epoch=0.5, loss=0.25)
        log.write(step=2, epoch=1.0, loss=0.125)
        log.picture(2, "samples", Image.new("RGB", (4, 4)))
        (tmp_path / "progress.html").write_text("<p>fine</p>")
        log.page(tmp_path / "progress.html")
        log.trackers.facts(generator="f00")
    [run_id] = server.runs
    assert server.points("generator/loss") == [(1, 0.25), (2, 0.125)]
    assert server.values(run_id, "params")["training.batch_size"] == str(smoke.training.batch_size)
    assert server.values(run_id, "tags")["attngan.generator"] == "f00"
    assert server.runs[run_id]["info"]["status"] == "FINISHED"
    names = {name.split("/artifacts/")[1]: content for name, content in server.files.items()}
    assert names["generator/progress.html"] == b"<p>fine</p>"
    assert names["generator/samples/step-0000002.png"].startswith(b"\x89PNG")
    assert names.keys() == {
        "generator/config.yaml",
        "generator/progress.html",
        "generator/samples/step-0000002.png",
    }


def test_a_step_that_goes_on_finds_its_run_and_doubles_no_row(server, smoke, tmp_path):
    with contextlib.suppress(RuntimeError), logged(tmp_path, smoke) as log:
        log.write(step=1, loss=0.5)
        log.write(step=2, loss=0.25)
        raise RuntimeError("gone")
    [run_id] = server.runs
    assert server.runs[run_id]["info"]["status"] == "FAILED"
    longer = smoke.model_copy(update={"seed": smoke.seed + 1})
    with logged(tmp_path, longer, log.rows[:1]) as log:  # the state is older than the last row
        log.write(step=2, loss=0.25)
        log.write(step=3, loss=0.125)
    assert list(server.runs) == [run_id] and server.runs[run_id]["info"]["status"] == "FINISHED"
    assert server.points("generator/loss") == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert server.values(run_id, "params")["seed"] == str(smoke.seed)  # which no server changes
    [config] = [content for name, content in server.files.items() if name.endswith("config.yaml")]
    assert f"seed: {longer.seed}\n".encode() in config


def test_rows_of_a_run_that_went_back_stand_beside_those_before(server, smoke, tmp_path):
    with logged(tmp_path, smoke) as log:
        for step in (1, 2, 3):
            log.write(step=step, loss=0.5)
        wait_until(lambda: len(server.points("generator/loss")) == 3)
        log.restart(log.rows[:1])
        log.write(step=2, loss=0.25)
    assert server.points("generator/loss") == [(1, 0.5), (2, 0.5), (3, 0.5), (2, 0.25)]


def test_the_run_that_kubeflow_made_is_used_and_left_for_it_to_end(server, smoke, tmp_path, monkeypatch):
    run_id = server.post_runs_create({"experiment_id": "0"})["run"]["info"]["run_id"]
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with logged(tmp_path, smoke) as log:
        log.write(step=1, loss=0.5)
    assert list(server.runs) == [run_id] and server.points("generator/loss") == [(1, 0.5)]
    assert server.runs[run_id]["info"]["status"] == "RUNNING"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("closed", "broke the connection off"), ("denied", "refuses the credentials"), ("silent", "no answer in time")],
)
def test_a_tracker_that_does_not_answer_costs_a_training_two_lines(
    server, smoke, tmp_path, capsys, monkeypatch, fault, reason
):
    monkeypatch.setattr(trackers, "END_SECONDS", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    server.fault = fault
    __import__("mlflow")
    began = time.monotonic()
    with logged(tmp_path, smoke) as log:
        for step in range(1, 1001):
            log.write(step=step, loss=0.5)
        assert time.monotonic() - began < 1.0
        wait_until(lambda: log.trackers.senders[0].reason)
    assert time.monotonic() - began < 4.0
    said = capsys.readouterr()
    first, last = said.out.splitlines()
    assert first.endswith("the step goes on, and what is missing is sent later.") and reason in first
    assert "not sent: 1,000 of 1,000 rows of figures" in last and reason in last
    assert "Geheim4" not in said.out + said.err and "anna" not in said.out and said.err == ""
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1000


def test_what_a_tracker_misses_while_it_is_away_is_sent_when_it_is_back(server, smoke, tmp_path, capsys):
    with logged(tmp_path, smoke) as log:
        log.write(step=1, loss=0.5)
        sender = log.trackers.senders[0]
        wait_until(lambda: not sender._has_news())
        server.fault = "deaf"  # a row arrives whose answer is lost: sent again, it must not be there twice
        log.write(step=2, loss=0.25)
        wait_until(lambda: len(server.points("generator/loss")) == 2)
        server.fault = "closed"
        log.write(step=3, loss=0.125)
        time.sleep(0.1)
        server.fault = ""
        wait_until(lambda: len(server.points("generator/loss")) == 3)
    assert server.points("generator/loss") == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_without_the_client_one_line_says_so(smoke, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:Geheim4@nowhere")
    monkeypatch.setenv("WANDB_API_KEY", "Geheim5")
    for module in (mlflow_run, wandb_run):
        monkeypatch.setattr(module, "is_installed", lambda: False)
    with logged(tmp_path, smoke) as log:
        log.write(step=1, loss=0.5)
    assert capsys.readouterr().out.splitlines() == [
        "MLFLOW_TRACKING_URI is set, but MLflow's client is not installed: nothing is sent there (attngan[mlflow]).",
        "WANDB_API_KEY is set, but wandb is not installed: nothing is sent there (attngan[wandb]).",
    ]


def test_without_variables_nothing_is_tracked(smoke):
    with trackers.opened("generator", smoke, "state") as tracked:
        assert tracked.senders == []


def test_pictures_that_wait_take_only_so_much_memory(smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "MAX_BYTES", 100)
    sender = trackers.Sender(mlflow_run.MlflowRun("generator", "key", smoke))
    sender.add(files={"samples/bundle": tmp_path})  # stays on the disk
    for number in range(5):
        sender.add(files={f"generator/{number}.png": b"." * 40})
    sender.add(files={"generator/4.png": b"," * 40})  # a newer one of that name
    assert sender.files == {
        "samples/bundle": tmp_path,
        "generator/3.png": b"." * 40,
        "generator/4.png": b"," * 40,
    }
    assert sender.num_dropped == 3


@pytest.mark.slow
def test_every_step_is_tracked(server, dataset, damsm, generator, smoke, tmp_path, few_pictures):
    from attngan.steps.evaluate import evaluate
    from attngan.steps.export_samples import export_samples
    from attngan.steps.pretrain_damsm import pretrain_damsm
    from attngan.steps.train_generator import train_generator

    pretrain_damsm(dataset, tmp_path / "damsm", smoke)
    train_generator(dataset, damsm, tmp_path / "generator", smoke)
    figures = evaluate(dataset, damsm, generator, tmp_path / "metrics", smoke)
    export_samples(generator, tmp_path / "gallery", tmp_path / "bundle", smoke, dataset=dataset)
    runs = {run["info"]["run_name"]: run["info"] for run in server.runs.values()}
    assert list(runs) == ["damsm", "generator", "metrics", "samples"]
    assert {info["status"] for info in runs.values()} == {"FINISHED"}
    assert server.points("metrics/r_precision") == [(0, figures["r_precision"])]
    assert [step for step, _ in server.points("generator/variety")] and server.points("damsm/recall_at_1")
    names = {name.split("/artifacts/")[1] for name in server.files}
    assert names >= {
        *("damsm/progress.html", "generator/progress.html", "metrics/report.html", "samples/gallery.html"),
        *("samples/bundle/generator.safetensors", "samples/bundle/manifest.json"),
    }
    evaluate(dataset, damsm, generator, tmp_path / "metrics", smoke)
    assert len(server.points("metrics/r_precision")) == 1


class WandbRun:
    """What a run of wandb does with what it is given, as far as attngan asks it."""

    def __init__(self, summary):
        self.summary, self.logged, self.config, self.exit_code = summary, [], {}, None
        self.config = types.SimpleNamespace(update=lambda *_, **__: None)

    def define_metric(self, name, step_metric):
        self.axis = (name, step_metric)

    def log(self, figures):
        self.logged.append(figures)
        self.summary |= figures

    def finish(self, exit_code):
        self.exit_code = exit_code


def test_wandb_gets_figures_and_goes_on_after_the_last_one(smoke, tmp_path, monkeypatch):
    module, made, summary = types.ModuleType("wandb"), [], {}
    module.Settings = lambda **given: given

    def init(**given):
        made.append((given, WandbRun(summary)))
        return made[-1][1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(wandb_run, "is_installed", lambda: True)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with logged(tmp_path, smoke) as log:
        log.write(step=1, loss=0.5)
        log.write(step=2, loss=0.25)
    with logged(tmp_path, smoke, log.rows[:1]) as log:
        log.write(step=2, loss=0.25)
        log.write(step=3, loss=0.125)
    (first, run), (second, again) = made
    assert first["id"] == second["id"] and first["resume"] == "allow" and first["config"]["seed"] == str(smoke.seed)
    assert run.axis == ("generator/*", "generator/step") and run.exit_code == 0
    assert [each["generator/step"] for each in run.logged] == [1, 2]
    assert again.logged == [{"generator/step": 3, "generator/loss": 0.125}]
