"""The pipeline on one page, and its command line: compile, run, sweep, step, submit, retry, schedule(s), unschedule.

`run` hands the same pipeline object to `kfp.local` that `compile` writes for a cluster; `step` runs one step alone.
"""

import functools
import inspect
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from kfp import dsl
from kfp.dsl import HTML, Artifact, Metrics, Model

import components
from attngan.cli.options import local_output
from attngan.runtime import exit_status, webhook
from attngan.runtime.command_group import Commands
from components import placement, sweep
from components.cluster import commands as cluster_commands
from components.cluster.notice import Notice
from components.image import IMAGE, check_pinned
from components.local import commands as local_commands
from components.notify import notify

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    cls=Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(local_commands.app)
app.add_typer(cluster_commands.app)


class Results(NamedTuple):
    """What a run leaves: the gallery and its page, the bundle, the reports, and what was decided about the bundle."""

    gallery: Artifact
    page: HTML
    bundle: Model
    metrics: Artifact
    report: HTML
    damsm_progress: HTML
    progress: HTML
    scores: Metrics
    decision: str


class Tasks(NamedTuple):
    """The six steps of a run."""

    preprocess: dsl.PipelineTask
    pretrain_damsm: dsl.PipelineTask
    train_generator: dsl.PipelineTask
    evaluate: dsl.PipelineTask
    export_samples: dsl.PipelineTask
    publish: dsl.PipelineTask


def six_steps(source, captions, inception_weights, inputs, model_uri, config, force, training, evaluation) -> Tasks:
    """Connect the six steps: this is the pipeline; `training` and `evaluation` are what is special to those steps."""
    data = components.preprocess(source=source, captions=captions, inputs=inputs, config=config)
    dataset = data.outputs["dataset"]
    encoders = components.pretrain_damsm(
        dataset=dataset, inception_weights=inception_weights, inputs=inputs, config=config, **training
    )
    damsm = encoders.outputs["damsm"]
    trained = components.train_generator(dataset=dataset, damsm=damsm, config=config, **training)
    generator = trained.outputs["generator"]
    scored = components.evaluate(dataset=dataset, damsm=damsm, generator=generator, config=config, **evaluation)
    metrics = scored.outputs["metrics"]
    samples = components.export_samples(
        generator=generator, dataset=dataset, damsm=damsm, metrics=metrics, config=config
    )
    bundle = samples.outputs["bundle"]
    published = components.publish(
        bundle=bundle, metrics=metrics, model_uri=model_uri, inputs=inputs, force=force, config=config
    )
    published.set_caching_options(enable_caching=False)  # the champion may have changed since
    return Tasks(data, encoders, trained, scored, samples, published)


@dsl.pipeline(name="attngan-local", description="The six steps of attngan, for this machine.")
def local_pipeline(
    source: str,
    inputs: str,
    model_uri: str,
    config: str = "",
    captions: str = "",
    inception_weights: str = "",
    checkpoint_root: str = "",
    force: bool = False,
) -> Results:
    """Run the six steps; the parameters are those of `attngan_pipeline`, `inputs` is what `detect_changes` finds."""
    training = {"checkpoint_root": checkpoint_root, "num_gpus": "0", "train_job": ""}
    sources = (source, captions, inception_weights, inputs)
    tasks = six_steps(
        *sources, model_uri, config, force, training, evaluation={"checkpoint_root": checkpoint_root, "num_gpus": "0"}
    )
    return Results(
        gallery=tasks.export_samples.outputs["gallery"],
        page=tasks.export_samples.outputs["page"],
        bundle=tasks.export_samples.outputs["bundle"],
        metrics=tasks.evaluate.outputs["metrics"],
        report=tasks.evaluate.outputs["report"],
        damsm_progress=tasks.pretrain_damsm.outputs["progress"],
        progress=tasks.train_generator.outputs["progress"],
        scores=tasks.evaluate.outputs["scores"],
        decision=tasks.publish.outputs["reason"],
    )


CALLED = {"name": "attngan", "description": "AttnGAN: from captioned images to pictures drawn from a sentence."}
SWEPT = {"name": "attngan-sweep", "description": "AttnGAN: every combination of some settings, and the best of all."}


