"""The whole pipeline on one page, and its command line: compile, run.

`run` hands the same pipeline object to `kfp.local` that `compile` writes for a cluster.
"""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from kfp import dsl
from kfp.dsl import HTML, Artifact, Metrics, Model

import components
from attngan import exit_status

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Results(NamedTuple):
    """What a run leaves: the gallery and its page, the bundle, the reports."""

    gallery: Artifact
    page: HTML
    bundle: Model
    metrics: Artifact
    report: HTML
    progress: HTML
    scores: Metrics
    promoted: bool


@dsl.pipeline(name="attngan", description="AttnGAN: from captioned images to pictures drawn from a sentence.")
def attngan_pipeline(
    source: str,
    model_uri: str,
    config: str = "",
    captions: str = "",
    inception_weights: str = "",
    checkpoint_root: str = "",
    force: bool = False,
) -> Results:
    """Train an AttnGAN on captioned images and publish it if it is better than the champion.

    Args:
        source: Folder, .tgz or .zip with images, local or gs://.
        model_uri: Folder that holds the champion and the history.
        config: Settings as YAML text, only what differs from the paper's.
        captions: Captions that are not in the source.
        inception_weights: ImageNet weights of Inception-v3; empty to train the image encoder from the start.
        checkpoint_root: Folder for training state that outlives a step.
        force: Publish whatever the metrics say.
    """
    data = components.preprocess(source=source, captions=captions, config=config)
    dataset = data.outputs["dataset"]
    encoders = components.pretrain_damsm(
        dataset=dataset, inception_weights=inception_weights, checkpoint_root=checkpoint_root, config=config
    )
    damsm = encoders.outputs["damsm"]
    training = components.train_generator(dataset=dataset, damsm=damsm, checkpoint_root=checkpoint_root, config=config)
    generator = training.outputs["generator"]
    scored = components.evaluate(dataset=dataset, damsm=damsm, generator=generator, config=config)
    metrics = scored.outputs["metrics"]
    samples = components.export_samples(generator=generator, dataset=dataset, metrics=metrics, config=config)
    bundle = samples.outputs["bundle"]
    published = components.publish(bundle=bundle, metrics=metrics, model_uri=model_uri, force=force, config=config)
    published.set_caching_options(enable_caching=False)  # the champion may have changed since
    return Results(
        gallery=samples.outputs["gallery"],
        page=samples.outputs["page"],
        bundle=bundle,
        metrics=metrics,
        report=scored.outputs["report"],
        progress=training.outputs["progress"],
        scores=scored.outputs["scores"],
        promoted=published.output,
    )


@app.command("compile")
def compile_pipeline(
    out: Annotated[Path, typer.Option("--out", "-o", help="The YAML file.")] = Path("pipeline.yaml"),
) -> None:
    """Write the pipeline as YAML for a cluster, and check it by reading it back."""
    with exit_status.reported(out):
        from components import compiled

        tasks = compiled.write(attngan_pipeline, out)
        print(f"{out}: {len(tasks)} tasks, {' -> '.join(tasks)}")


@app.command()
def run(
    source: Annotated[str, typer.Option(help="Folder, .tgz or .zip with images, local or gs://.")],
    out: Annotated[Path, typer.Option(help="Folder for everything the run writes.")],
    config: Annotated[Path | None, typer.Option(help="YAML file, or toy, smoke, ...")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Repeatable.")] = None,
    captions: Annotated[str, typer.Option(help="Captions that are not in the source.")] = "",
    inception_weights: Annotated[str, typer.Option(help="ImageNet weights of Inception-v3.")] = "",
    model_uri: Annotated[str, typer.Option(help="Folder of the champion; default: models below --out.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Publish whatever the metrics say.")] = False,
) -> None:
    """Run the pipeline on this machine; run the same command again to go on after an interruption."""
    with exit_status.reported(out):
        from attngan import config as settings
        from components import local_run

        given = set_ or []
        loaded = settings.load(overrides=given) if config is None else settings.load_file(config, overrides=given)
        arguments = {
            "source": local_run.absolute(source),
            "model_uri": local_run.absolute(model_uri or str(out / "models")),
            "config": settings.dump(loaded),
            "captions": local_run.absolute(captions),
            "inception_weights": local_run.absolute(inception_weights),
            "checkpoint_root": local_run.absolute(str(out / "state")),
            "force": force,
        }
        local_run.run(attngan_pipeline, arguments, out.resolve())


@app.callback()
def describe() -> None:
    """The AttnGAN pipeline: six steps from captioned images to pictures drawn from a sentence."""


if __name__ == "__main__":
    app()
