"""What commands share: their common flags, how settings are loaded, and where a state lies."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attngan.runtime import exit_status

if TYPE_CHECKING:
    from attngan.config.settings import Config


def output(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Refuse what can name no place for a result; the callback of every option that does."""
    return _checked(parameter, value, is_local=False)


def local_output(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Refuse what can name no place for a result on this machine."""
    return _checked(parameter, value, is_local=True)


def _checked(parameter: typer.CallbackParam, value: str | None, *, is_local: bool) -> str | None:
    with exit_status.reported():
        from attngan.storage import uris

        if value is not None and value != parameter.default:
            uris.check_output(value, parameter.opts[0], is_local=is_local)
    return value


INPUT, OUTPUT = "INPUT", "OUTPUT"  # what help shows for a path; `pipeline.py step` goes by it

ConfigOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--config", metavar="FILE", help="YAML with what differs from the defaults, or toy, tiny, ...; repeatable."
    ),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting; repeatable.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the full config and stop.")]
Out = Annotated[str, typer.Option(metavar=OUTPUT, callback=output, help="Folder for the result.")]
ModelUri = Annotated[
    str, typer.Option(metavar=OUTPUT, callback=output, help="Folder that holds the champion and the history.")
]
OwnModelUri = Annotated[
    str | None, typer.Option(callback=output, help="Folder of the champion; default: models below --out.")
]
PICTURES = "Folder, .tgz, .tar or .zip with captioned pictures."
CAPTIONS = "Folder or archive with captions that are not in the source."
StartFrom = Annotated[
    str | None, typer.Option(metavar=INPUT, help="A bundle, or a folder of a training, whose weights to begin with.")
]
State = Annotated[
    str | None,
    typer.Option(callback=output, help="Folder for resuming, which outlives a run; default: beside --out."),
]
DatasetFolder = Annotated[str, typer.Option(metavar=INPUT, help="What preprocess wrote.")]
DamsmFolder = Annotated[str, typer.Option(metavar=INPUT, help="What pretrain-damsm wrote.")]
GeneratorFolder = Annotated[str, typer.Option(metavar=INPUT, help="What train-generator wrote.")]
MetricsFolder = Annotated[str, typer.Option(metavar=INPUT, help="What evaluate wrote.")]
BundleFolder = Annotated[str, typer.Argument(help="A bundle, or a folder that holds one, such as a run's.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def _say_version(is_asked: bool) -> None:
    if is_asked:
        from attngan import __version__
        from attngan.storage import artifacts

        print(f"attngan {__version__} ({artifacts.code_revision()})")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show version and revision.")
]


@contextlib.contextmanager
def configured(
    out: str | None, config: list[Path] | None, overrides: list[str] | None, dry_run: bool
) -> Iterator["Config"]:
    """Load the config for a step and report how the step ended; a dry run prints the config and ends here."""
    with exit_status.reported(out):
        from attngan.config import described, settings

        loaded = settings.load_files(config or [], overrides=overrides or [])
        if dry_run:
            print(described.dump(loaded), end="")
            raise typer.Exit
        yield loaded


def state_for(state: str | None, out: str) -> str:
    """Return the folder for resuming: the one given, or one beside the result."""
    return state or f"{out.rstrip('/')}.state"
