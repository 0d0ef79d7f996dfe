"""The command line: the six steps, and what surrounds them.

Inputs and outputs may lie in cloud storage, but for `--out` of `train` and `draw-birds`. Commands import their step
inside, so that `attngan --help` is there at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from attngan.cli.options import (
    CAPTIONS,
    INPUT,
    OUTPUT,
    PICTURES,
    BundleFolder,
    ConfigOption,
    DamsmFolder,
    DatasetFolder,
    Device,
    DryRun,
    GeneratorFolder,
    MetricsFolder,
    ModelUri,
    Out,
    OwnModelUri,
    SetOption,
    StartFrom,
    State,
    Version,
    configured,
    local_output,
    output,
    state_for,
)
from attngan.config.bounds import FEW, FEWEST_BIRDS, LARGEST, LAST_SEED, MOST
from attngan.runtime import command_group, exit_status

app = typer.Typer(
    name="attngan",
    help="Pictures from sentences (AttnGAN): the six steps of the pipeline, and drawing from a trained bundle.",
    no_args_is_help=True,
    add_completion=False,
    cls=command_group.Commands,
    rich_markup_mode=None,  # rich help takes twice as long to appear
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(version: Version = False) -> None: ...


@app.command()
def train(
    source: Annotated[str, typer.Argument(metavar="PICTURES", help=PICTURES)],
    out: Annotated[str, typer.Option(callback=local_output, help="Folder for everything.")],
    minutes: Annotated[
        float | None, typer.Option(min=0.5, max=MOST, help="Time for all of it; default: as long as it is worth.")
    ] = None,
    captions: Annotated[str | None, typer.Option(help=CAPTIONS)] = None,
    inception_weights: Annotated[str | None, typer.Option(help="ImageNet weights of the image encoder.")] = None,
    start_from: StartFrom = None,
    model_uri: OwnModelUri = None,
    force: Annotated[bool, typer.Option("--force", help="Publish whatever the metrics say.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """From captioned pictures to a model.

    All six steps, with settings that fit the pictures and the machine; the same command goes on where it was.
    """
    with exit_status.reported(out):
        from attngan.steps import train as all_steps

        all_steps.train(
            source,
            Path(out),
            captions=captions,
            inception_weights=inception_weights,
            start_from=start_from,
            given=config or [],
            overrides=set_ or [],
            minutes=minutes,
            model_uri=model_uri,
            force=force,
        )


@app.command()
def preprocess(
    source: Annotated[str, typer.Option(metavar=INPUT, help=PICTURES)],
    out: Out,
    captions: Annotated[str | None, typer.Option(metavar=INPUT, help=CAPTIONS)] = None,
    vocabulary: Annotated[str | None, typer.Option(metavar=INPUT, help="vocabulary.json of an earlier model.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 1: read the source, clean the captions, build the vocabulary, write the dataset."""
    with configured(out, config, set_, dry_run) as settings:
        from attngan.steps import preprocess as step
        from attngan.storage import delivery, places

        with (
            delivery.output(out, kind="dataset", inputs=[source, captions, vocabulary]) as to,
            places.local_input(source) as images,
            places.local_input(captions) as texts,
            places.local_input(vocabulary) as words,
        ):
            step.preprocess(images, to, settings, captions=texts, vocabulary=words)


