"""The whole pipeline in containers of this commit's image.

Needs a Docker engine and the image (`make image`).
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from container_image import IMAGE, command, run, wait_for

pytest.importorskip("kfp")

from kfp import dsl, local

import components
from attngan.storage import artifacts
from components.local import containers, step_log
from components.local import run as running

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("no_container_left")]


def test_a_signal_to_the_pipeline_lets_the_step_save_its_state(birds, tmp_path):
    settings = ["--config", "smoke", "--set", "damsm.epochs=100000"]
    full = command("run", "--source", birds, "--out", tmp_path / "out", *settings, "--docker")
    with subprocess.Popen(full, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for("DAMSM: starts", process)
        time.sleep(2)
        os.kill(process.pid, signal.SIGTERM)
        said = process.stdout.read()
        assert process.wait(timeout=60) == 143, said
    assert [path for path in (tmp_path / "out" / "state").rglob("*") if path.is_file()], said


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def end(status: int) -> int:
    import os

    print("about to end", flush=True)
    if status:
        os._exit(status)
    return status


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def go_on(status: int):
    print("the step after it ran")


@dsl.pipeline(name="ends")
def ends(status: int, image: str = "an/image:that-is-nowhere"):
    first = end(status=status).set_container_image(image)  # which kfp's own DockerRunner cannot resolve
    go_on(status=first.output)


def start(tmp_path: Path, status: int, *, image: str = IMAGE) -> containers.ContainerRunner:
    container = containers.Container(image, write=(tmp_path,))
    with (tmp_path / "console").open("w", encoding="utf-8") as console:
        runner = containers.ContainerRunner(tmp_path, container, console)
        local.init(local.DockerRunner(), pipeline_root=str(tmp_path / "runs"))
        with runner.installed():
            ends(status=status)
    return runner


def test_a_container_that_ends_at_once_is_a_failure_each_time(tmp_path):
    for _ in range(10):
        with pytest.raises(RuntimeError, match="finished with status"):
            start(tmp_path, 3)
        assert "the step after it ran" not in (tmp_path / "console").read_text(encoding="utf-8")
    for _ in range(3):
        assert start(tmp_path, 0).ran == ["end", "go_on"]


def test_a_failing_container_is_told_with_status_log_and_last_line(tmp_path):
    with (tmp_path / "console").open("w", encoding="utf-8") as console:
        runner = containers.ContainerRunner(tmp_path, containers.Container(IMAGE), console)
        shell = ["sh", "-c", "(echo half way; echo 'ValueError: a bug') >&2; exit 7", "--function_to_execute", "end"]
        assert runner.run(shell) == 7
    assert runner.failure == step_log.Failure("end", 7, tmp_path / "end.log", "ValueError: a bug")


def test_a_container_that_runs_out_of_memory_is_named(tmp_path, monkeypatch):
    docker = containers.shutil.which("docker")
    (tmp_path / "bin").mkdir()
    limited = tmp_path / "bin" / "docker"  # an engine on a small machine
    limited.write_text(
        f'#!/bin/sh\nif [ "$1" = run ]; then shift; exec {docker} run --memory=64m --memory-swap=64m "$@"; fi\n'
        f'exec {docker} "$@"\n',
        encoding="utf-8",
    )
    limited.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with (tmp_path / "console").open("w", encoding="utf-8") as console:
        runner = containers.ContainerRunner(tmp_path, containers.Container(IMAGE), console)
        hungry = ["python3", "-c", "x = bytearray(10**9)", "--function_to_execute", "end"]
        assert runner.run(hungry) == 137
    assert runner.failure.reason == "its container ran out of memory"


def test_a_container_that_cannot_start_is_told_as_the_engine_tells_it(tmp_path):
    with (tmp_path / "console").open("w", encoding="utf-8") as console:
        missing = containers.Container(IMAGE, read=(tmp_path / "absent",))
        runner = containers.ContainerRunner(tmp_path, missing, console)
        assert runner.run(["true", "--function_to_execute", "end"]) == 125
    assert "absent" in runner.failure.reason


def test_the_whole_pipeline_runs_in_containers_and_again_from_what_is_there(birds, tmp_path):
    arguments = ["run", "--source", birds, "--config", "smoke", "--out", tmp_path / "out", "--docker"]
    first = run(*arguments)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    for name in ("gallery/index.html", "bundle/manifest.json", "report.html", "progress.html", "damsm-progress.html"):
        assert (tmp_path / "out" / name).is_file(), name
    assert {path.stem for path in (tmp_path / "out" / "logs").iterdir()} == set(components.__all__) - {"detect_changes"}
    assert artifacts.check(tmp_path / "out" / "bundle", "bundle", contents=True)["revision"] == IMAGE.split(":")[1]
    again = run(*arguments)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "5 of 6 steps had finished before" in again.stdout


def test_a_mistake_in_the_pipeline_is_told_as_without_containers(tmp_path):
    source = tmp_path / "python3-birds"  # which kfp's processes could not be given
    source.mkdir()
    ran = run("run", "--source", source, "--out", tmp_path / "out", "--docker", "--config", "smoke")
    assert ran.returncode == 2
    assert "the step preprocess failed" in ran.stderr and str(source) in ran.stderr
    assert str(tmp_path / "out" / "logs" / "preprocess.log") in ran.stderr


def test_a_source_in_cloud_storage_is_downloaded_for_the_containers(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bucket.blob("birds.zip").upload_from_string("no archive")
    ran = run("run", "--source", "gs://pictures/birds.zip", "--out", tmp_path / "out", "--docker", "--config", "smoke")
    assert ran.returncode == 2
    assert f"the step preprocess failed: {tmp_path}/cache/attngan/gs/pictures/birds.zip/" in ran.stderr


def test_what_a_container_could_not_reach_is_refused_before_any_step(birds, tmp_path):
    bucket = ["--model-uri", "gs://bucket/models"]
    ran = run("run", "--source", birds, "--out", tmp_path / "out", *bucket, "--docker")
    assert ran.returncode == 2 and "a container here has no network" in ran.stderr
    assert not (tmp_path / "out").exists()


def test_steps_that_finished_elsewhere_are_not_taken_for_those_of_an_image():
    assert len({running.fingerprint(image) for image in ("", "sha256:1", "sha256:2")}) == 3
