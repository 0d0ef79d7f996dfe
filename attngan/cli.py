"""The command line: the six steps, and what surrounds them."""

from pathlib import Path
from typing import Annotated

import typer

from attngan import exit_status
from attngan.bounds import FEW, LARGEST, LAST_SEED, MOST
from attngan.cli_steps import ConfigOption, DryRun, SetOption, app, configured


@app.command("draw-birds")
def draw_birds(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    count: Annotated[int, typer.Option(min=1, max=MOST, help="Number of pictures.")],
    seed: Annotated[
        int, typer.Option(min=0, max=LAST_SEED, help="The same seed draws the same birds, byte for byte.")
    ] = 0,
) -> None:
    """Draw the toy set: little birds with captions, in the layout of CUB-200-2011."""
    with exit_status.reported(out):
        from attngan.data import drawn_birds
        from attngan.run_log import progress

        with progress("drawing", total=count, unit="birds") as advance:
            drawn_birds.draw(out, count=count, seed=seed, advance=advance)


@app.command("detect-changes")
def detect_changes(
    source: Annotated[str, typer.Option(help="Folder, .tgz or .zip with images.")],
    model_uri: Annotated[str, typer.Option(help="Folder that holds the champion and the history.")],
    captions: Annotated[str, typer.Option(help="Captions that are not in the source.")] = "",
    inception_weights: Annotated[str, typer.Option(help="ImageNet weights of Inception-v3.")] = "",
    always: Annotated[bool, typer.Option("--always", help="Train whatever has changed.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Say whether sources or settings are other ones than those of the models before."""
    with configured(model_uri, config, set_, dry_run) as settings:
        from attngan import detect_changes as step

        found = step.detect_changes([source, captions, inception_weights], model_uri, settings, always=always)
        print(found["reason"])
        print(f"inputs: {found['inputs']}")


@app.command("restore-champion")
def restore_champion(
    model_uri: Annotated[str, typer.Option(help="Folder that holds the champion and the history.")],
) -> None:
    """Put the previous champion back."""
    with exit_status.reported(model_uri):
        from attngan import publish as step

        print(step.restore_previous(model_uri)["reason"])


@app.command("import-released")
def import_released(
    text_encoder: Annotated[str, typer.Option(help="The authors' text_encoderN.pth.")],
    generator: Annotated[str, typer.Option(help="The authors' netG_epoch_N.pth, bird_AttnGAN2.pth ...")],
    vocabulary: Annotated[str, typer.Option(help="The authors' captions.pickle.")],
    out: Annotated[str, typer.Option(help="Gets generator, bundle and, with the image encoder, damsm.")],
    image_encoder: Annotated[str | None, typer.Option(help="The authors' image_encoderN.pth.")] = None,
) -> None:
    """Turn the authors' published weights into folders that the steps and generate read."""
    with exit_status.reported(out):
        from attngan import import_released as importing
        from attngan import storage

        with (
            storage.local_input(text_encoder) as texts,
            storage.local_input(generator) as network,
            storage.local_input(vocabulary) as words,
            storage.local_input(image_encoder) as images,
            storage.output(out, kind=None, inputs=[text_encoder, generator, vocabulary, image_encoder]) as to,
        ):
            for folder in importing.import_released(texts, network, words, to, image_encoder=images):
                print(f"{out.rstrip('/')}/{folder.name}")


@app.command()
def generate(
    bundle: Annotated[str, typer.Argument(help="What export-samples or import-released wrote.")],
    caption: Annotated[str, typer.Argument(help='Such as "a small red bird with black wings".')],
    num_images: Annotated[
        int, typer.Option("--num-images", "-n", min=1, max=MOST, help="Pictures, each from other noise.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="The same seed draws the same pictures.")] = 1,
    out: Annotated[str, typer.Option(help="Folder for the pictures.")] = "pictures",
) -> None:
    """Draw a sentence."""
    with exit_status.reported(out):
        from attngan import generate as drawing
        from attngan import storage

        with storage.output(out, kind=None, inputs=[bundle]) as to, storage.local_input(bundle) as package:
            for path in drawing.generate(package, caption, to, num_images=num_images, seed=seed):
                print(f"{out.rstrip('/')}/{path.relative_to(to).as_posix()}")


@app.command("export-onnx")
def export_onnx(
    bundle: Annotated[str, typer.Argument(help="What export-samples or import-released wrote.")],
    out: Annotated[str, typer.Option(help="Folder for text_encoder.onnx, generator.onnx, the vocabulary.")] = "onnx",
) -> None:
    """Write a bundle as ONNX, and check that onnxruntime draws the same pictures."""
    with exit_status.reported(out):
        from attngan import export_onnx as exporting
        from attngan import storage

        with storage.output(out, kind="onnx", inputs=[bundle]) as to, storage.local_input(bundle) as package:
            exporting.export_onnx(package, to)


@app.command()
def serve(
    bundle: Annotated[str, typer.Argument(help="What export-samples or import-released wrote.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    name: Annotated[str, typer.Option(help="The model's name in KServe's protocol.")] = "attngan",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    max_images: Annotated[int, typer.Option(min=1, max=FEW, help="Pictures of one request, at most.")] = 16,
) -> None:
    """Draw sentences on a web page, over HTTP, and in KServe's v2 protocol."""
    with exit_status.reported():
        from attngan import serve as serving
        from attngan import storage

        with storage.local_input(bundle) as package:
            serving.serve(package, host=host, port=port, name=name, device=device, max_images=max_images)


@app.command()
def plan(
    dataset: Annotated[str, typer.Option(help="What preprocess wrote.")],
    inception_weights: Annotated[str | None, typer.Option(help="ImageNet weights of Inception-v3.")] = None,
    price_per_hour: Annotated[float | None, typer.Option(min=0, max=LARGEST, help="Of the machine.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
) -> None:
    """Measure some seconds of both trainings here, and say what all of them will take."""
    with configured(None, config, set_, dry_run) as settings:
        from attngan import plan as planning
        from attngan import plan_table, storage

        with storage.local_input(dataset) as data, storage.local_input(inception_weights) as weights:
            parts = planning.plan(data, settings, inception_weights=weights)
            plan_table.tell(parts, settings, price_per_hour=price_per_hour)


def main() -> None:
    """Run the command line."""
    app()
