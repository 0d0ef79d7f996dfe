"""Step 5: generator, captions -> gallery (images + attention maps), bundle."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from components.image import component


@component
def export_samples(
    generator: Input[Model],
    dataset: Input[Dataset],
    damsm: Input[Model],
    metrics: Input[Artifact],
    config: str,
    gallery: Output[Artifact],
    page: Output[HTML],
    bundle: Output[Model],
):
    """Draw captions into a gallery, and pack the model for use.

    Args:
        generator: What train_generator wrote.
        dataset: What preprocess wrote; its test captions are drawn beside those of the config.
        damsm: What pretrain_damsm wrote; it orders the variants of a caption.
        metrics: What evaluate wrote, kept in the bundle's provenance.
        config: Settings as YAML text.
        gallery: Folder with the gallery and its pictures.
        page: The gallery as one HTML page.
        bundle: Generator, text encoder, vocabulary, config and provenance: all that drawing needs.
    """
    from pathlib import Path

    from attngan.config import settings
    from attngan.steps import export_samples as step
    from attngan.storage import mistakes, pipeline_outputs

    out = Path(gallery.path)
    given = [generator.uri, dataset.uri, damsm.uri, metrics.uri, config, gallery.uri]
    with mistakes.reported("export_samples", out, root=f"{gallery.uri}.state", given=given):
        step.export_samples(
            Path(generator.path),
            out,
            Path(bundle.path),
            settings.load(config),
            dataset=Path(dataset.path),
            damsm=Path(damsm.path),
            metrics=Path(metrics.path),
        )
    pipeline_outputs.show_page(out / "index.html", page)