@dsl.pipeline(**CALLED)
def attngan_pipeline(
    source: str,
    model_uri: str,
    config: str = "",
    captions: str = "",
    inception_weights: str = "",
    checkpoint_root: str = "",
    force: bool = False,
    always: bool = False,
    image: str = IMAGE,
    gpu_type: str = "nvidia.com/gpu",
    num_gpus: str = "1",
    cpu: str = "8",
    memory: str = "32Gi",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
    evaluation_gpus: str = "1",
    evaluation_cpu: str = "8",
    evaluation_memory: str = "32Gi",
    evaluation_node_selector: dict = {},  # noqa: B006
    evaluation_tolerations: list = [],  # noqa: B006
    train_job: str = "",
):
    """Train an AttnGAN where pictures, captions or settings are new, and publish it if it is better than the champion.

    Args:
        source: Folder, .tgz or .zip with images, in cloud storage.
        model_uri: Folder that holds the champion and the history, in cloud storage.
        config: Settings as YAML text, only what differs from the paper's.
        captions: Captions that are not in the source.
        inception_weights: ImageNet weights for image_encoder.kind; empty to train that from the start.
        checkpoint_root: Folder for training state that outlives a run; empty: beside the step's output.
        force: Publish whatever the metrics say.
        always: Train whatever has changed.
        image: The container image, pinned by digest or commit.
        gpu_type: Kubernetes resource of a GPU.
        num_gpus: GPUs of each training step; "0" for CPU nodes. A text, since KFP's backend reads only those here.
        cpu: Cores of each training step.
        memory: Memory of each training step.
        node_selector: Labels of the nodes that train.
        tolerations: Of the taints of those nodes.
        evaluation_gpus: GPUs of the evaluation, which uses one or none.
        evaluation_cpu: Its cores.
        evaluation_memory: Its memory.
        evaluation_node_selector: Labels of its node.
        evaluation_tolerations: Of the taints of its node.
        train_job: Settings of a TrainJob on several nodes as YAML text; the training steps then only wait for it.
    """
    changes = components.detect_changes(
        source=source,
        captions=captions,
        inception_weights=inception_weights,
        model_uri=model_uri,
        always=always,
        config=config,
    )
    changes.set_caching_options(enable_caching=False)  # its inputs are what lies behind the URIs
    # Named "Output": kfp.local finds no other in a condition.
    with dsl.If(changes.outputs["Output"] == True, name="retrain"):  # noqa: E712
        training = {"checkpoint_root": checkpoint_root, "num_gpus": num_gpus, "train_job": train_job}
        sources = (source, captions, inception_weights, changes.outputs["inputs"])
        evaluation = {"checkpoint_root": checkpoint_root, "num_gpus": evaluation_gpus}
        tasks = six_steps(*sources, model_uri, config, force, training, evaluation)
    placement.on_gpus(
        [tasks.pretrain_damsm, tasks.train_generator],
        gpu_type=gpu_type,
        num_gpus=num_gpus,
        cpu=cpu,
        memory=memory,
        node_selector=node_selector,
        tolerations=tolerations,
    )
    placement.on_gpus(
        [tasks.evaluate],
        gpu_type=gpu_type,
        num_gpus=evaluation_gpus,
        cpu=evaluation_cpu,
        memory=evaluation_memory,
        node_selector=evaluation_node_selector,
        tolerations=evaluation_tolerations,
    )
    placement.on_cpu([tasks.preprocess, tasks.export_samples], cpu="2", memory="4Gi", most_memory="8Gi")
    placement.on_cpu([changes, tasks.publish], cpu="500m", memory="2Gi")
    placement.everywhere([changes, *tasks], image=image)


