"""Step 4: dataset, damsm, generator -> metrics, report."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def evaluate(
    dataset: Input[Dataset],
    damsm: Input[Model],
    generator: Input[Model],
    checkpoint_root: str,
    config: str,
    num_gpus: str,
    metrics: Output[Artifact],
    report: Output[HTML],
    scores: Output[Metrics],
):
    """Measure how good the pictures are, with controls that say how good the measures are.

    Args:
        dataset: What preprocess wrote.
        damsm: What pretrain_damsm wrote.
        generator: What train_generator wrote.
        checkpoint_root: Folder for what outlives a retry, local or in cloud storage; empty: beside the output.
        config: Settings as YAML text.
        num_gpus: GPUs that this step asked for: it stops where they cannot be used. "0": whatever there is.
        metrics: Folder with metrics.json and the report.
        report: The report as one HTML page.
        scores: The same metrics for the pipeline's pages.
    """
    from pathlib import Path

    from attngan.config import settings
    from attngan.steps import evaluate as step
    from attngan.storage import mistakes, pipeline_outputs

    out = Path(metrics.path)
    state = checkpoint_root or f"{metrics.uri}.state"  # a retry has the same URI
    given = [dataset.uri, damsm.uri, generator.uri, config, num_gpus, metrics.uri]
    with mistakes.reported("evaluate", out, root=state, given=given):
        loaded = settings.load(config, overrides=["device=cuda"] if int(num_gpus) else [])
        inputs = Path(dataset.path), Path(damsm.path), Path(generator.path)
        values = step.evaluate(*inputs, out, loaded, state=state)
    pipeline_outputs.show_page(out / "report.html", report)
    pipeline_outputs.log_metrics(values, scores)
