"""`make setup`: what an interrupted one left is taken up again."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "requirements" / "set_up.py"


@pytest.fixture
def set_up(tmp_path, monkeypatch):
    """Give the script, for a `.venv` elsewhere whose Python runs and has no pip, as Ctrl-C may leave it."""
    found = importlib.util.spec_from_file_location("set_up", SCRIPT)
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    monkeypatch.setattr(script, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(script, "VENV_PYTHON", str(tmp_path / ".venv" / "bin" / "python"))
    return script


@pytest.mark.skipif(importlib.util.find_spec("ensurepip") is None, reason="this Python has no ensurepip")
def test_a_venv_that_was_left_without_pip_gets_it_before_pip_is_asked(set_up, monkeypatch):
    run, asked = set_up.run, []
    monkeypatch.setattr(set_up, "run", lambda command: asked.append(command) if "install" in command else run(command))
    assert set_up.version_of(set_up.VENV_PYTHON)[0] in set_up.VERSIONS  # so that no other one is made
    set_up.own_uv()
    assert [command[:3] for command in asked] == [[set_up.VENV_PYTHON, "-m", "pip"]]
    assert set_up.succeeds([set_up.VENV_PYTHON, "-m", "pip", "--version"])