@app.command("pretrain-damsm")
def pretrain_damsm(
    dataset: DatasetFolder,
    out: Out,
    inception_weights: Annotated[
        str | None, typer.Option(metavar=INPUT, help="ImageNet weights for image_encoder.kind.")
    ] = None,
    start_from: StartFrom = None,
    state: State = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 2: train both encoders on matching images and captions."""
    with configured(out, config, set_, dry_run) as settings:
        from attngan.runtime import distributed
        from attngan.steps import pretrain_damsm as step
        from attngan.storage import delivery, places

        with (
            distributed.joined(settings.device, settings.num_threads),
            places.node_input(dataset) as data,
            places.node_input(inception_weights) as weights,
            places.node_input(start_from) as before,
            delivery.first_output(out, kind="damsm", inputs=[dataset, inception_weights, start_from]) as to,
        ):
            options = {"inception_weights": weights, "start_from": before, "state": state_for(state, out)}
            step.pretrain_damsm(data, to, settings, **options)


@app.command("train-generator")
def train_generator(
    dataset: DatasetFolder,
    damsm: DamsmFolder,
    out: Out,
    start_from: StartFrom = None,
    state: State = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 3: train the generator against its discriminators."""
    with configured(out, config, set_, dry_run) as settings:
        from attngan.runtime import distributed
        from attngan.steps import train_generator as step
        from attngan.storage import delivery, places

        with (
            distributed.joined(settings.device, settings.num_threads),
            places.node_input(dataset) as data,
            places.node_input(damsm) as encoders,
            places.node_input(start_from) as before,
            delivery.first_output(out, kind="generator", inputs=[dataset, damsm, start_from]) as to,
        ):
            step.train_generator(data, encoders, to, settings, start_from=before, state=state_for(state, out))


@app.command()
def evaluate(
    dataset: DatasetFolder,
    damsm: DamsmFolder,
    generator: GeneratorFolder,
    out: Out,
    second_damsm: Annotated[str | None, typer.Option(metavar=INPUT, help="Another DAMSM, a second judge.")] = None,
    state: State = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 4: measure how good the pictures are, and how good the measures."""
    with configured(out, config, set_, dry_run) as settings:
        from attngan.steps import evaluate as step
        from attngan.storage import delivery, places

        with (
            delivery.output(out, kind="metrics", inputs=[dataset, damsm, generator, second_damsm]) as to,
            places.local_input(dataset) as data,
            places.local_input(damsm) as encoders,
            places.local_input(generator) as model,
            places.local_input(second_damsm) as second,
        ):
            step.evaluate(data, encoders, model, to, settings, second_damsm=second, state=state_for(state, out))


@app.command("export-samples")
def export_samples(
    generator: GeneratorFolder,
    gallery: Annotated[str, typer.Option(metavar=OUTPUT, callback=output, help="Folder for the gallery.")],
    bundle: Annotated[str, typer.Option(metavar=OUTPUT, callback=output, help="Folder for all that drawing needs.")],
    dataset: Annotated[str | None, typer.Option(metavar=INPUT, help="Its test captions are drawn too.")] = None,
    damsm: Annotated[str | None, typer.Option(metavar=INPUT, help="Orders a caption's variants, best first.")] = None,
    metrics: Annotated[str | None, typer.Option(metavar=INPUT, help="Kept in the bundle's provenance.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 5: draw captions into a gallery, and pack the bundle."""
    with configured(gallery, config, set_, dry_run) as settings:
        from attngan.steps import export_samples as step
        from attngan.storage import delivery, places

        inputs = [generator, dataset, damsm, metrics]
        with (
            delivery.output(gallery, kind="gallery", inputs=[*inputs, bundle]) as pictures,
            delivery.output(bundle, kind="bundle", inputs=[*inputs, gallery]) as package,
            places.local_input(generator) as model,
            places.local_input(dataset) as data,
            places.local_input(damsm) as encoders,
            places.local_input(metrics) as scores,
        ):
            step.export_samples(model, pictures, package, settings, dataset=data, damsm=encoders, metrics=scores)


@app.command()
def publish(
    bundle: Annotated[str, typer.Option(metavar=INPUT, help="What export-samples wrote.")],
    metrics: MetricsFolder,
    model_uri: ModelUri,
    inputs: Annotated[str | None, typer.Option(help="Value of the `inputs:` line that detect-changes printed.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Publish whatever the metrics say.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Step 6: make the bundle the champion if its metrics are better."""
    with configured(model_uri, config, set_, dry_run) as settings:
        from attngan.steps import publish as step
        from attngan.storage import places

        with places.local_input(bundle) as package, places.local_input(metrics) as scores:
            print(step.publish(package, scores, model_uri, settings, inputs=inputs, force=force)["reason"])


@app.command("draw-birds")
def draw_birds(
    out: Annotated[str, typer.Option(callback=local_output, help="A new or empty folder.")],
    count: Annotated[int, typer.Option(min=FEWEST_BIRDS, max=MOST, help="Number of pictures.")],
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="The same seed draws the same birds.")] = 0,
) -> None:
    """Draw the toy set: little birds with captions, in the layout of CUB-200-2011."""
    with exit_status.reported(out):
        from attngan.data.toy import drawn_birds
        from attngan.runtime.console import progress

        with progress("drawing", total=count, unit="birds") as advance:
            drawn_birds.draw(Path(out), count=count, seed=seed, advance=advance)


@app.command("detect-changes")
def detect_changes(
    source: Annotated[str, typer.Option(help=PICTURES)],
    model_uri: ModelUri,
    captions: Annotated[str, typer.Option(help=CAPTIONS)] = "",
    inception_weights: Annotated[str, typer.Option(help="ImageNet weights for image_encoder.kind.")] = "",
    always: Annotated[bool, typer.Option("--always", help="Train whatever has changed.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Say whether sources or settings differ from those of earlier models; nothing is written."""
    with configured(model_uri, config, set_, dry_run) as settings:
        from attngan.steps import detect_changes as step

        found = step.detect_changes([source, captions, inception_weights], model_uri, settings, always=always)
        print(found["reason"])
        print(f"inputs: {found['inputs']}")


@app.command("restore-champion")
def restore_champion(model_uri: ModelUri) -> None:
    """Put the previous champion back."""
    with exit_status.reported(model_uri):
        from attngan.steps import publish as step

        print(step.restore_previous(model_uri)["reason"])


@app.command("import-released")
def import_released(
    text_encoder: Annotated[str, typer.Option(help="The authors' text_encoderN.pth.")],
    generator: Annotated[str, typer.Option(help="The authors' netG_epoch_N.pth, bird_AttnGAN2.pth ...")],
    vocabulary: Annotated[str, typer.Option(help="The authors' captions.pickle.")],
    out: Annotated[str, typer.Option(callback=output, help="Gets generator, bundle; with the image encoder, damsm.")],
    image_encoder: Annotated[str | None, typer.Option(help="The authors' image_encoderN.pth.")] = None,
) -> None:
    """Turn the authors' published weights into folders that the steps and generate read."""
    with exit_status.reported(out):
        from attngan.inference import released as importing
        from attngan.storage import delivery, places

        with (
            places.local_input(text_encoder) as texts,
            places.local_input(generator) as network,
            places.local_input(vocabulary) as words,
            places.local_input(image_encoder) as images,
            delivery.output(out, kind=None, inputs=[text_encoder, generator, vocabulary, image_encoder]) as to,
        ):
            for folder in importing.import_released(texts, network, words, to, image_encoder=images):
                print(f"{out.rstrip('/')}/{folder.name}")


@app.command(context_settings={"allow_extra_args": True})  # a sentence without quotes is answered in a sentence
def generate(
    context: typer.Context,
    bundle: BundleFolder,
    caption: Annotated[str | None, typer.Argument(help='In quotes: "a small red bird with black wings".')] = None,
    captions: Annotated[str | None, typer.Option(metavar=INPUT, help="Text file with a sentence a line.")] = None,
    num_images: Annotated[
        int, typer.Option("--num-images", "-n", min=1, max=MOST, help="Pictures of a sentence, each from other noise.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="The same seed draws the same pictures.")] = 1,
    truncation: Annotated[float, typer.Option(min=0, max=1, help="Below 1: more typical, less various.")] = 1.0,
    contact_sheet: Annotated[bool, typer.Option("--contact-sheet", help="Add a sheet of all sentences.")] = False,
    device: Device = "auto",
    out: Annotated[str, typer.Option(callback=output, help="Folder for the pictures.")] = "pictures",
) -> None:
    """Draw a sentence, or every sentence of a file."""
    with exit_status.reported(out):
        from attngan.inference import generate as drawing
        from attngan.storage import delivery, places

        command_group.check_quoted(context, bundle, caption)
        with (
            delivery.files(out, inputs=[bundle]) as to,
            places.local_input(bundle) as package,
            places.local_input(captions) as texts,
        ):
            given = {"num_images": num_images, "seed": seed, "truncation": truncation, "device": device}
            for path in drawing.generate(package, caption, to, captions=texts, contact_sheet=contact_sheet, **given):
                print(f"{out.rstrip('/')}/{path.name}")


@app.command("export-onnx")
def export_onnx(
    bundle: BundleFolder,
    out: Annotated[str, typer.Option(callback=output, help="Folder for both networks and the vocabulary.")] = "onnx",
) -> None:
    """Write a bundle as ONNX, and check that onnxruntime draws the same pictures."""
    with exit_status.reported(out):
        from attngan.inference import export_onnx as exporting
        from attngan.storage import delivery, places

        with delivery.output(out, kind="onnx", inputs=[bundle]) as to, places.local_input(bundle) as package:
            exporting.export_onnx(package, to)


@app.command()
def serve(
    bundle: BundleFolder,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    name: Annotated[str, typer.Option(help="The model's name in KServe's protocol.")] = "attngan",
    device: Device = "auto",
    max_images: Annotated[int, typer.Option(min=1, max=FEW, help="Pictures of one request, at most.")] = 16,
) -> None:
    """Draw sentences on a web page, over HTTP, and in KServe's v2 protocol."""
    with exit_status.reported():
        from attngan.serving import server as serving
        from attngan.storage import places

        with places.local_input(bundle) as package:
            serving.serve(package, host=host, port=port, name=name, device=device, max_images=max_images)


@app.command()
def plan(
    dataset: Annotated[str, typer.Option(help="What preprocess wrote.")],
    inception_weights: Annotated[str | None, typer.Option(help="ImageNet weights for image_encoder.kind.")] = None,
    price_per_hour: Annotated[float | None, typer.Option(min=0, max=LARGEST, help="Of the machine.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Measure some seconds of both trainings here, and say what all of them will take."""
    with configured(None, config, set_, dry_run) as settings:
        from attngan.storage import places
        from attngan.training import plan as planning

        with places.local_input(dataset) as data, places.local_input(inception_weights) as weights:
            parts = planning.plan(data, settings, inception_weights=weights)
            planning.tell(parts, settings, price_per_hour=price_per_hour)


def main() -> None:
    """Run the command line."""
    app()
