"""A sweep on a cluster: its encoders, its members, and the table of all, from which the best is published."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.image import component


@component
def sweep_encoders(
    dataset: Input[Dataset],
    inception_weights: str,
    inputs: str,
    checkpoint_root: str,
    config: str,
    varied: str,
    num_gpus: str,
) -> str:
    """Train the encoders of some members, unless they are there; what goes wrong is kept for the table.

    Args:
        dataset: What preprocess wrote.
        inception_weights: ImageNet weights for image_encoder.kind; empty to train from the start.
        inputs: Fingerprint of the sources, the weights too.
        checkpoint_root: Folder for training state and for what members make.
        config: Settings that all members share as YAML text.
        varied: What varies, a NAME=VALUE a line.
        num_gpus: GPUs that this step asked for: it stops where they cannot be used. "0": whatever there is.

    Returns:
        Where they are, for those who wait for it.
    """
    from pathlib import Path

    from attngan.config import variations
    from attngan.steps import sweep as step
    from attngan.storage import mistakes, places

    given = [dataset.uri, inception_weights, inputs, config, varied, num_gpus]
    with (
        mistakes.reported("sweep_encoders", dataset.path, root=checkpoint_root, given=given),
        places.local_input(inception_weights or None) as weights,
    ):
        member = variations.in_a_pod(config, varied, num_gpus=int(num_gpus))
        here = step.Sweep(f"{checkpoint_root}/sweep", inputs, checkpoint_root)
        here.train_encoders(member, Path(dataset.path), inception_weights=weights)
    return here.encoders(member.config)


@component
def sweep_member(
    dataset: Input[Dataset],
    inputs: str,
    checkpoint_root: str,
    config: str,
    encoders: list,
    varied: str,
    num_gpus: str,
    scores: Output[Metrics],
) -> str:
    """Train, measure and pack a member, unless it is done; what goes wrong is kept for the table.

    Args:
        dataset: What preprocess wrote.
        inputs: Fingerprint of the sources, the weights too.
        checkpoint_root: Folder for training state and for what members make.
        config: Settings that all members share as YAML text.
        encoders: Where all encoders are, which have to be there before; it finds its own.
        varied: What varies, a NAME=VALUE a line.
        num_gpus: GPUs that this step asked for: it stops where they cannot be used. "0": whatever there is.
        scores: Its metrics.

    Returns:
        Where it is, for the table to wait for.
    """
    from pathlib import Path

    from attngan.config import variations
    from attngan.steps import sweep as step
    from attngan.storage import mistakes, pipeline_outputs

    given = [dataset.uri, inputs, config, varied, num_gpus]
    with mistakes.reported("sweep_member", dataset.path, root=checkpoint_root, given=given):
        member = variations.in_a_pod(config, varied, num_gpus=int(num_gpus))
        here = step.Sweep(f"{checkpoint_root}/sweep", inputs, checkpoint_root)
        result = here.train_member(member, Path(dataset.path))
    pipeline_outputs.log_metrics(result.get("figures", {}), scores)
    return here.member(member.config)


@component
def sweep_table(
    checkpoint_root: str,
    config: str,
    members: list,
    table: Output[HTML],
    results: Output[Artifact],
    bundle: Output[Model],
    metrics: Output[Artifact],
    inputs: str = "",
    done: list = [],  # noqa: B006
) -> str:
    """Put all members into a table, and hand the best on.

    Args:
        checkpoint_root: Folder for training state and for what members make.
        config: Settings that all members share as YAML text.
        members: Of each what varies, as {"varied": ...}.
        table: All members, their figures, and why some failed, as one HTML page.
        results: The same as JSON.
        bundle: That of the best.
        metrics: Those of the best.
        inputs: Fingerprint of the sources, the weights too. It has a default, as has what follows, because KFP asks
            for one where a step runs also after others have failed.
        done: Where members are, which have to have ended before.

    Returns:
        The best one's settings as YAML text.
    """
    from pathlib import Path

    from attngan.config import settings, variations
    from attngan.steps import sweep as step
    from attngan.storage import mistakes, pipeline_outputs

    out = Path(results.path)
    out.mkdir(parents=True, exist_ok=True)
    given = [inputs, config, *(member["varied"] for member in members), results.uri]
    with mistakes.reported("sweep_table", out, root=checkpoint_root, given=given):
        found = [variations.in_a_pod(config, member["varied"]) for member in members]
        base = settings.load(config).publish
        here = step.Sweep(f"{checkpoint_root}/sweep", inputs, checkpoint_root)
        best = here.table(found, out, metric=base.metric, higher_is_better=base.higher_is_better)
        step.tell(out / step.TABLE)
        here.fetch(best, bundle=Path(bundle.path), metrics=Path(metrics.path))
    pipeline_outputs.show_page(out / step.PAGE, table)
    return settings.dump(best.config)
