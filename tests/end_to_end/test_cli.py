"""The command line: exit status, sentences, dry runs, and paths in cloud storage."""

import errno
import importlib
import os
import signal
import subprocess
import sys
import time
import types

import pytest
import yaml
from typer.testing import CliRunner

import attngan
from attngan import cli
from attngan.config import settings
from attngan.data.toy import drawn_birds
from attngan.errors import InputError
from attngan.runtime import exit_status
from attngan.storage import artifacts

COMMANDS = [
    "draw-birds",
    "preprocess",
    "pretrain-damsm",
    "train-generator",
    "evaluate",
    "export-samples",
    "publish",
    "detect-changes",
    "restore-champion",
    "generate",
    "import-released",
]


def call(*arguments: str):
    return CliRunner().invoke(cli.app, list(arguments))


@pytest.fixture
def step(monkeypatch):
    """Put a stand-in for a step's module in place, which keeps what it was called with."""

    def install(name: str, function: str = "", result=None, error: BaseException | None = None):
        calls = []

        def stand_in(*args, **kwargs):
            calls.append((args, kwargs))
            if error is not None:
                raise error
            return result

        room = importlib.import_module("attngan.inference" if name in ("generate", "export_onnx") else "attngan.steps")
        module = types.ModuleType(f"{room.__name__}.{name}")
        setattr(module, function or name, stand_in)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(room, name, module, raising=False)
        return calls

    return install


def test_help_names_every_command():
    shown = call("--help").output
    assert [name for name in COMMANDS if name not in shown] == []


def test_help_appears_without_loading_torch():
    code = "import sys, attngan.cli; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_says_how_many_birds_there_are_at_least_and_fewer_are_refused(tmp_path):
    assert "56<=x<=1000000" in call("draw-birds", "--help").output and len(drawn_birds.bird_classes()) == 56
    refused = call("draw-birds", "--out", str(tmp_path / "birds"), "--count", "55")
    assert refused.exit_code == 2 and "56" in refused.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["train", "preprocess", "detect-changes"])
def test_help_says_that_captions_are_a_folder_or_an_archive(name):
    assert "Folder or archive with captions" in " ".join(call(name, "--help").output.split())


def test_a_dry_run_prints_the_full_config_and_stops(step, tmp_path):
    calls = step("preprocess")
    result = call("preprocess", "--source", "x", "--out", str(tmp_path / "d"), "--dry-run", "--set", "damsm.epochs=2")
    assert result.exit_code == 0
    assert settings.load(result.output) == settings.load(overrides=["damsm.epochs=2"])
    assert yaml.safe_load(result.output)["training"]["epochs"] == 600
    assert calls == []
    assert not (tmp_path / "d").exists()


def test_flags_become_the_arguments_of_the_step(step, tmp_path):
    calls = step("pretrain_damsm")
    file = tmp_path / "my.yaml"
    file.write_text("seed: 5\n", encoding="utf-8")
    result = call(
        *("pretrain-damsm", "--dataset", "d", "--out", "o", "--inception-weights", "w.pth", "--state", "s"),
        *("--config", str(file), "--set", "damsm.epochs=2", "--set", "damsm.batch_size=4"),
    )
    assert result.exit_code == 0, result.output
    (((dataset, out, config), extra),) = calls
    assert (str(dataset), str(out)) == ("d", "o")
    assert (config.seed, config.damsm.epochs, config.damsm.batch_size) == (5, 2, 4)
    assert {name: str(value) for name, value in extra.items()} == {
        "inception_weights": "w.pth",
        "start_from": "None",
        "state": "s",
    }


def test_a_second_judge_is_handed_on_where_there_is_one(step):
    calls = step("evaluate")
    flags = ("evaluate", "--dataset", "d", "--damsm", "e", "--generator", "g", "--out", "o")
    for more in ((), ("--second-damsm", "s")):
        assert call(*flags, *more).exit_code == 0
    assert [str(extra["second_damsm"]) for _, extra in calls] == ["None", "s"]


