"""Step 2: dataset -> damsm (text encoder + image encoder)."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def pretrain_damsm(
    dataset: Input[Dataset],
    inception_weights: str,
    checkpoint_root: str,
    config: str,
    damsm: Output[Model],
    scores: Output[Metrics],
):
    """Train both encoders on matching images and captions.

    Args:
        dataset: What preprocess wrote.
        inception_weights: ImageNet weights of Inception-v3, local or gs://; empty to train from the start.
        checkpoint_root: Folder for training state that outlives the step; empty: beside the output.
        config: Settings as YAML text.
        damsm: Both encoders and the vocabulary.
        scores: Retrieval of the kept epoch.
    """
    import json
    from pathlib import Path

    from attngan import config as settings
    from attngan import exit_status, storage
    from attngan import pretrain_damsm as step

    state = Path(checkpoint_root) if checkpoint_root else None
    with exit_status.reported(damsm.path), storage.local_input(inception_weights or None) as weights:
        values = step.pretrain_damsm(
            Path(dataset.path), Path(damsm.path), settings.load(config), inception_weights=weights, state=state
        )
    for name, value in values.items():
        scores.log_metric(name, value)
    Path(scores.path).write_text(json.dumps(values), encoding="utf-8")  # kfp.local keeps only outputs that exist
