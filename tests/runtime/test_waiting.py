"""torch's threads wait passively for each other, in every process that attngan runs in, unless somebody set it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TELL = "import os; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
OURS = ["passive", "2500"]


def clean(**more):
    """Return an environment in which nobody has set how threads wait."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    return {**kept, **more}


def told(code, **more):
    done = subprocess.run([sys.executable, "-c", code], env=clean(**more), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_it_is_set_before_torch_is_loaded_and_handed_on_to_processes():
    code = "import sys, attngan.cli; print('torch' in sys.modules)\n" + TELL
    assert told(code) == ["False", *OURS]
    child = f"import subprocess, sys, attngan; subprocess.run([sys.executable, '-c', {TELL!r}])"
    assert told(child) == OURS


def test_libgomp_takes_it_up():
    code = "import attngan, torch; torch.ones(4).sum()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean(OMP_DISPLAY_ENV="true"), cwd=ROOT, capture_output=True, text=True
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"OMP_WAIT_POLICY": "active"}, ["active", "None"]), ({"GOMP_SPINCOUNT": "300000"}, ["None", "300000"])],
)
def test_what_somebody_set_stays(given, expected):
    assert told("import attngan\n" + TELL, **given) == expected


@pytest.mark.slow
def test_the_pipelines_steps_and_a_trainings_processes_inherit_it():
    code = (
        "import sys, pipeline\n"
        "from pathlib import Path\n"
        "from components.local.processes import ProcessRunner, run\n"
        "from attngan.runtime import launcher\n"
        f"run([sys.executable, '-c', {TELL!r}])\n"
        "with launcher._environment():\n"
        f"    run([sys.executable, '-c', {TELL!r}])\n"
    )
    assert told(code) == OURS * 2


@pytest.mark.docker
def test_it_is_so_in_a_container(engine):
    import container_image

    done = subprocess.run(
        ["docker", "run", "--rm", "--network=none", container_image.IMAGE, "python", "-c", "import attngan\n" + TELL],
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == OURS, done.stderr
