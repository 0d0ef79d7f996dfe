"""One step alone: its command, as it runs in this process, in a container, and when it is pasted."""

import dataclasses
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from attngan.cli import INPUT, OUTPUT
from attngan.config import settings
from attngan.errors import InputError, shown
from attngan.runtime import exit_status
from attngan.storage import uris
from attngan.storage.run_ending import STEPS
from components.local import containers
from components.local.step_log import NOT_STARTED, ended_by


@dataclasses.dataclass(frozen=True)
class Step:
    """A step with everything its command needs.

    Args:
        name: as on the command line.
        inputs: local files and folders, by the name of their flag.
        outputs: folders, local or in cloud storage, by the name of their flag.
        flags: settings, as they are typed.
        settings_files: files among the flags, and those that settings name.
    """

    name: str
    inputs: dict[str, Path]
    outputs: dict[str, str]
    flags: tuple[str, ...] = ()
    settings_files: tuple[Path, ...] = ()

    def arguments(self) -> list[str]:
        """Return the step's name and its flags, as they follow `attngan`."""
        paths = {**self.inputs, **self.outputs}
        return [self.name, *(text for name, path in paths.items() for text in (f"--{name}", str(path))), *self.flags]

    def run(self) -> int:
        """Run the step in this process and return its exit status."""
        return command_line().main(self.arguments(), prog_name="attngan", standalone_mode=False) or 0

    def docker_command(self, container_name: str, image: str, *, gpus: bool = False) -> list[str]:
        """Return the `docker run` that does the same, once the output folders are there."""
        for uri in self.outputs.values():
            if uris.is_remote(uri):
                raise InputError(
                    f"{uri}: a container here has no network and no credentials; give a local folder, "
                    "or leave out --docker."
                )
        read = (*self.inputs.values(), *self.settings_files)
        write = tuple(Path(path) for path in self.outputs.values())
        container = containers.Container(image, read=read, write=write, gpus=gpus)
        return [*container.command(container_name, "--rm", "--init"), "attngan", *self.arguments()]

    def run_in_container(self, container_name: str, command: list[str]) -> int:
        """Run that command and return the container's exit status."""
        for folder in self.outputs.values():
            Path(folder).mkdir(parents=True, exist_ok=True)
        status = containers.run(container_name, command)
        if status == NOT_STARTED:
            raise InputError("docker could not start the container; it says above why.")
        if ended_by(status) == "SIGKILL":
            print("attngan: the container was ended by SIGKILL, as when memory runs out.", file=sys.stderr)
        return status


def command_line() -> Any:
    """Return the command `attngan` with all of its own."""
    import typer

    from attngan import cli

    return typer.main.get_command(cli.app)


def command_of(name: str) -> Any:
    """Return a step's command."""
    if name not in STEPS:
        raise InputError(f"{shown(name)}: no such step; the steps are {', '.join(STEPS)}.")
    return command_line().commands[name]


def inputs_of(name: str) -> dict[str, bool]:
    """Return the names of a step's inputs, and whether each is required."""
    return {_flag(option): option.required for option in command_of(name).params if option.metavar == INPUT}


def check_inputs(name: str, given: Collection[str]) -> None:
    """Refuse to go on without an input that the step cannot do without."""
    missing = [flag for flag, required in inputs_of(name).items() if required and flag not in given]
    if missing:
        wanted = " ".join(f"--input {flag}=PATH" for flag in missing)
        raise InputError(
            f"{name}: expected {wanted}, or --from-run with a run that has it; a step that KFP took from its cache "
            "left its outputs in the run before."
        )


def planned(
    name: str,
    inputs: dict[str, Path],
    out: str,
    *,
    config: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    state: str | None = None,
    force: bool = False,
) -> Step:
    """Put a step together, refusing what its command does not know.

    A step with several outputs writes each below `out` under its own name; training state is kept beside `out`.
    """
    known = {option.name for option in command_of(name).params}
    for flag, given in (("state", state), ("force", force)):
        if given and flag not in known:
            raise InputError(f"{name} has no --{flag}; leave it out.")
    written = [_flag(option) for option in command_of(name).params if option.metavar == OUTPUT]
    place = _placed(out)
    outputs = {flag: place if len(written) == 1 else f"{place}/{flag}" for flag in written}
    if "state" in known and (state or not uris.is_remote(place)):
        outputs["state"] = _placed(state or f"{place}.state")
    files = [path.resolve() if path.exists() else path for path in config]
    flags = [*(part for path in files for part in ("--config", str(path))), *(["--force"] if force else [])]
    flags += [text for override in overrides for text in ("--set", override)]
    named = settings.load_files(files, overrides=overrides).weights_files.values()
    read = [*files, *(Path(uri) for uri in named if not uris.is_remote(uri))]
    return Step(name, inputs, outputs, tuple(flags), tuple(path.resolve() for path in read if path.exists()))


def rerun(step: Step, *, docker: bool, image: str, gpus: bool, dry_run: bool) -> int:
    """Print the commands that run a step alone, run the one that is wanted, and return its exit status."""
    container_name = containers.new_name(step.name)
    with exit_status.reported():
        print(shlex.join(["attngan", *step.arguments()]))
        if docker or not any(uris.is_remote(uri) for uri in step.outputs.values()):
            command = step.docker_command(container_name, image, gpus=gpus)
            print(f"{shlex.join(['mkdir', '-p', *step.outputs.values()])} && {shlex.join(command)}", flush=True)
        if docker and not dry_run:
            containers.check(image)
            return step.run_in_container(container_name, command)
    return 0 if dry_run else step.run()


def _flag(option: Any) -> str:
    return option.opts[0].removeprefix("--")


def _placed(uri: str) -> str:
    return uri.rstrip("/") if uris.is_remote(uri) else str(Path(uri).expanduser().resolve())
