"""Step 2: dataset -> damsm (text encoder + image encoder)."""

from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def pretrain_damsm(
    dataset: Input[Dataset],
    inception_weights: str,
    inputs: str,
    checkpoint_root: str,
    config: str,
    num_gpus: str,
    train_job: str,
    damsm: Output[Model],
    progress: Output[HTML],
    scores: Output[Metrics],
):
    """Train both encoders on matching images and captions.

    Args:
        dataset: What preprocess wrote.
        inception_weights: ImageNet weights for image_encoder.kind, local or remote; empty to train from the start.
        inputs: Fingerprint of the sources, the weights too: KFP's cache knows their URIs only.
        checkpoint_root: Folder for training state that outlives a run, local or remote; empty: beside the output.
        config: Settings as YAML text.
        num_gpus: GPUs that this step asked for: it stops where they cannot be used. "0": whatever there is.
        train_job: Settings of a TrainJob on several nodes as YAML text; empty: train in this step's pod.
        damsm: Both encoders and the vocabulary.
        progress: The course of the training as one HTML page.
        scores: Retrieval of the kept epoch.
    """
    import functools
    from pathlib import Path

    from attngan.config import settings
    from attngan.steps import pretrain_damsm as step
    from attngan.storage import mistakes, pipeline_outputs, places
    from attngan.training import train_job as several_nodes

    data, out, state = Path(dataset.path), Path(damsm.path), checkpoint_root or f"{damsm.uri}.state"  # as of a retry
    given = [dataset.uri, inception_weights, inputs, config, num_gpus, train_job, damsm.uri]
    with mistakes.reported("pretrain_damsm", out, root=state, given=given):
        device = ["device=cuda"] if int(num_gpus) else []
        loaded = settings.load(config, overrides=device, defaults=settings.IN_A_POD)
        uris = {"dataset": dataset.uri, "inception-weights": inception_weights, "out": damsm.uri, "state": state}
        with places.local_input(None if train_job else inception_weights or None) as weights:  # nodes fetch it
            here = functools.partial(step.pretrain_damsm, data, out, loaded, inception_weights=weights, state=state)
            values = several_nodes.train(train_job, "pretrain-damsm", uris, loaded, out, here=here)
    pipeline_outputs.show_page(out / "progress.html", progress)
    pipeline_outputs.log_metrics(values, scores)
