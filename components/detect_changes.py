"""Before the six steps: is there anything new to train on?"""

from kfp.dsl import OutputPath

from components.image import component


@component
def detect_changes(
    source: str,
    captions: str,
    inception_weights: str,
    model_uri: str,
    always: bool,
    config: str,
    inputs: OutputPath(str),
    reason: OutputPath(str),
) -> bool:
    """Compare the sources and the settings with those of the models before; that nothing is new goes into the history.

    Args:
        source: Folder, .tgz or .zip with images, local or in cloud storage.
        captions: Captions that are not in the source; may be empty.
        inception_weights: ImageNet weights for image_encoder.kind; may be empty.
        model_uri: Folder that holds the champion and the history of decisions.
        always: Train whatever has changed.
        config: Settings as YAML text.
        inputs: Fingerprint of the sources.
        reason: Why there is something to train, or why not.

    Returns:
        Whether to train.
    """
    from pathlib import Path

    from attngan.config import settings
    from attngan.steps import detect_changes as step
    from attngan.storage import mistakes

    sources = [source, captions, inception_weights]
    with mistakes.reported("detect_changes", model_uri, root=model_uri, given=[*sources, config]):
        found = step.detect_changes(sources, model_uri, settings.load(config), always=always, remember=True)
    print(found["reason"])
    Path(inputs).write_text(found["inputs"], encoding="utf-8")
    Path(reason).write_text(found["reason"], encoding="utf-8")
    return bool(found["retrain"])
