"""Step 3: dataset, damsm -> generator, progress report."""

from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def train_generator(
    dataset: Input[Dataset],
    damsm: Input[Model],
    checkpoint_root: str,
    config: str,
    generator: Output[Model],
    progress: Output[HTML],
    scores: Output[Metrics],
):
    """Train the generator against its discriminators; the averaged generator is the result.

    Args:
        dataset: What preprocess wrote.
        damsm: What pretrain_damsm wrote.
        checkpoint_root: Folder for training state that outlives the step; empty: beside the output.
        config: Settings as YAML text.
        generator: The averaged generator, the text encoder, the vocabulary, the course of the training.
        progress: The course of the training as one HTML page.
        scores: The last losses.
    """
    import json
    import shutil
    from pathlib import Path

    from attngan import config as settings
    from attngan import exit_status
    from attngan import train_generator as step

    out = Path(generator.path)
    state = Path(checkpoint_root) if checkpoint_root else None
    with exit_status.reported(out):
        values = step.train_generator(Path(dataset.path), Path(damsm.path), out, settings.load(config), state=state)
    shutil.copyfile(out / "progress.html", progress.path)
    for name, value in values.items():
        scores.log_metric(name, value)
    Path(scores.path).write_text(json.dumps(values), encoding="utf-8")  # kfp.local keeps only outputs that exist
