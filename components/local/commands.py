"""`pipeline.py run`, `sweep` and `step`: the pipeline, many trainings, or one step alone, on this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from attngan.cli.options import CAPTIONS, local_output, output
from attngan.config.bounds import MOST
from attngan.runtime import exit_status
from components.image import IMAGE

app = typer.Typer()

Source = Annotated[str, typer.Option(help="Folder, .tgz, .tar or .zip with images, local or in cloud storage.")]
Captions = Annotated[str, typer.Option(help=CAPTIONS)]
InceptionWeights = Annotated[str, typer.Option(help="ImageNet weights for image_encoder.kind.")]
ModelUri = Annotated[str, typer.Option(callback=output, help="Folder of the champion; default: models below --out.")]
Force = Annotated[bool, typer.Option("--force", help="Publish whatever the metrics say.")]
Config = Annotated[
    list[Path] | None,
    typer.Option("--config", metavar="FILE", help="YAML file, or toy, tiny, ...; repeatable, later ones on top."),
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting; repeatable.")]
Vary = Annotated[
    list[str],
    typer.Option("--vary", metavar="NAME=VALUE,VALUE", help="A setting and its values; repeatable: all combinations."),
]
Docker = Annotated[bool, typer.Option("--docker", help="Run in containers instead of processes.")]
Image = Annotated[str, typer.Option(help="For --docker; default: the image of this commit (ATTNGAN_IMAGE).")]
Gpus = Annotated[bool, typer.Option("--gpus", help="For --docker: give the containers all GPUs.")]


@app.command()
def run(
    context: typer.Context,
    source: Source,
    out: Annotated[str, typer.Option(callback=local_output, help="Folder for everything the run writes.")],
    config: Config = None,
    set_: Set = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.5, max=MOST, help="Time for all of it, where no config is given.")
    ] = None,
    captions: Captions = "",
    inception_weights: InceptionWeights = "",
    model_uri: ModelUri = "",
    force: Force = False,
    docker: Docker = False,
    image: Image = "",
    gpus: Gpus = False,
) -> None:
    """Run the pipeline on this machine; run the same command again to go on after an interruption."""
    with exit_status.reported(out):
        from attngan.config import settings
        from attngan.errors import InputError
        from attngan.steps import train
        from attngan.storage import folder_lock
        from attngan.storage.sources import fingerprint_of
        from components.local import run as running

        folder = Path(out)
        if (image or gpus) and not docker:
            raise InputError("--image and --gpus are for containers; give --docker too, or leave them out.")
        sources = {"source": source, "captions": captions, "inception_weights": inception_weights}
        sources = {name: running.absolute(uri) for name, uri in sources.items()}
        train.check_apart(folder, running.absolute(model_uri), sources.values())
        with folder_lock.held(folder):
            running.check_places(folder)
            if docker:
                running.check_containers(image or IMAGE, model_uri)
            else:
                running.check_names(sources, folder)
            given = {"given": config or [], "overrides": set_ or [], "minutes": minutes}
            others = {name: sources[name] or None for name in ("captions", "inception_weights")}
            kept = train.settings_for(sources["source"], folder, **others, **given)
            running.check_weights(kept.config, docker=docker)
            arguments = {
                **sources,
                "inputs": fingerprint_of([*sources.values()], kept.config),
                "model_uri": running.absolute(model_uri or str(folder / "models")),
                "config": settings.dump(kept.config),
                "checkpoint_root": running.absolute(str(folder / "state")),
                "force": force,
            }
            kept.keep_settings()
            if docker:
                image = image or IMAGE
                running.in_containers(context.obj["local"], arguments, folder.resolve(), image=image, gpus=gpus)
            else:
                running.in_processes(context.obj["local"], arguments, folder.resolve())


@app.command()
def sweep(
    source: Source,
    out: Annotated[str, typer.Option(callback=local_output, help="Folder for everything the sweep writes.")],
    vary: Vary,
    config: Config = None,
    set_: Set = None,
    parallel: Annotated[int, typer.Option(min=1, max=1000, help="Members at the same time, on one machine.")] = 1,
    captions: Captions = "",
    inception_weights: InceptionWeights = "",
    model_uri: ModelUri = "",
    force: Force = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go ahead with more than ten members.")] = False,
) -> None:
    """Train with every combination of some settings on this machine, compare all, and publish the best."""
    with exit_status.reported(out):
        import functools

        from attngan.config import settings, variations

        load = functools.partial(settings.load_files, config or [])
        members = variations.members(vary, lambda overrides: load(overrides=[*(set_ or []), *overrides]))
        from attngan.steps import sweep as sweeping

        num_failed = sweeping.sweep(
            source,
            Path(out),
            members,
            load(overrides=set_ or []),
            captions=captions or None,
            inception_weights=inception_weights or None,
            model_uri=model_uri or None,
            force=force,
            parallel=parallel,
            is_agreed=yes,
        )
        if num_failed:
            print(f"attngan: {num_failed} of {len(members)} members failed; the table says why.", file=sys.stderr)
            raise SystemExit(1)


@app.command()
def step(
    name: Annotated[str, typer.Argument(help="preprocess, pretrain-damsm, train-generator, evaluate, ...")],
    out: Annotated[str, typer.Option(callback=output, help="Folder for what the step writes.")],
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="NAME=PATH", help="An input by the name of its flag, local or in cloud storage."
        ),
    ] = None,
    from_run: Annotated[str, typer.Option(metavar="RUN_ID", help="Take the other inputs from this cluster run.")] = "",
    pipeline_root: Annotated[
        str, typer.Option(callback=output, help="Where the cluster's runs leave their outputs.")
    ] = "",
    config: Config = None,
    set_: Set = None,
    state: Annotated[
        str | None, typer.Option(callback=output, help="Folder for resuming; default: beside --out.")
    ] = None,
    force: Force = False,
    docker: Docker = False,
    image: Image = "",
    gpus: Gpus = False,
    cache: Annotated[Path | None, typer.Option(help="For what is downloaded; default: ~/.cache/attngan.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands and stop.")] = False,
) -> None:
    """Run one step alone, in this process or in a container, and print the commands that do the same."""
    with exit_status.reported(out):
        from components.local import inputs
        from components.local import step as steps

        uris = inputs.named(input_ or [], steps.inputs_of(name), name)
        uris |= inputs.of_run(from_run, pipeline_root, steps.inputs_of(name) - uris.keys())
        steps.check_inputs(name, uris)
        find = inputs.place if dry_run else inputs.local
        found = {flag: find(uri, cache or inputs.default_cache()) for flag, uri in uris.items()}
        planned = steps.planned(name, found, out, config=config or [], overrides=set_ or [], state=state, force=force)
        image = image or IMAGE
    raise typer.Exit(steps.rerun(planned, docker=docker, image=image, gpus=gpus, dry_run=dry_run))
