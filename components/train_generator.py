"""Step 3: dataset, damsm -> generator, progress report."""

from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def train_generator(
    dataset: Input[Dataset],
    damsm: Input[Model],
    checkpoint_root: str,
    config: str,
    num_gpus: str,
    train_job: str,
    generator: Output[Model],
    progress: Output[HTML],
    scores: Output[Metrics],
):
    """Train the generator against its discriminators; the averaged generator is the result.

    Args:
        dataset: What preprocess wrote.
        damsm: What pretrain_damsm wrote.
        checkpoint_root: Folder for training state that outlives a run, local or remote; empty: beside the output.
        config: Settings as YAML text.
        num_gpus: GPUs that this step asked for: it stops where they cannot be used. "0": whatever there is.
        train_job: Settings of a TrainJob on several nodes as YAML text; empty: train in this step's pod.
        generator: The averaged generator, the text encoder, the vocabulary, the course of the training.
        progress: The course of the training as one HTML page.
        scores: The last losses.
    """
    import functools
    from pathlib import Path

    from attngan.config import settings
    from attngan.steps import train_generator as step
    from attngan.storage import mistakes, pipeline_outputs
    from attngan.training import train_job as several_nodes

    inputs, out = (Path(dataset.path), Path(damsm.path)), Path(generator.path)
    state = checkpoint_root or f"{generator.uri}.state"  # a retry has the same URI
    given = [dataset.uri, damsm.uri, config, num_gpus, train_job, generator.uri]
    with mistakes.reported("train_generator", out, root=state, given=given):
        device = ["device=cuda"] if int(num_gpus) else []
        loaded = settings.load(config, overrides=device, defaults=settings.IN_A_POD)
        uris = {"dataset": dataset.uri, "damsm": damsm.uri, "out": generator.uri, "state": state}
        here = functools.partial(step.train_generator, *inputs, out, loaded, state=state)
        values = several_nodes.train(train_job, "train-generator", uris, loaded, out, here=here)
    pipeline_outputs.show_page(out / "progress.html", progress)
    pipeline_outputs.log_metrics(values, scores)
