"""The compiled graph, and the whole pipeline at its smallest size, run locally."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("kfp")


import components
import pipeline
from attngan.config import settings as configs
from attngan.data.toy import drawn_birds
from attngan.errors import InputError
from attngan.runtime import exit_status
from attngan.runtime.console import say_result
from attngan.storage import folder_lock
from components import compiled
from components.image import check_pinned
from components.local import processes, step_log

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compiled.write(pipeline.attngan_pipeline, path)
    return compiled.read(path)


@pytest.fixture(scope="module")
def specification(documents):
    return documents[0]


@pytest.fixture(scope="module")
def tasks(specification):
    return compiled.six_steps(specification)


STEPS = [name for name in components.__all__ if name != "detect_changes"]


def test_a_folder_is_no_file_to_compile_into(tmp_path, monkeypatch):
    folder = tmp_path / "above" / "folder"
    folder.mkdir(parents=True)
    monkeypatch.setattr(pipeline, "IMAGE", "registry.test/attngan:1a2b3c")
    folder.parent.chmod(0o500)  # nothing is written beside it
    result = CliRunner().invoke(pipeline.app, ["compile", "-o", str(folder)])
    folder.parent.chmod(0o700)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"attngan: {folder}: expected the name of a file, found a folder;")


def test_the_tasks_run_in_the_order_of_the_steps(tasks):
    assert compiled.ordered_tasks(tasks) == [name.replace("_", "-") for name in STEPS]


def test_each_task_takes_what_it_needs_and_nothing_more(tasks):
    assert compiled.edges(tasks) == {
        "preprocess": set(),
        "pretrain-damsm": {"preprocess"},
        "train-generator": {"preprocess", "pretrain-damsm"},
        "evaluate": {"preprocess", "pretrain-damsm", "train-generator"},
        "export-samples": {"preprocess", "pretrain-damsm", "train-generator", "evaluate"},
        "publish": {"export-samples", "evaluate"},
    }


def test_the_pipeline_asks_for_the_source_and_the_model_uri_only(specification):
    parameters = specification["root"]["inputDefinitions"]["parameters"]
    required = {name for name, parameter in parameters.items() if not parameter.get("isOptional")}
    assert required == {"source", "model_uri"}


def test_the_six_steps_wait_for_the_word_that_something_is_new(specification):
    condition = specification["root"]["dag"]["tasks"]["condition-1"]
    assert condition["dependentTasks"] == ["detect-changes"]
    expected = "inputs.parameter_values['pipelinechannel--detect-changes-Output'] == true"
    assert condition["triggerPolicy"] == {"condition": expected}


def test_settings_travel_as_one_text_to_every_step(tasks):
    for name, task in tasks.items():
        assert task["inputs"]["parameters"]["config"] == {"componentInputParameter": "pipelinechannel--config"}, name


def test_what_looks_behind_uris_is_never_taken_from_the_cache(specification, tasks):
    everything = {**tasks, "detect-changes": specification["root"]["dag"]["tasks"]["detect-changes"]}
    cached = {name for name, task in everything.items() if task["cachingOptions"].get("enableCache")}
    assert set(everything) - cached == {"publish", "detect-changes"}


def test_what_reads_a_source_is_cached_by_what_the_source_holds(tasks):
    for name in ("preprocess", "pretrain-damsm"):
        given = tasks[name]["inputs"]["parameters"]["inputs"]
        assert given == {"componentInputParameter": "pipelinechannel--detect-changes-inputs"}


def test_components_install_nothing_when_they_start(specification):
    for executor in specification["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_every_task_runs_the_image_that_the_run_names(specification):
    for executor in specification["deploymentSpec"]["executors"].values():
        assert executor["container"]["image"] == "{{$.inputs.parameters['pipelinechannel--image']}}"


def test_a_step_of_days_is_tried_again_after_days(specification, tasks):
    on_gpus = {"pretrain-damsm", "train-generator", "evaluate"}
    for name, task in {**tasks, **specification["root"]["dag"]["tasks"]}.items():
        if name != "condition-1":
            assert task["retryPolicy"] == {
                "maxRetryCount": 10 if name in on_gpus else 2,
                "backoffDuration": "60s",
                "backoffFactor": 1.0,
                "backoffMaxDuration": f"{14 * 24 * 3600}s",
            }


def test_what_the_backend_fills_into_image_and_resources_is_text(specification):
    """KFP's driver reads those placeholders as strings: a number would be an empty one."""
    parameters = specification["root"]["inputDefinitions"]["parameters"]
    for executor in specification["deploymentSpec"]["executors"].values():
        container = executor["container"]
        text = json.dumps([container["image"], container.get("resources")])
        for name in re.findall(r"pipelinechannel--(\w+)", text):
            assert parameters[name]["parameterType"] == "STRING", name