@dsl.pipeline(**SWEPT)
def attngan_sweep(
    source: str,
    model_uri: str,
    checkpoint_root: str,
    encoders: list,
    members: list,
    config: str = "",
    captions: str = "",
    inception_weights: str = "",
    force: bool = False,
    image: str = IMAGE,
    gpu_type: str = "nvidia.com/gpu",
    num_gpus: str = "1",
    cpu: str = "8",
    memory: str = "32Gi",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
):
    """Train with every combination of some settings, compare all, and publish the best if it beats the champion.

    Args:
        source: Folder, .tgz or .zip with images, in cloud storage.
        model_uri: Folder that holds the champion and the history, in cloud storage.
        checkpoint_root: Folder for training state and for what members make, which outlives the run.
        encoders: A member of each set of encoders, as {"varied": "NAME=VALUE" a line}.
        members: All members, in the same form.
        config: Settings that all share as YAML text.
        captions: Captions that are not in the source.
        inception_weights: ImageNet weights for image_encoder.kind; empty to train that from the start.
        force: Publish whatever the metrics say.
        image: The container image, pinned by digest or commit.
        gpu_type: Kubernetes resource of a GPU.
        num_gpus: GPUs of each member; "0" for CPU nodes.
        cpu: Cores of each member.
        memory: Memory of each member.
        node_selector: Labels of the nodes that train.
        tolerations: Of the taints of those nodes.
    """
    sources = {"source": source, "captions": captions}
    changes = components.detect_changes(
        **sources, inception_weights=inception_weights, model_uri=model_uri, always=True, config=config
    )
    inputs = changes.outputs["inputs"]
    data = components.preprocess(**sources, inputs=inputs, config=config)
    common = {"inputs": inputs, "config": config, "checkpoint_root": checkpoint_root}
    on = {"dataset": data.outputs["dataset"], "num_gpus": num_gpus}
    with dsl.ParallelFor(encoders, name="encoders", parallelism=1) as each:  # `compiled.write` says how many at once
        trained = sweep.sweep_encoders(**common, **on, inception_weights=inception_weights, varied=each.varied)
    with dsl.ParallelFor(members, name="members", parallelism=1) as each:
        encoded = dsl.Collected(trained.output)
        member = sweep.sweep_member(**common, **on, encoders=encoded, varied=each.varied)
    done = dsl.Collected(member.outputs["Output"])
    table = sweep.sweep_table(**common, members=members, done=done).ignore_upstream_failure()
    published = components.publish(
        bundle=table.outputs["bundle"],
        metrics=table.outputs["metrics"],
        model_uri=model_uri,
        inputs=inputs,
        force=force,
        config=table.outputs["Output"],
    )
    for task in (changes, trained, member, table, published):  # they see themselves what is there
        task.set_caching_options(enable_caching=False)
    nodes = {"cpu": cpu, "memory": memory, "node_selector": node_selector, "tolerations": tolerations}
    placement.on_gpus([trained, member], gpu_type=gpu_type, num_gpus=num_gpus, **nodes)
    placement.on_cpu([data, table], cpu="2", memory="4Gi", most_memory="8Gi")
    placement.on_cpu([changes, published], cpu="500m", memory="2Gi")
    placement.everywhere([changes, data, trained, member, table, published], image=image)


def cluster_pipeline(notice: Notice | None = None) -> Any:
    """Return the pipeline for a cluster, which sends a notice where one is wanted."""
    return _with_notice(attngan_pipeline, CALLED, notice)


def sweep_pipeline(notice: Notice | None = None) -> Any:
    """Return the pipeline of a sweep, which sends a notice where one is wanted."""
    return _with_notice(attngan_sweep, SWEPT, notice)


def _with_notice(pipeline: Any, called: dict[str, str], notice: Notice | None) -> Any:
    """Put a pipeline inside an exit handler, whose task sends the notice however the run ends."""
    if notice is None:
        return pipeline
    steps = pipeline.pipeline_func

    @dsl.pipeline(**called)
    @functools.wraps(steps)
    def with_notice(*parameters):
        given = inspect.signature(steps).bind(*parameters).arguments
        sent = notify(
            to=notice.to,
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            run_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            page=notice.page,
            runs=f"{notice.pipeline_root}/{pipeline.name}",
            model_uri=given["model_uri"],
        )
        sent.set_caching_options(enable_caching=False)
        if notice.secret:
            name, key = notice.secret
            placement.with_secret(sent, name=name, key=key, variable=webhook.VARIABLE)
        placement.on_cpu([sent], cpu="500m", memory="2Gi")
        placement.everywhere([sent], image=given["image"])
        with dsl.ExitHandler(sent, name="run"):
            steps(*parameters)

    return with_notice


@app.command("compile")
def compile_pipeline(
    out: Annotated[str, typer.Option("--out", "-o", callback=local_output, help="The YAML file.")] = "pipeline.yaml",
) -> None:
    """Write the pipeline as YAML for a cluster, and check it by reading it back."""
    with exit_status.reported(out):
        from components import compiled

        check_pinned(IMAGE)
        tasks = compiled.write(attngan_pipeline, Path(out))
        print(f"{out}: {len(tasks)} tasks, {' -> '.join(tasks)}")
        print(f"image by default: {IMAGE}")


@app.callback()
def describe(context: typer.Context) -> None:
    """The AttnGAN pipeline: six steps from captioned images to pictures drawn from a sentence."""
    context.obj = {"local": local_pipeline, "cluster": cluster_pipeline, "sweep": sweep_pipeline}


if __name__ == "__main__":
    app()
