"""A pipeline run on this machine through `kfp.local`: finished steps are kept, and the results get stable names."""

import hashlib
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

from attngan.config import settings
from attngan.config.settings import Config
from attngan.errors import InputError, shown
from attngan.runtime import exit_status
from attngan.storage import uris
from attngan.storage.run_ending import STEPS
from components.local import containers, inputs
from components.local.processes import ProcessRunner
from components.local.step_log import NOT_STARTED, Failure, Runner

CODE = Path(__file__).resolve().parents[2]
SOURCES = ("source", "captions", "inception_weights")  # what a run reads
LINKS = {
    "gallery": "gallery",
    "bundle": "bundle",
    "report": "report.html",
    "damsm_progress": "damsm-progress.html",
    "progress": "progress.html",
}


def absolute(uri: str) -> str:
    """Return a local path from the root of the file system; steps run elsewhere. URIs and "" stay."""
    return str(Path(uri).expanduser().resolve()) if uri and "://" not in uri else uri


def check_places(out: Path) -> None:
    """Refuse what somebody else has where results get their names, before the first step."""
    is_run = (out / "runs").is_dir()  # whose pages are files
    for place in (out / name for name in LINKS.values()):
        is_there = os.path.lexists(place) and not place.is_symlink()
        if is_there and (place.is_dir() or not is_run):
            raise InputError(f"{place}: expected nothing there, or what an earlier run put there; move it away.")


def check_weights(config: Config, *, docker: bool) -> None:
    """Refuse weights that settings name so that a step, which runs elsewhere, would not find them."""
    for setting, uri in config.weights_files.items():
        if docker and uris.is_remote(uri):
            raise InputError(
                f"{setting}: {shown(uri)}: a container here has no network; download the file and name that, or leave "
                "out --docker."
            )
        if not uris.is_remote(uri) and not Path(uri).is_absolute():
            raise InputError(f"{setting}: {shown(uri)}: steps run elsewhere; give the whole path, {absolute(uri)}.")


def in_processes(pipeline, arguments: dict[str, Any], out: Path) -> None:
    """Run the pipeline below `out`, each step a process, link its results there, and say where they are.

    Raises:
        InputError: a step ended with something a person can put right.
        SystemExit: status 1, once the failed step and its log were named.
    """
    from kfp import local

    check_names(arguments, out)
    _run(
        pipeline, arguments, out, local.SubprocessRunner(use_venv=False), ProcessRunner(out / "logs", CODE, sys.stdout)
    )


def check_containers(image: str, model_uri: str) -> str:
    """Return the image's id; InputError where there is none, or where a container could not reach the model folder."""
    image_id = containers.check(image)
    if "://" in model_uri:
        raise InputError(
            f"--model-uri {model_uri}: a container here has no network; give a local folder, or leave out --docker."
        )
    return image_id


def in_containers(pipeline, arguments: dict[str, Any], out: Path, *, image: str, gpus: bool = False) -> None:
    """Run the pipeline as `in_processes` does, each step in a container of `image`.

    What is in cloud storage is downloaded first: the containers have no network and no credentials.
    """
    from kfp import local

    image_id = check_containers(image, arguments["model_uri"])
    here = {name: inputs.local(arguments[name]) for name in SOURCES if arguments[name]}
    weights = [Path(uri) for uri in settings.load(arguments["config"]).weights_files.values()]
    arguments = {**arguments, **{name: str(path) for name, path in here.items()}}
    written = (out, Path(arguments["model_uri"]))
    for folder in written:
        folder.mkdir(parents=True, exist_ok=True)
    container = containers.Container(image, read=(*here.values(), *weights), write=written, gpus=gpus)
    runner = containers.ContainerRunner(out / "logs", container, sys.stdout)
    _run(pipeline, arguments, out, local.DockerRunner(), runner, image_id)


def _run(pipeline, arguments: dict[str, Any], out: Path, kfp_runner: Any, runner: Runner, image_id: str = "") -> None:
    from kfp import local

    runner.logs.mkdir(parents=True, exist_ok=True)
    local.init(
        kfp_runner,
        pipeline_root=str(out / "runs"),
        enable_caching=True,
        cache_root=str(out / "cache" / fingerprint(image_id)),
    )
    with runner.installed(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the image's name, which says nothing here
        try:
            finished = pipeline(**arguments)
        except RuntimeError:
            if runner.failure is None:
                raise
            raise _stopped(runner.failure) from None
    _link(finished.outputs, out)
    _tell(finished.outputs, runner, out)


def fingerprint(image_id: str = "") -> str:
    """Return a digest of what a finished step depends on beyond its arguments: the code, and the image."""
    digest = hashlib.sha256(image_id.encode())
    for folder in ("attngan", "components", "requirements"):
        for path in sorted((CODE / folder).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(CODE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def check_names(arguments: dict[str, Any], out: Path) -> None:
    """Refuse names that `kfp.local` cannot pass on to processes."""
    for text in (str(out), *arguments.values()):
        if isinstance(text, str) and "python3" in text:  # kfp.local would put the interpreter's path in its place
            place = next(line for line in text.splitlines() if "python3" in line)
            raise InputError(f'{place}: kfp.local cannot pass on text with "python3" in it; use another name.')


def _stopped(failure: Failure) -> BaseException:
    where = f"exit status {failure.status}; its whole output: {failure.log}"
    sentence = f"the step {failure.step} failed: {failure.reason} ({where})"
    if failure.status in (exit_status.PERSON, NOT_STARTED):
        return InputError(sentence)
    print(f"attngan: {sentence}", file=sys.stderr, flush=True)
    return SystemExit(1)


def _link(outputs: dict[str, Any], out: Path) -> None:
    for output, name in LINKS.items():
        link = out / name
        draft = out / f".{name}.part"
        draft.unlink(missing_ok=True)
        result = Path(outputs[output].path)
        if result.is_dir():
            draft.symlink_to(os.path.relpath(result, out))
        else:
            shutil.copyfile(result, draft)  # kfp's file has no suffix: behind a link, a browser would show its source
        os.replace(draft, link)


def _tell(outputs: dict[str, Any], runner: Runner, out: Path) -> None:
    from attngan.steps import train

    earlier = len(STEPS) - len(runner.ran)
    if earlier:
        print(f"{earlier} of {len(STEPS)} steps had finished before")
    train.tell(out, Path(outputs["metrics"].path))
    print(outputs["decision"])
