"""The six steps as commands. Every input or output folder may also be `gs://`.

Commands import their step inside, so that `attngan --help` is there at once.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attngan import exit_status
from attngan.command_group import Commands

if TYPE_CHECKING:
    from attngan.config import Config

app = typer.Typer(
    name="attngan",
    help="Pictures from sentences (AttnGAN): the six steps of the pipeline, and drawing from a trained bundle.",
    no_args_is_help=True,
    add_completion=False,
    cls=Commands,
    rich_markup_mode=None,  # rich help takes twice as long to appear
    pretty_exceptions_enable=False,
)

INPUT, OUTPUT = "INPUT", "OUTPUT"  # what help shows for a path; `pipeline.py step` goes by it

ConfigOption = Annotated[Path | None, typer.Option(help="YAML with what differs from the defaults, or toy, smoke, ...")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting; repeatable.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the full config and stop.")]
Out = Annotated[str, typer.Option(metavar=OUTPUT, help="Folder for the result.")]
State = Annotated[str | None, typer.Option(help="Folder for resuming, which outlives a run; default: beside --out.")]
DatasetFolder = Annotated[str, typer.Option(metavar=INPUT, help="What preprocess wrote.")]
DamsmFolder = Annotated[str, typer.Option(metavar=INPUT, help="What pretrain-damsm wrote.")]
GeneratorFolder = Annotated[str, typer.Option(metavar=INPUT, help="What train-generator wrote.")]
MetricsFolder = Annotated[str, typer.Option(metavar=INPUT, help="What evaluate wrote.")]


@app.command()
def preprocess(
    source: Annotated[str, typer.Option(metavar=INPUT, help="Folder, .tgz or .zip with images.")],
    out: Out,
    captions: Annotated[str | None, typer.Option(metavar=INPUT, help="Captions that are not in the source.")] = None,
    vocabulary: Annotated[
        str | None, typer.Option(metavar=INPUT, help="vocabulary.json of a model to go on from.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 1: read the source, clean the captions, build the vocabulary, write the dataset."""
    with configured(out, config, set_, dry_run) as settings:
        from attngan import preprocess as step
        from attngan import storage

        with (
            storage.output(out, kind="dataset", inputs=[source, captions, vocabulary]) as to,
            storage.local_input(source) as images,
            storage.local_input(captions) as texts,
            storage.local_input(vocabulary) as words,
        ):
            step.preprocess(images, to, settings, captions=texts, vocabulary=words)


@app.command("pretrain-damsm")
def pretrain_damsm(
    dataset: DatasetFolder,
    out: Out,
    inception_weights: Annotated[
        str | None, typer.Option(metavar=INPUT, help="ImageNet weights of Inception-v3.")
    ] = None,
    state: State = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 2: train both encoders on matching images and captions."""
    with configured(out, config, set_, dry_run) as settings:
        from attngan import distributed
        from attngan import pretrain_damsm as step

        with (
            distributed.joined(settings.device, settings.num_threads),
            distributed.node_input(dataset) as data,
            distributed.node_input(inception_weights) as weights,
            distributed.first_output(out, kind="damsm", inputs=[dataset, inception_weights]) as to,
        ):
            step.pretrain_damsm(data, to, settings, inception_weights=weights, state=_state(state, out))


@app.command("train-generator")
def train_generator(
    dataset: DatasetFolder,
    damsm: DamsmFolder,
    out: Out,
    state: State = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 3: train the generator against its discriminators."""
    with configured(out, config, set_, dry_run) as settings:
        from attngan import distributed
        from attngan import train_generator as step

        with (
            distributed.joined(settings.device, settings.num_threads),
            distributed.node_input(dataset) as data,
            distributed.node_input(damsm) as encoders,
            distributed.first_output(out, kind="generator", inputs=[dataset, damsm]) as to,
        ):
            step.train_generator(data, encoders, to, settings, state=_state(state, out))


@app.command()
def evaluate(
    dataset: DatasetFolder,
    damsm: DamsmFolder,
    generator: GeneratorFolder,
    out: Out,
    state: State = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 4: measure how good the pictures are, and how good the measures."""
    with configured(out, config, set_, dry_run) as settings:
        from attngan import evaluate as step
        from attngan import storage

        with (
            storage.output(out, kind="metrics", inputs=[dataset, damsm, generator]) as to,
            storage.local_input(dataset) as data,
            storage.local_input(damsm) as encoders,
            storage.local_input(generator) as model,
        ):
            for name, value in step.evaluate(data, encoders, model, to, settings, state=_state(state, out)).items():
                print(f"{name} {value:.4g}")


@app.command("export-samples")
def export_samples(
    generator: GeneratorFolder,
    gallery: Annotated[str, typer.Option(metavar=OUTPUT, help="Folder for the gallery.")],
    bundle: Annotated[str, typer.Option(metavar=OUTPUT, help="Folder for the bundle: all that drawing needs.")],
    dataset: Annotated[str | None, typer.Option(metavar=INPUT, help="Its test captions are drawn too.")] = None,
    damsm: Annotated[
        str | None, typer.Option(metavar=INPUT, help="Orders the variants of a caption, best first.")
    ] = None,
    metrics: Annotated[str | None, typer.Option(metavar=INPUT, help="Kept in the bundle's provenance.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 5: draw captions into a gallery, and pack the bundle."""
    with configured(gallery, config, set_, dry_run) as settings:
        from attngan import export_samples as step
        from attngan import storage

        inputs = [generator, dataset, damsm, metrics]
        with (
            storage.output(gallery, kind="gallery", inputs=[*inputs, bundle]) as pictures,
            storage.output(bundle, kind="bundle", inputs=[*inputs, gallery]) as package,
            storage.local_input(generator) as model,
            storage.local_input(dataset) as data,
            storage.local_input(damsm) as encoders,
            storage.local_input(metrics) as scores,
        ):
            step.export_samples(model, pictures, package, settings, dataset=data, damsm=encoders, metrics=scores)


@app.command()
def publish(
    bundle: Annotated[str, typer.Option(metavar=INPUT, help="What export-samples wrote.")],
    metrics: MetricsFolder,
    model_uri: Annotated[str, typer.Option(metavar=OUTPUT, help="Folder that holds the champion and the history.")],
    inputs: Annotated[str | None, typer.Option(help="What detect-changes said of the sources.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Publish whatever the metrics say.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 6: make the bundle the champion if its metrics are better."""
    with configured(model_uri, config, set_, dry_run) as settings:
        from attngan import publish as step
        from attngan import storage

        with storage.local_input(bundle) as package, storage.local_input(metrics) as scores:
            print(step.publish(package, scores, model_uri, settings, inputs=inputs, force=force)["reason"])


@contextlib.contextmanager
def configured(out: str | None, config: Path | None, overrides: list[str] | None, dry_run: bool) -> Iterator["Config"]:
    """Load the config for a step and report how the step ended; a dry run prints the config and ends here."""
    with exit_status.reported(out):
        from attngan import config as settings
        from attngan.errors import InputError

        if out is not None and not out.strip():
            raise InputError("expected a folder for the result, found an empty name; name one.")
        given = overrides or []
        loaded = settings.load(overrides=given) if config is None else settings.load_file(config, overrides=given)
        if dry_run:
            print(settings.dump(loaded), end="")
            raise typer.Exit
        yield loaded


def _state(state: str | None, out: str) -> str:
    return state or f"{out.rstrip('/')}.state"
