"""Step 6: bundle, metrics -> the champion, if the gate opens."""

from kfp.dsl import Artifact, Input, Model

from components.image import component


@component
def publish(bundle: Input[Model], metrics: Input[Artifact], model_uri: str, force: bool, config: str) -> bool:
    """Make the bundle the champion if its metrics are better.

    Args:
        bundle: What export_samples wrote.
        metrics: What evaluate wrote.
        model_uri: Folder that holds the champion and the history.
        force: Publish whatever the metrics say.
        config: Settings as YAML text.

    Returns:
        Whether the bundle is the champion now.
    """
    from pathlib import Path

    from attngan import config as settings
    from attngan import exit_status, storage
    from attngan import publish as step

    with exit_status.reported(model_uri):
        champion = storage.local_only(model_uri, "the model URI")
        decision = step.publish(Path(bundle.path), Path(metrics.path), champion, settings.load(config), force=force)
    print(decision["reason"])
    return bool(decision["promoted"])
