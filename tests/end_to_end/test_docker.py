"""One step in a container of this commit's image.

Needs a Docker engine and the image (`make image`).
"""

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from container_image import IMAGE, command, run, wait_for

pytest.importorskip("kfp")

from attngan.storage import json_text
from components.local import containers

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("no_container_left")]


def fingerprint(folder: Path) -> str:
    return json_text.read(folder / "manifest.json")["fingerprint"]


def given(**inputs: Path) -> list[str]:
    return [text for name, path in inputs.items() for text in ("--input", f"{name}={path}")]


@pytest.mark.parametrize("name", ["preprocess", "evaluate", "export-samples"])
def test_three_ways_to_run_a_step_give_the_same(name, birds, dataset, damsm, generator, metrics, tmp_path):
    takes, leaves = {
        "preprocess": (given(source=birds), ["."]),
        "evaluate": (given(dataset=dataset, damsm=damsm, generator=generator), ["."]),
        "export-samples": (given(dataset=dataset, generator=generator, metrics=metrics), ["gallery", "bundle"]),
    }[name]
    here = run("step", name, *takes, "--out", tmp_path / "here", "--config", "smoke")
    assert here.returncode == 0, here.stderr
    inside = run("step", name, *takes, "--out", tmp_path / "inside", "--config", "smoke", "--docker")
    assert inside.returncode == 0, inside.stderr
    printed = next(line for line in inside.stdout.splitlines() if "docker run" in line)
    by_hand = printed.replace(str(tmp_path / "inside"), str(tmp_path / "by_hand"))
    subprocess.run(["sh", "-c", by_hand], check=True, capture_output=True)
    for result in leaves:
        prints = {fingerprint(tmp_path / way / result) for way in ("here", "inside", "by_hand")}
        assert len(prints) == 1, result


def test_a_place_with_odd_characters_is_mounted_as_it_is(birds, dataset, tmp_path):
    source = tmp_path / "birds, at 10:30 'o\" clock"
    shutil.copytree(birds, source)
    out = tmp_path / "a, b: $HOME"
    ran = run("step", "preprocess", *given(source=source), "--out", out, "--config", "smoke", "--docker")
    assert ran.returncode == 0, ran.stderr
    assert fingerprint(out) == fingerprint(dataset)
    assert out.stat().st_uid == (out / "manifest.json").stat().st_uid == os.getuid()


def test_a_mistake_inside_gives_its_sentence_and_status_outside(tmp_path):
    (tmp_path / "empty").mkdir()
    ran = run("step", "preprocess", *given(source=tmp_path / "empty"), "--out", tmp_path / "out", "--docker")
    assert ran.returncode == 2
    assert ran.stderr.startswith("attngan: ") and len(ran.stderr.splitlines()) == 1


def test_an_image_that_is_not_there_is_one_sentence(tmp_path):
    flags = ["--out", tmp_path / "out", "--docker", "--image", "no/no:1"]
    ran = run("step", "preprocess", *given(source=tmp_path), *flags)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    assert ran.stderr.startswith("attngan: no/no:1: no such image here; build it with `make image`")
    assert not (tmp_path / "out").exists()


def test_a_container_that_the_engine_cannot_start_is_one_sentence_more(tmp_path):
    ran = run("step", "preprocess", *given(source=tmp_path), "--out", tmp_path / "out", "--docker", "--gpus")
    if "could not select device driver" not in ran.stderr:
        pytest.skip("this engine gives GPUs")
    assert ran.returncode == 2
    assert ran.stderr.endswith("attngan: docker could not start the container; it says above why.\n")


@pytest.fixture
def cut_off(dataset, tmp_path) -> list[str]:
    """Return a training step that lasts until it is stopped."""
    settings = ["--config", "smoke", "--set", "damsm.epochs=100000"]
    return command("step", "pretrain-damsm", *given(dataset=dataset), "--out", tmp_path / "damsm", *settings)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_the_step_in_the_container_save_its_state(cut_off, tmp_path, signum, status):
    with subprocess.Popen(
        [*cut_off, "--docker"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        wait_for("DAMSM: starts", process)
        time.sleep(2)
        os.kill(process.pid, signum)
        said = process.stdout.read()
        assert process.wait(timeout=60) == status, said
    states = [path for path in (tmp_path / "damsm.state").rglob("*") if path.is_file()]
    assert states, said


def test_the_command_that_is_printed_can_be_pasted(tmp_path):
    ran = run("step", "preprocess", *given(source=tmp_path), "--out", tmp_path / "it's", "--dry-run")
    printed = next(line for line in ran.stdout.splitlines() if "docker run" in line)
    assert shlex.split(printed)[:3] == ["mkdir", "-p", f"{tmp_path}/it's"]


def test_a_result_can_lie_inside_what_a_step_reads(tmp_path):
    out = tmp_path / "read" / "written"
    out.mkdir(parents=True)
    flags = containers.Container(IMAGE, read=(tmp_path / "read",), write=(out,)).command("attngan-nested", "--rm")
    script = f"echo it > {out}/it && ! touch {tmp_path}/read/that"
    assert subprocess.run([*flags, "sh", "-c", script], capture_output=True).returncode == 0
    assert (out / "it").is_file()