def test_what_a_task_reads_at_run_time_reaches_the_level_it_runs_on(documents):
    """A placeholder names an input of its task, an input of a task or pod one of the level of the graph it is on."""
    specification, platform = documents
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for level in [specification["root"], *specification["components"].values()]:
        known = set(level.get("inputDefinitions", {}).get("parameters", {}))
        for name, task in level.get("dag", {}).get("tasks", {}).items():
            executor = specification["deploymentSpec"]["executors"].get(f"exec-{name}", {})
            read = re.findall(r"inputs\.parameters\['([^']+)'\]", json.dumps([task, executor]))
            given = task["inputs"].get("parameters", {})
            assert set(read) <= set(given), name
            text = json.dumps([given, pods.get(f"exec-{name}", {})])
            assert set(re.findall(r'"componentInputParameter": "([^"]+)"', text)) <= known, name


@pytest.mark.parametrize(
    ("step", "count", "group"),
    [
        ("pretrain-damsm", "num_gpus", ""),
        ("train-generator", "num_gpus", ""),
        ("evaluate", "evaluation_gpus", "evaluation_"),
    ],
)
def test_steps_on_gpus_are_placed_by_parameters(documents, step, count, group):
    specification, platform = documents

    def parameter(name):
        return f"{{{{$.inputs.parameters['pipelinechannel--{name}']}}}}"

    resources = specification["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["resources"]
    assert resources["accelerator"] == {"resourceCount": parameter(count), "resourceType": parameter("gpu_type")}
    assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"] == parameter(f"{group}cpu")
    assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"] == parameter(f"{group}memory")
    pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{step}"]
    selector, tolerations = f"pipelinechannel--{group}node_selector", f"pipelinechannel--{group}tolerations"
    assert pod["nodeSelector"] == {"nodeSelectorJson": {"componentInputParameter": selector}}
    assert pod["tolerations"] == [{"tolerationJson": {"componentInputParameter": tolerations}}]
    assert pod["emptyDirMounts"][0]["mountPath"] == "/dev/shm"


@pytest.mark.parametrize(
    "image",
    ["attngan/python", "attngan/python:latest", "host:5000/attngan", "a/b:1a2b3c-dirty", "a/b:unknown", "a/b@c"],
)
def test_an_image_that_may_be_another_one_tomorrow_is_refused(image):
    with pytest.raises(InputError, match="expected a digest"):
        check_pinned(image)


@pytest.mark.parametrize("image", ["attngan/python:1a2b3c", f"host:5000/attngan@sha256:{64 * '0'}"])
def test_an_image_of_a_commit_or_a_digest_is_taken(image):
    check_pinned(image)


def run_pipeline(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "pipeline.py"), "run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.mark.slow
def test_a_step_that_fails_is_named_with_its_log_and_status_two(tmp_path):
    (tmp_path / "empty").mkdir()
    run = run_pipeline("--source", str(tmp_path / "empty"), "--out", str(tmp_path / "out"), "--config", "smoke")
    log = tmp_path / "out" / "logs" / "preprocess.log"
    assert run.returncode == 2, run.stderr
    assert "the step preprocess failed" in run.stderr
    assert str(log) in run.stderr
    assert log.is_file()
    assert "Traceback" not in run.stdout + run.stderr


def refusal(*arguments: str) -> str:
    """Return what `pipeline.py run` says in this process, where it ends with status 2."""
    result = CliRunner().invoke(pipeline.app, ["run", *arguments])
    assert result.exit_code == exit_status.PERSON, (result.output, result.exception)
    return result.stderr


@pytest.mark.parametrize(("place", "said"), [("missing", "no such file or folder"), ("python3-birds", "python3")])
def test_a_source_that_cannot_be_passed_on_is_refused_before_any_step(tmp_path, place, said):
    if place != "missing":
        (tmp_path / place).mkdir()
    assert said in refusal("--source", str(tmp_path / place), "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["report.html", "gallery/index.html"])
def test_files_of_somebody_are_told_before_any_step(tmp_path, name):
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True)
    place.write_text("mine", encoding="utf-8")
    (tmp_path / "source").mkdir()
    arguments = ["run", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "out"), "--config", "smoke"]
    ended = CliRunner().invoke(pipeline.app, arguments)
    assert ended.exit_code == 2 and f"out/{name.split('/')[0]}: expected nothing there" in ended.output, ended.output
    assert place.read_text(encoding="utf-8") == "mine" and not (tmp_path / "out" / "config.yaml").exists()


def test_a_folder_takes_one_run_at_a_time(birds, tmp_path):
    folder = tmp_path / "out"
    with folder_lock.held(folder):
        said = refusal("--source", str(birds), "--out", str(folder), "--config", "smoke")
    assert "another run is at work there" in said and not folder.exists(), "nothing was begun"


def test_what_is_for_containers_is_refused_without_them(tmp_path):
    assert "give --docker too" in refusal("--source", str(tmp_path), "--out", str(tmp_path / "out"), "--gpus")


