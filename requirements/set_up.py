"""Make `.venv` with everything attngan needs, from requirements pinned by hash: what `make setup` runs.

Standard library only, and any Python 3 may run it: it looks for one that fits and says what to install if none does.
"""

import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "set-up-done")
VERSIONS = ("3.13", "3.12", "3.11")
PROBE = (
    "import importlib.util, sys; "
    "print('%d.%d' % sys.version_info[:2], importlib.util.find_spec('ensurepip') is not None)"
)


def main():
    """Bring `.venv` to what the requirements say; a set-up that was interrupted is taken up again."""
    uv = shutil.which("uv")
    if version_of(VENV_PYTHON)[0] not in VERSIONS:
        make_venv(uv)
    uv = uv or own_uv()
    install = [uv, "pip", "install", "--quiet", "--python", VENV_PYTHON]
    pinned = [*install, "--require-hashes", "-r", os.path.join(HERE, "requirements.txt")]
    print("set-up: installing the pinned requirements into .venv", flush=True)
    if not succeeds([*pinned, "--offline"]):  # the cache first: then a second checkout needs no network
        run(pinned)
    run([*install, "--no-deps", "--no-build-isolation", "--offline", "--editable", ROOT])
    with open(STAMP, "w", encoding="utf-8") as stamp:
        stamp.write("done\n")


def make_venv(uv):
    """Make `.venv` with the newest Python that fits, by its venv module or by uv."""
    names = ["python" + version for version in VERSIONS] + [sys.executable, "python3", "python"]
    found = [(name, *version_of(name)) for name in names]
    fitting = [(name, has_pip) for name, version, has_pip in found if version in VERSIONS]
    whole = [name for name, has_pip in fitting if has_pip]
    if uv and fitting:
        run([uv, "venv", "--quiet", "--clear", "--python", shutil.which(fitting[0][0]) or fitting[0][0], VENV])
    elif whole:
        run([whole[0], "-m", "venv", "--clear", VENV])
    elif fitting:
        version = version_of(fitting[0][0])[0]
        package = "python" + version + "-venv"
        stop(f"Python {version} is here without its venv module; install it (Debian: apt-get install {package}).")
    else:
        here = sorted({version for _, version, _ in found if version})
        stop(f"expected Python 3.11, 3.12 or 3.13, found {', '.join(here) or 'none'}; install one of them.")


def own_uv():
    """Return uv inside `.venv`, installed there from its pinned requirement."""
    path = os.path.join(VENV, "bin", "uv")
    if not os.path.exists(path):
        if not succeeds([VENV_PYTHON, "-m", "pip", "--version"]):  # interrupted before it was there, or made by uv
            run([VENV_PYTHON, "-m", "ensurepip"])
        pip = [VENV_PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run([*pip, "install", "--require-hashes", "-r", os.path.join(HERE, "uv.txt")])
    return path


def version_of(python):
    """Return the version of an interpreter ("" where it does not run) and whether it can put pip into a venv."""
    try:
        answer = subprocess.run([python, "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "", False
    version, has_pip = answer.stdout.decode().split()
    return version, has_pip == "True"


def succeeds(command):
    """Return whether a command that may well fail did not."""
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def run(command):
    """Run a command; its own message says what went wrong."""
    if subprocess.run(command, check=False).returncode != 0:
        stop(f"this failed: {' '.join(command)} (its message is above).")


def stop(sentence):
    """End with one sentence and status 2."""
    print(f"set-up: {sentence}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
