"""Every command of both command lines: what no file can hold, and no number can be, is one line and status 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from attngan.cli import app as attngan_app
from attngan.runtime import exit_status

ROOT = Path(__file__).resolve().parents[2]
LONG = "n" * 300  # a name that no file can have
ODD = {"bytes that are no UTF-8": "a\udcff", "half a surrogate pair": "\ud800", "NUL": "a\0b"}
OUTPUTS = ("out", "state", "model_uri", "checkpoint_root")  # beside those that help calls one
PLAIN = {
    "count": "56",
    "cron": "@weekly",
    "name": "attngan",
    "caption": "a red bird",
    "vary": "seed=0,1",
}  # what is no path

CLUSTER = {**PLAIN, "host": "http://127.0.0.1:1", "image": "attngan/python:0123456789ab"}  # as a cluster needs it
CLUSTER |= {each: f"gs://bucket/{each}" for each in ("source", "model_uri", "pipeline_root")}


def groups() -> dict[str, typer.Typer]:
    """Return both command lines; that of the pipeline needs kfp."""
    try:
        import pipeline
    except ImportError:
        return {"attngan": attngan_app}
    return {"attngan": attngan_app, "pipeline.py": pipeline.app}


COMMANDS = [(program, name) for program, app in groups().items() for name in typer.main.get_command(app).commands]
every_command = pytest.mark.parametrize(
    ("program", "name"), COMMANDS, ids=[f"{program} {name}" for program, name in COMMANDS]
)


def command_of(program: str, name: str):
    return typer.main.get_command(groups()[program]).commands[name]


def call(program: str, *arguments: str):
    return CliRunner().invoke(groups()[program], list(arguments))


def given(parameter, value: str) -> list[str]:
    """Return a parameter as it is typed."""
    return [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]


def filled(command, value: str, **others: str) -> list[str]:
    """Return what a command needs, each with a value."""
    needed = [each for each in command.params if each.required]
    return [text for each in needed for text in given(each, others.get(each.name, value))]


def one_line(result) -> str:
    """Return what a command said that ended with status 2, which is one line."""
    assert result.exit_code == exit_status.PERSON, (result.output, result.stderr, result.exception)
    (line,) = result.stderr.splitlines()
    assert line.startswith("attngan: ") and len(line) < 600
    return line


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_text_that_cannot_be_written_is_no_argument(odd):
    for program in groups():
        assert "expected an argument" in one_line(call(program, "no-such-command", odd))
        assert "expected an argument" in one_line(call(program, odd))


@every_command
def test_text_that_cannot_be_written_is_refused_by_every_command(program, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = command_of(program, name)
    for parameter in command.params:
        if not getattr(parameter, "is_flag", False):
            line = one_line(call(program, name, *filled(command, "x", **PLAIN), *given(parameter, "a\udcff")))
            assert "expected an argument" in line
    assert list(tmp_path.iterdir()) == []


@every_command
def test_a_name_too_long_is_refused_by_every_command(program, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = command_of(program, name)
    out = [text for each in command.params if each.name == "out" for text in given(each, LONG)]
    arguments = filled(command, LONG, **PLAIN)
    one_line(call(program, name, *(arguments or out or ["--host", LONG])))
    assert list(tmp_path.iterdir()) == []


@every_command
def test_a_uri_of_an_unknown_kind_is_no_local_folder(program, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = command_of(program, name)
    for each in command.params:
        if each.metavar in ("INPUT", "OUTPUT") or each.name == "state":
            (tmp_path / "x").mkdir()
            line = one_line(call(program, name, *filled(command, "x", **PLAIN), *given(each, "gs:/bucket/x")))
            assert "gs:/bucket/x: expected a local path, gs://BUCKET/NAME" in line or not line.count("gs:/")
            (tmp_path / "x").rmdir()
    assert list(tmp_path.iterdir()) == []


@every_command
def test_an_output_that_names_no_place_is_refused_before_anything_else(program, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = command_of(program, name)
    for each in command.params:
        if each.metavar == "OUTPUT" or each.name in OUTPUTS:
            needed = [other for other in command.params if other.required and other is not each]
            others = [text for other in needed for text in given(other, CLUSTER.get(other.name, "x"))]
            for wrong in ("s3://", "gs://", "s3:///x", "", " "):
                if wrong != each.default:
                    line = one_line(call(program, name, *others, *given(each, wrong)))
                    assert "found no bucket" in line or f"attngan: {each.opts[0]}" in line
    assert list(tmp_path.iterdir()) == []


@every_command
def test_a_config_of_a_name_too_long_is_refused(program, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = command_of(program, name)
    files = [each for each in command.params if each.name in ("config", "token_file", "ca_cert")]
    for each in files:
        line = one_line(call(program, name, *filled(command, "x", **CLUSTER), *given(each, LONG)))
        assert "too long" in line or (program, name) == ("pipeline.py", "step")  # which looks at its inputs first


@every_command
def test_every_number_has_bounds_and_is_finite(program, name):
    command = command_of(program, name)
    for each in command.params:
        kind = each.type_descriptor.annotation if hasattr(each, "type_descriptor") else None
        if kind in (int, float):
            assert each.min is not None and each.max is not None, each.name
            for wrong in ("nan", "inf", "-inf", "-1", "1" * 40, "1e400"):
                result = call(program, name, *filled(command, "x", **PLAIN), *given(each, wrong))
                assert result.exit_code == exit_status.PERSON and f"{each.opts[0]}" in result.stderr


@pytest.mark.parametrize("arguments", [["generate", b"a\xff", b"a bird"], ["preprocess", "--source", b"\xed\xa0\x80"]])
def test_bytes_on_the_real_command_line_are_one_line(arguments, tmp_path):
    command = [sys.executable, "-m", "attngan", *arguments]
    result = subprocess.run(command, capture_output=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.returncode == exit_status.PERSON
    assert result.stderr.count(b"\n") == 1 and b"expected an argument in UTF-8" in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_text_can_be_printed_to_any_output(encoding, tmp_path):
    code = (
        "from attngan.runtime import exit_status\n"
        "from attngan.runtime.console import say\n"
        "with exit_status.reported():\n"
        "    print('a \\u65e5 bird \\udcff'); say('a \\u65e5 bird \\udcff')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    first, second = result.stdout.decode(encoding).splitlines()
    assert first == second == ("a \u65e5 bird \\udcff" if encoding == "utf-8" else "a \\u65e5 bird \\udcff")


def test_a_dry_run_prints_captions_of_any_letters_to_any_output(tmp_path):
    caption = "un p\u00e1jaro \U0001f426"
    command = [sys.executable, "-m", "attngan", "preprocess", "--source", "x", "--out", "y", "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(
        [*command, "--set", f"samples.captions=['{caption}']"], capture_output=True, env=environment
    )
    assert result.returncode == 0 and not result.stderr