def test_generate_hands_on_caption_number_and_seed(step, tmp_path):
    calls = step("generate", result=[])
    result = call("generate", "bundle", "a small red bird", "-n", "3", "--seed", "9", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    (((bundle, caption, out), extra),) = calls
    assert (str(bundle), caption, out.folder) == ("bundle", "a small red bird", tmp_path)
    noise = {"num_images": 3, "seed": 9, "truncation": 1.0}
    assert extra == {"captions": None, **noise, "contact_sheet": False, "device": "auto"}
    more = ["--captions", "texts.txt", "--truncation", "0.5", "--contact-sheet", "--device", "cpu"]
    assert call("generate", "bundle", *more, "--out", str(tmp_path)).exit_code == 0
    (_, caption, _), extra = calls[1]
    assert caption is None and str(extra["captions"]) == "texts.txt"
    assert extra["truncation"] == 0.5 and extra["contact_sheet"] and extra["device"] == "cpu"


@pytest.mark.parametrize("more", [[], ["-n", "2"]])
def test_a_sentence_without_quotes_is_answered_with_where_they_belong(step, more):
    calls = step("generate", result=[])
    result = call("generate", "demo/bundle", "a", "small", *more, "red", "bird")
    assert result.exit_code == 2 and calls == []
    assert 'put the sentence in quotes: attngan generate demo/bundle "a small red bird"' in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_command_that_is_proposed_can_be_pasted(step):
    step("generate", result=[])
    result = call("generate", "my demo/bundle", "a", 'so-called "red"', "bird")
    assert """: attngan generate 'my demo/bundle' 'a so-called "red" bird'""" in result.stderr


@pytest.mark.parametrize("value", ["0", "nan", "2", "-0.5", "half"])
def test_a_truncation_that_is_none_is_refused_by_its_name(value):
    result = call("generate", "bundle", "a bird", "--truncation", value)
    assert result.exit_code == 2 and "--truncation" in result.stderr and "Traceback" not in result.output


def test_the_version_comes_with_the_revision():
    result = call("--version")
    assert result.exit_code == 0
    assert result.stdout == f"attngan {attngan.__version__} ({artifacts.code_revision()})\n"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InputError("d: no such folder; give another."), 2, "attngan: d: no such folder; give another."),
        (OSError(errno.ENOSPC, "No space left"), 2, "the disk is full"),
        (OSError(errno.EDQUOT, "Quota"), 2, "the disk quota is used up"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 2, "/x/y: permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x/y"), 2, "/x/y: no such file or directory"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to go on"),
        (exit_status.Terminated(), 143, "interrupted; run the same command again to go on"),
        (SystemExit(143), 143, "stopped; run the same command again to go on"),
    ],
)
def test_what_stops_a_step_is_one_line_and_a_status(step, error, status, said):
    step("preprocess", error=error)
    result = call("preprocess", "--source", "x", "--out", "place")
    assert result.exit_code == status
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_full_disk_is_recognised_behind_another_error(tmp_path):
    error = RuntimeError("writing failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left")
    sentence = f"{tmp_path}: the disk is full; make room there, then run the same command again."
    assert exit_status.explain(error, tmp_path) == sentence


def test_a_full_disk_is_the_one_that_was_copied_to(tmp_path):
    error = OSError(errno.ENOSPC, "No space left", "/source/file", None, "/target/file")
    assert exit_status.explain(error, tmp_path).startswith("/target/file: the disk is full")


@pytest.mark.parametrize("name", ["ENAMETOOLONG", "ELOOP", "EROFS", "ENXIO", "EIO", "EMFILE"])
def test_what_a_path_or_its_disk_can_do_is_one_line_whatever_its_class(step, name):
    number = getattr(errno, name)
    step("preprocess", error=OSError(number, os.strerror(number), "n" * 5000))
    result = call("preprocess", "--source", "x", "--out", "place")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert os.strerror(number).lower() in line and line.startswith("attngan: nnn") and len(line) < 400


def test_text_that_has_no_bytes_and_bytes_that_are_no_text_are_one_line(step):
    for text, encoding in (("a bird\udcff", "utf-8"), ("Bearer \u20ac", "latin-1")):
        with pytest.raises(UnicodeEncodeError) as caught:
            text.encode(encoding)
        assert f"can be written as {encoding}, found" in exit_status.explain(caught.value)
    with pytest.raises(UnicodeDecodeError) as caught:
        (b"a bird\x92s" * 999).decode()
    step("preprocess", error=caught.value)
    result = call("preprocess", "--source", "x", "--out", "place")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "expected text in utf-8, found other bytes" in line and len(line) < 300


def test_a_bug_keeps_its_traceback(step):
    step("preprocess", error=ZeroDivisionError("a bug"))
    result = call("preprocess", "--source", "x", "--out", "place")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot read the config"),
        (["--set", "damsm.epoch=2"], "did you mean damsm.epochs?"),
        (["--set", "damsm.epochs=two"], "damsm.epochs"),
        (["--set", "damsm"], "expected section.name=value"),
    ],
)
def test_a_mistake_in_the_settings_is_one_line_and_status_two(step, arguments, said):
    step("preprocess")
    result = call("preprocess", "--source", "x", "--out", "y", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["no-such-command"], ["preprocess"], ["preprocess", "--sauce", "x"]])
def test_a_mistake_in_the_flags_is_status_two(arguments):
    assert call(*arguments).exit_code == 2


def test_the_state_of_a_training_lies_beside_its_result_wherever_that_is(step, bucket, monkeypatch):
    from attngan.storage import delivery

    calls = step("train_generator")
    monkeypatch.setattr(delivery, "deliver", lambda *_: None)  # a stand-in leaves nothing
    arguments = ["train-generator", "--dataset", "d", "--damsm", "e", "--out"]
    for out in ("place", "gs://pictures/generator/"):
        assert call(*arguments, out).exit_code == 0
    assert [kwargs["state"] for _, kwargs in calls] == ["place.state", "gs://pictures/generator.state"]


@pytest.mark.parametrize(
    ("signum", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_a_command_with_its_status(tmp_path, signum, status):
    code = (
        "import signal, sys, time, types\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "module = types.ModuleType('attngan.steps.preprocess')\n"
        "def preprocess(*a, **k):\n"
        "    print('started', flush=True)\n"
        "    time.sleep(60)\n"
        "module.preprocess = preprocess\n"
        "sys.modules['attngan.steps.preprocess'] = module\n"
        "import attngan.steps; attngan.steps.preprocess = module\n"
        "from attngan.cli import main\n"
        "sys.argv = ['attngan', 'preprocess', '--source', 'x', '--out', 'y']\n"
        "main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(0.1)
        os.kill(process.pid, signum)
        assert process.wait(timeout=30) == status
        assert process.stderr.read() == "attngan: interrupted; run the same command again to go on.\n"
