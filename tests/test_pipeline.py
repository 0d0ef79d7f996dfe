"""The compiled graph, and the whole pipeline at its smallest size, run locally."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("kfp")

import components
import pipeline
from attngan.data import drawn_birds
from components import compiled, local_run, local_runner

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def specification(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compiled.write(pipeline.attngan_pipeline, path)
    return compiled.read(path)


def test_the_tasks_run_in_the_order_of_the_steps(specification):
    assert compiled.ordered_tasks(specification) == [name.replace("_", "-") for name in components.__all__]


def test_each_task_takes_what_it_needs_and_nothing_more(specification):
    assert compiled.edges(specification) == {
        "preprocess": set(),
        "pretrain-damsm": {"preprocess"},
        "train-generator": {"preprocess", "pretrain-damsm"},
        "evaluate": {"preprocess", "pretrain-damsm", "train-generator"},
        "export-samples": {"preprocess", "train-generator", "evaluate"},
        "publish": {"export-samples", "evaluate"},
    }


def test_the_pipeline_asks_for_the_source_and_the_model_uri_only(specification):
    parameters = specification["root"]["inputDefinitions"]["parameters"]
    required = {name for name, parameter in parameters.items() if not parameter.get("isOptional")}
    assert required == {"source", "model_uri"}
    assert set(parameters) == required | {"config", "captions", "inception_weights", "checkpoint_root", "force"}


def test_settings_travel_as_one_text_to_every_step(specification):
    for name, task in specification["root"]["dag"]["tasks"].items():
        assert task["inputs"]["parameters"]["config"] == {"componentInputParameter": "config"}, name


def test_publishing_is_never_taken_from_the_cache(specification):
    tasks = specification["root"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert set(tasks) - cached == {"publish"}


def test_components_install_nothing_when_they_start(specification):
    for executor in specification["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def run_pipeline(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "pipeline.py"), "run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_a_step_that_fails_is_named_with_its_log_and_status_two(tmp_path):
    (tmp_path / "empty").mkdir()
    run = run_pipeline("--source", str(tmp_path / "empty"), "--out", str(tmp_path / "out"))
    log = tmp_path / "out" / "logs" / "preprocess.log"
    assert run.returncode == 2, run.stderr
    assert "the step preprocess failed" in run.stderr
    assert str(log) in run.stderr
    assert log.is_file()
    assert "Traceback" not in run.stdout + run.stderr


@pytest.mark.parametrize(("place", "said"), [("missing", "no such file or folder"), ("python3-birds", "python3")])
def test_a_source_that_cannot_be_passed_on_is_refused_before_any_step(tmp_path, place, said):
    if place != "missing":
        (tmp_path / place).mkdir()
    run = run_pipeline("--source", str(tmp_path / place), "--out", str(tmp_path / "out"))
    assert run.returncode == 2
    assert said in run.stderr
    assert not (tmp_path / "out").exists()


def test_finished_steps_are_taken_again_only_for_the_same_files(tmp_path):
    (tmp_path / "one.txt").write_text("one", encoding="utf-8")
    arguments = {"source": str(tmp_path), "captions": "", "inception_weights": ""}
    first = local_run.fingerprint(arguments)
    assert local_run.fingerprint(arguments) == first
    (tmp_path / "one.txt").write_text("more", encoding="utf-8")
    assert local_run.fingerprint(arguments) != first


def runner_for(tmp_path: Path, console) -> local_runner.StepRunner:
    return local_runner.StepRunner(tmp_path, ROOT, console)


def step_command(script: str) -> list[str]:
    return ["sh", "-c", script, "--function_to_execute", "preprocess"]


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ("echo 'attngan: give another.' >&2; exit 2", 2, "give another."),
        ("echo working; echo 'ValueError: a bug'; exit 1", 1, "ValueError: a bug"),
        ("kill -KILL $$", -9, "it was ended by SIGKILL"),
        ("exit 3", 3, "it printed nothing"),
    ],
)
def test_a_failure_says_why(tmp_path, script, status, reason):
    with (tmp_path / "console").open("w", encoding="utf-8") as console:
        runner = runner_for(tmp_path, console)
        assert runner.run(step_command(script)) == status
    assert runner.failure == local_runner.Failure("preprocess", status, tmp_path / "preprocess.log", reason)


def test_the_executors_own_lines_go_to_the_log_only(tmp_path):
    noise = "[KFP Executor 1 INFO]: Got executor_input:\n{\n  1\n}\n[KFP Executor 2 INFO]: x\n"
    with (tmp_path / "console").open("w", encoding="utf-8") as console:
        runner_for(tmp_path, console).run(step_command(f"printf '%s' '{noise}'; echo half way"))
    assert (tmp_path / "console").read_text(encoding="utf-8") == "== preprocess ==\nhalf way\n"
    assert (tmp_path / "preprocess.log").read_text(encoding="utf-8") == noise + "half way\n"


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_the_step_finish_its_save_and_leaves_no_process(tmp_path, signum, status):
    step = (
        "import pathlib, signal, subprocess, sys, time\n"
        "def save(*_):\n"
        "    time.sleep(0.5); pathlib.Path('saved').write_text('x'); sys.exit(0)\n"
        "signal.signal(signal.SIGINT, save); signal.signal(signal.SIGTERM, save)\n"
        "helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('helper').write_text(str(helper.pid)); print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "step.py").write_text(step, encoding="utf-8")
    code = (
        "import pathlib, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from attngan import exit_status\n"
        "from components import local_runner\n"
        "here = pathlib.Path('.')\n"
        "with exit_status.reported(here):\n"
        "    runner = local_runner.StepRunner(here, here, sys.stdout)\n"
        "    runner.run(['sh', '-c', sys.executable + ' step.py; :', '--function_to_execute', 'x'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["== x ==\n", "ready\n"]
        os.kill(process.pid, signum)
        assert process.wait(timeout=60) == status
    assert (tmp_path / "saved").is_file()
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(int((tmp_path / "helper").read_text(encoding="utf-8")))


def _wait_until_gone(pid: int) -> None:
    """Raise ProcessLookupError once the process has ended; a zombie that nobody waits for has ended too."""
    for _ in range(50):
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/status")
        if status.is_file() and "State:\tZ" in status.read_text(encoding="utf-8"):
            raise ProcessLookupError
        time.sleep(0.1)


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("birds") / "drawn"
    drawn_birds.draw(folder, count=len(drawn_birds.bird_classes()) * 2, seed=1)
    return folder


def test_the_whole_pipeline_runs_at_its_smallest_size_and_again_from_what_is_there(birds, tmp_path):
    arguments = ["--source", str(birds), "--config", "smoke", "--out", str(tmp_path / "out")]
    first = run_pipeline(*arguments, OMP_NUM_THREADS="1")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    for name in ("gallery/index.html", "bundle/manifest.json", "report.html", "progress.html"):
        result = tmp_path / "out" / name
        assert result.is_file(), name
        assert result.resolve().suffix == result.suffix, "a browser goes by the name behind a link"
    assert {path.stem for path in (tmp_path / "out" / "logs").iterdir()} == set(components.__all__)
    scores = json.loads((tmp_path / "out" / "bundle" / "provenance.json").read_text(encoding="utf-8"))
    assert scores
    again = run_pipeline(*arguments)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "5 of 6 steps had finished before" in again.stdout
    assert again.stdout.count("== publish ==") == 1