@pytest.mark.parametrize(
    ("flags", "uri", "said"),
    [
        ([], "weights.pth", "evaluate.mobilenet_v2.uri: weights.pth: steps run elsewhere; give the whole path, /"),
        (["--docker"], "gs://bucket/weights.pth", "a container here has no network; download the file and name that"),
    ],
)
def test_weights_that_steps_would_not_find_are_refused_before_any_step(flags, uri, said, tmp_path, monkeypatch):
    from attngan.config import settings
    from attngan.errors import InputError
    from components.local import run

    config = settings.load(overrides=[f"evaluate.mobilenet_v2.uri={uri}"])
    with pytest.raises(InputError, match=re.escape(said)):
        run.check_weights(config, docker=bool(flags))
    run.check_weights(settings.load(overrides=["evaluate.mobilenet_v2.uri=/weights.pth"]), docker=bool(flags))


def runner_for(tmp_path: Path, console) -> processes.ProcessRunner:
    return processes.ProcessRunner(tmp_path, ROOT, console)


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
    assert runner.failure == step_log.Failure("preprocess", status, tmp_path / "preprocess.log", reason)


def test_the_executors_own_lines_go_to_the_log_only(tmp_path):
    noise = "[KFP Executor 1 INFO]: Got executor_input:\n{\n  1\n}\n[KFP Executor 2 INFO]: x\n"
    with (tmp_path / "console").open("w", encoding="utf-8") as console:
        runner_for(tmp_path, console).run(step_command(f"printf '%s' '{noise}'; echo half way"))
    assert (tmp_path / "console").read_text(encoding="utf-8") == "== preprocess ==\nhalf way\n"
    assert (tmp_path / "preprocess.log").read_text(encoding="utf-8") == noise + "half way\n"


def test_a_step_of_a_whole_run_leaves_its_results_to_the_end(tmp_path, capsys, monkeypatch):
    with (tmp_path / "console").open("w", encoding="utf-8") as console:
        runner_for(tmp_path, console).run(step_command("env | grep ATTNGAN_TOLD"))
    name, value = (tmp_path / "console").read_text(encoding="utf-8").splitlines()[1].split("=")
    say_result("alone")
    monkeypatch.setenv(name, value)
    say_result("in a run")
    assert capsys.readouterr().out == "alone\n"


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
        "from attngan.runtime import exit_status\n"
        "from components.local import processes\n"
        "here = pathlib.Path('.')\n"
        "with exit_status.reported(here):\n"
        "    runner = processes.ProcessRunner(here, here, sys.stdout)\n"
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


@pytest.mark.slow
def test_the_whole_pipeline_runs_at_its_smallest_size_and_again_from_what_is_there(birds, tmp_path):
    arguments = ["--source", str(birds), "--config", "smoke", "--out", str(tmp_path / "out")]
    first = run_pipeline(*arguments, OMP_NUM_THREADS="1")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    for name in ("gallery/index.html", "bundle/manifest.json", "report.html", "progress.html", "damsm-progress.html"):
        result = tmp_path / "out" / name
        assert result.is_file(), name
        assert result.resolve().suffix == result.suffix, "a browser goes by the name behind a link"
    assert first.stdout.count("\n  fits its caption (R-precision)") == 1
    assert first.stdout.splitlines()[-1].startswith("not promoted: the model has not learnt")
    assert {path.stem for path in (tmp_path / "out" / "logs").iterdir()} == set(STEPS)
    scores = json.loads((tmp_path / "out" / "bundle" / "provenance.json").read_text(encoding="utf-8"))
    assert scores
    again = run_pipeline(*arguments)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "5 of 6 steps had finished before" in again.stdout
    assert again.stdout.count("== publish ==") == 1


@pytest.mark.slow
def test_the_clusters_pipeline_trains_once_and_then_only_for_something_new(birds, tmp_path):
    """The compiled graph itself, with its condition, run by kfp.local."""
    code = (
        "import sys, warnings\n"
        "from pathlib import Path\n"
        "from kfp import local\n"
        "import pipeline\n"
        "from components.local.processes import ProcessRunner\n"
        "warnings.simplefilter('ignore')\n"
        "here = Path.cwd()\n"
        f"runner = ProcessRunner(here, Path({str(ROOT)!r}), sys.stdout)\n"
        "local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(here / 'runs'))\n"
        "with runner.installed():\n"
        f"    pipeline.attngan_pipeline(source={str(birds)!r}, model_uri=str(here / 'models'), config=sys.argv[1],\n"
        "        num_gpus='0', evaluation_gpus='0')\n"
        "print('ran', *runner.ran)\n"
    )
    (tmp_path / "cluster.py").write_text(code, encoding="utf-8")

    def run(config: str) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "cluster.py", config]
        finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
        assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
        return finished.stdout

    config = configs.dump(configs.load_file(Path("smoke")))
    first, second = run(config), run(config)
    assert "no model was trained" in first and first.endswith(f"ran detect_changes {' '.join(STEPS)}\n")
    assert "the champion stays" in second and second.endswith("ran detect_changes\n")
    assert "settings are not those of the last model" in run(config.replace("seed: 0", "seed: 1"))
