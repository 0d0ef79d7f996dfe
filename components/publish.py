"""Step 6: bundle, metrics -> the champion, if the gate opens."""

from typing import NamedTuple

from kfp.dsl import Artifact, Input, Model

from components.image import component


@component
def publish(
    bundle: Input[Model], metrics: Input[Artifact], model_uri: str, inputs: str, force: bool, config: str
) -> NamedTuple("Decision", [("promoted", bool), ("reason", str)]):
    """Make the bundle the champion if its metrics are better.

    Args:
        bundle: What export_samples wrote.
        metrics: What evaluate wrote.
        model_uri: Folder that holds the champion and the history, local or in cloud storage.
        inputs: Fingerprint of the sources, for the next run to see whether they changed.
        force: Publish whatever the metrics say.
        config: Settings as YAML text.

    Returns:
        Whether the bundle is the champion now, and why.
    """
    from collections import namedtuple
    from pathlib import Path

    from attngan.config import settings
    from attngan.steps import publish as step
    from attngan.storage import mistakes

    given = [bundle.uri, metrics.uri, inputs, str(force), config]
    with mistakes.reported("publish", model_uri, root=model_uri, given=given):
        decision = step.publish(
            Path(bundle.path), Path(metrics.path), model_uri, settings.load(config), inputs=inputs, force=force
        )
    print(decision["reason"])
    return namedtuple("Decision", ["promoted", "reason"])(decision["promoted"], decision["reason"])
