"""One step alone: what it is given, where its inputs come from, and that it runs in this process."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("kfp")

import pipeline
from attngan import cli
from attngan.storage import json_text
from components.local import step as steps


def step(*arguments: object) -> "Result":
    return Result(CliRunner().invoke(pipeline.app, ["step", *map(str, arguments)]))


class Result:
    def __init__(self, ended):
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        self.status = ended.exit_code
        self.sentence = ended.stderr
        self.commands = [shlex.split(line) for line in ended.stdout.splitlines() if " --" in line]


def fingerprint(folder: Path) -> str:
    return json_text.read(folder / "manifest.json")["fingerprint"]


def test_the_inputs_of_each_step_are_the_flags_of_its_command():
    found = {name: steps.inputs_of(name) for name in steps.STEPS}
    assert found == {
        "preprocess": {"source": True, "captions": False, "vocabulary": False},
        "pretrain-damsm": {"dataset": True, "inception-weights": False, "start-from": False},
        "train-generator": {"dataset": True, "damsm": True, "start-from": False},
        "evaluate": {"dataset": True, "damsm": True, "generator": True, "second-damsm": False},
        "export-samples": {"generator": True, "dataset": False, "damsm": False, "metrics": False},
        "publish": {"bundle": True, "metrics": True},
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["draw", "--out", "o"], "draw: no such step; the steps are preprocess, pretrain-damsm"),
        (["evaluate", "--out", "o", "--input", "gan=x"], "evaluate has no input gan; its inputs are dataset, damsm, "),
        (["evaluate", "--out", "o", "--input", "gan"], "expected NAME=PATH, with one of the names dataset, damsm, "),
        (["evaluate", "--out", "o", "--input", "damsm=x", "--input", "damsm=y"], "damsm is given twice"),
        (["evaluate", "--out", "o", "--input", "damsm=."], "expected --input dataset=PATH --input generator=PATH"),
        (["preprocess", "--out", "o", "--input", "source=nowhere"], "nowhere: no such file or folder"),
        (["preprocess", "--out", "o", "--input", "source=.", "--force"], "preprocess has no --force"),
        (["preprocess", "--out", "o", "--input", "source=.", "--state", "s"], "preprocess has no --state"),
        (["preprocess", "--out", "o", "--from-run", "1"], "--from-run RUN_ID and --pipeline-root"),
        (["preprocess", "--out", "gs://b/o", "--input", "source=.", "--docker"], "no network and no credentials"),
        (["preprocess", "--out", "o", "--input", "source=gs://b/../x"], "found . or .. between slashes"),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_anything_runs(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    result = step(*arguments)
    assert (result.status, len(result.sentence.splitlines())) == (2, 1)
    assert said in result.sentence
    assert list(tmp_path.iterdir()) == []


def test_a_step_in_this_process_writes_what_its_command_writes(birds, dataset, tmp_path):
    result = step("preprocess", "--input", f"source={birds}", "--out", tmp_path / "dataset", "--config", "smoke")
    assert result.status == 0, result.sentence
    assert fingerprint(tmp_path / "dataset") == fingerprint(dataset)
    flags = ["--source", str(birds), "--out", str(tmp_path / "dataset"), "--config", "smoke"]
    assert result.commands[0] == ["attngan", "preprocess", *flags]
    ended = CliRunner().invoke(cli.app, ["preprocess", *flags])
    assert ended.exit_code == 0, ended.output
    assert fingerprint(tmp_path / "dataset") == fingerprint(dataset)


def test_a_step_that_fails_in_this_process_gives_its_sentence_and_status(tmp_path):
    (tmp_path / "empty").mkdir()
    result = step("preprocess", "--input", f"source={tmp_path / 'empty'}", "--out", tmp_path / "out")
    assert result.status == 2
    assert result.sentence.startswith("attngan: ") and "empty" in result.sentence


def test_a_dry_run_prints_both_commands_and_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name in ("data", "a,b: c", "gan"):
        (tmp_path / name).mkdir()
    (tmp_path / "my.yaml").write_text("seed: 1\n", encoding="utf-8")
    given = ["--input", "dataset=data", "--input", "generator=gan", "--input", "metrics=a,b: c"]
    settings = ["--config", "my.yaml", "--set", "seed=2", "--gpus", "--image", "registry/python:1"]
    result = step("export-samples", *given, "--out", "out", *settings, "--dry-run")
    plain, container = result.commands
    assert plain[:2] == ["attngan", "export-samples"]
    assert plain[-6:] == ["--bundle", f"{tmp_path}/out/bundle", "--config", f"{tmp_path}/my.yaml", "--set", "seed=2"]
    assert container[:7] == ["mkdir", "-p", f"{tmp_path}/out/gallery", f"{tmp_path}/out/bundle", "&&", "docker", "run"]
    assert container[container.index("registry/python:1") + 1 :] == plain
    assert "--gpus=all" in container
    assert f"--mount=type=bind,source={tmp_path}/my.yaml,target={tmp_path}/my.yaml,readonly" in container
    assert f"--mount=type=bind,source={tmp_path}/out/bundle,target={tmp_path}/out/bundle" in container
    # As the engine reads it: a field with a comma is quoted.
    assert f'--mount=type=bind,"source={tmp_path}/a,b: c","target={tmp_path}/a,b: c",readonly' in container
    assert not (tmp_path / "out").exists()


def test_captions_that_are_read_beside_a_source_are_inside_too(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "CUB.tgz").touch()
    given = ["--input", f"source={tmp_path}/CUB.tgz", "--out", tmp_path / "dataset", "--dry-run"]
    _, container = step("preprocess", *given).commands
    mounted = [flag for flag in container if flag.endswith(",readonly")]
    assert [flag.split("target=")[1] for flag in mounted] == [
        f"{tmp_path}/{name},readonly" for name in ("CUB.tgz", "text")
    ]


def test_weights_that_settings_name_are_inside_too(tmp_path):
    (tmp_path / "weights.pth").touch()
    given = ["--input", f"dataset={tmp_path}", "--input", f"damsm={tmp_path}", "--input", f"generator={tmp_path}"]
    setting = ["--set", f"evaluate.mobilenet_v2.uri={tmp_path}/weights.pth"]
    _, container = step("evaluate", *given, "--out", tmp_path / "metrics", *setting, "--dry-run").commands
    assert f"--mount=type=bind,source={tmp_path}/weights.pth,target={tmp_path}/weights.pth,readonly" in container


def test_the_state_of_training_is_kept_beside_the_result_or_where_it_is_told(tmp_path):
    given = ["--input", f"dataset={tmp_path}", "--out", tmp_path / "damsm", "--dry-run"]
    plain, container = step("pretrain-damsm", *given).commands
    assert plain[-2:] == ["--state", f"{tmp_path}/damsm.state"]
    assert f"--mount=type=bind,source={tmp_path}/damsm.state,target={tmp_path}/damsm.state" in container
    assert step("pretrain-damsm", *given, "--state", tmp_path / "s").commands[0][-2:] == ["--state", f"{tmp_path}/s"]


def test_without_an_engine_docker_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    given = ["--input", f"source={tmp_path}", "--out", tmp_path / "out", "--docker"]
    for path, said in ((str(tmp_path), "docker: no such command"), (None, "no Docker engine answers")):
        with monkeypatch.context() as patch:
            if path:
                patch.setenv("PATH", path)
            elif not steps.containers.shutil.which("docker"):
                continue
            result = step("preprocess", *given)
            assert (result.status, len(result.sentence.splitlines())) == (2, 1)
            assert said in result.sentence
    assert not (tmp_path / "out").exists()
