"""`make`: what its targets do, as `make -n` prints it, and nothing is run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def printed(*arguments):
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    made = subprocess.run(
        ["make", "-n", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return made.stdout


def test_the_demos_birds_are_drawn_once_and_anew_with_another_number_or_seed(tmp_path):
    demo = tmp_path / "demo"
    assert f"draw-birds --out {demo}/birds --count 3000 --seed 0" in printed("demo", f"DEMO={demo}")
    (demo / "birds").mkdir(parents=True)
    for number, name in enumerate([".birds-3000-0", "birds/palette.json"]):  # as after that run
        (demo / name).touch()
        os.utime(demo / name, (1e9 + number, 1e9 + number))
    assert "draw-birds" not in printed("demo", f"DEMO={demo}")
    assert "--count 3000 --seed 1" in printed("demo", f"DEMO={demo}", "SEED=1")
    assert "--count 50 --seed 0" in printed("demo", f"DEMO={demo}", "BIRDS=50")


@pytest.mark.parametrize(
    ("target", "variable", "command"), [("submit", "RUN", "pipeline.py submit"), ("bench", "BENCH", "-m benchmarks")]
)
def test_flags_on_several_lines_are_one_command(target, variable, command):
    made = printed(target, f"{variable}=--one\n    --two 2")
    (line,) = [each for each in made.splitlines() if "--one" in each]
    assert line.endswith(f"{command} --one --two 2")
