"""Training on several nodes: a step submits a TrainJob of Kubeflow Trainer v2 and waits for its verdict.

The step's own pod is a coordinator without GPU. The pods of the job read and write cloud storage themselves and run the
same command that a person would: `torchrun -m attngan train-generator ...`; who is who comes from the runtime.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from attngan.config import settings as configs
from attngan.config import yaml_text
from attngan.config.bounds import FEW
from attngan.config.section import Few, FewOrNone, Section, Text
from attngan.config.settings import Config
from attngan.errors import InputError, TransientError
from attngan.runtime.console import say
from attngan.storage import artifacts, json_text, places, uris
from attngan.training.train_job_cluster import NODE, SECTION, Cluster, Nodes

POLL_SECONDS = 10.0
SHARED_MEMORY = "8Gi"  # /dev/shm: for NCCL between processes; a pod has 64 MB

Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value),
    Field(max_length=40, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"),
]


class Toleration(Section):
    """A taint that the nodes may have, in the words of Kubernetes."""

    key: Text | None = None
    operator: Literal["Equal", "Exists"] | None = None
    value: Text | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    tolerationSeconds: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None  # as Kubernetes keeps it


class TrainJob(Section):
    """Which nodes train, and for how long."""

    nodes: Annotated[Few, Field(ge=2)]
    image: Annotated[Text, Field(min_length=1)]  # that of the pipeline, pinned by digest or commit
    gpus: FewOrNone = 1  # of each node, a process each; 0: one process on the CPU
    gpu_type: Text = "nvidia.com/gpu"  # the resource; the model of a GPU is the node selector's
    cpu: Quantity = "8"  # of each node
    memory: Quantity = "32Gi"
    node_selector: dict[Text, Text] = Field(default_factory=dict, max_length=FEW)
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=FEW)] = ()
    service_account: Text = ""  # of the nodes, which read and write the bucket; empty: the namespace's default
    runtime: Text = "torch-distributed"  # a ClusterTrainingRuntime for torch, whose container is named "node"
    deadline_seconds: Annotated[int, Field(ge=1, le=366 * 24 * 3600)] = 14 * 24 * 3600


def load(text: str) -> TrainJob:
    """Read the settings of a job from YAML text."""
    return yaml_text.validated(TrainJob, yaml_text.parse(text, "train_job"), "train_job")


def train(
    text: str, step: str, flags: dict[str, str], config: Config, out: Path, *, here: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Train where `text` says, and return the figures of the result in `out`.

    Args:
        text: the job's settings as YAML; empty to train in this process.
        step: command of the step, "train-generator".
        flags: its inputs and folders by flag, each in cloud storage or empty; `out` is where the nodes deliver.
        config: of the run.
        out: local folder for the result, named as the last part of `flags["out"]`.
        here: trains in this process.
    """
    if not text:
        return here()
    job = load(text)
    flags = {flag: uri for flag, uri in flags.items() if uri}
    local = [f"{flag} {uri}" for flag, uri in flags.items() if not uris.is_remote(uri)]
    if local:
        raise InputError(
            f"train_job: several nodes share their folders in cloud storage, found {', '.join(local)}; give the "
            "pipeline a root there, or leave train_job empty."
        )
    arguments = [part for flag, uri in flags.items() for part in (f"--{flag}", uri)]
    overrides = [*configs.overrides(config), *(["device=cuda"] if job.gpus else [])]
    arguments += [part for override in overrides for part in ("--set", override)]
    command = ["torchrun", "-m", "attngan", step, *arguments]
    run(Cluster(), body(job, step, command))
    places.fetch(flags["out"], out.parent)
    return _figures(out)


def body(job: TrainJob, step: str, command: list[str]) -> dict[str, Any]:
    """Return the TrainJob to submit; its name follows from what it does, so that a retry of the step finds it again."""
    from kubeflow_trainer_api import models

    quantities = {"cpu": job.cpu, "memory": job.memory} | ({job.gpu_type: str(job.gpus)} if job.gpus else {})
    resources = {name: models.IoK8sApimachineryPkgApiResourceQuantity(value) for name, value in quantities.items()}
    trainer = models.TrainerV1alpha1Trainer(
        image=job.image,
        command=[part.replace("$", "$$") for part in command],  # Kubernetes would fill in $(NAME)
        num_nodes=job.nodes,
        num_proc_per_node=max(1, job.gpus),
        resources_per_node=models.IoK8sApiCoreV1ResourceRequirements(requests=resources, limits=resources),
    )
    digest = artifacts.fingerprint([step, command, job.model_dump()])
    return models.TrainerV1alpha1TrainJob(
        api_version="trainer.kubeflow.org/v1alpha1",
        kind="TrainJob",
        metadata=models.IoK8sApimachineryPkgApisMetaV1ObjectMeta(
            name=f"attngan-{step}-{digest[:10]}",
            labels={"app.kubernetes.io/name": "attngan", "app.kubernetes.io/component": step},
        ),
        spec=models.TrainerV1alpha1TrainJobSpec(
            runtime_ref=models.TrainerV1alpha1RuntimeRef(name=job.runtime),
            trainer=trainer,
            active_deadline_seconds=job.deadline_seconds,
            runtime_patches=[_placement(job)],
        ),
    ).to_dict()


def _placement(job: TrainJob) -> Any:
    """Return where the pods run, as a patch of the runtime: labels of nodes, taints, /dev/shm."""
    from kubeflow_trainer_api import models

    memory = models.IoK8sApimachineryPkgApiResourceQuantity(SHARED_MEMORY)
    volume = models.IoK8sApiCoreV1Volume(
        name="shm", empty_dir=models.IoK8sApiCoreV1EmptyDirVolumeSource(medium="Memory", size_limit=memory)
    )
    mount = models.IoK8sApiCoreV1VolumeMount(name="shm", mount_path="/dev/shm")
    pod = models.TrainerV1alpha1PodTemplatePatch(
        # A profile's namespace adds Istio's sidecar, which never ends and stands between the nodes.
        metadata=models.IoK8sApimachineryPkgApisMetaV1ObjectMeta(labels={"sidecar.istio.io/inject": "false"}),
        spec=models.TrainerV1alpha1PodSpecPatch(
            node_selector=job.node_selector or None,
            service_account_name=job.service_account or None,
            tolerations=[
                models.IoK8sApiCoreV1Toleration.from_dict(one.model_dump(exclude_none=True)) for one in job.tolerations
            ]
            or None,
            volumes=[volume],
            containers=[models.TrainerV1alpha1ContainerPatch(name=NODE, volume_mounts=[mount])],
        ),
    )
    replicated = models.TrainerV1alpha1ReplicatedJobPatch(
        name=NODE,
        template=models.TrainerV1alpha1JobTemplatePatch(spec=models.TrainerV1alpha1JobSpecPatch(template=pod)),
    )
    return models.TrainerV1alpha1RuntimePatch(
        manager="attngan.io/step",
        training_runtime_spec=models.TrainerV1alpha1TrainingRuntimeSpecPatch(
            template=models.TrainerV1alpha1JobSetTemplatePatch(
                spec=models.TrainerV1alpha1JobSetSpecPatch(replicated_jobs=[replicated])
            )
        ),
    )


def run(cluster: Cluster, job: dict[str, Any]) -> None:
    """Submit a job, or find it again, and wait until it is complete; a failed one ends this process with status 1.

    Interrupted, it deletes the job: nobody would wait for nodes that cost money, and training goes on from its state.
    """
    name = job["metadata"]["name"]
    nodes = Nodes(cluster, name)
    try:
        _wait(cluster, job, nodes)
    except KeyboardInterrupt:
        cluster.give_up(name)
        raise


def _wait(cluster: Cluster, job: dict[str, Any], nodes: Nodes) -> None:
    name, is_ours = job["metadata"]["name"], False
    while True:
        found = cluster.find(name)
        verdict = _verdict(found)
        if found is None and is_ours:
            raise TransientError(f"TrainJob {name}: somebody deleted it while it ran; run the step again to go on.")
        if found is None:
            is_ours = cluster.create(job)
        elif verdict["type"] == "Complete":
            say(f"TrainJob {name} in {cluster.namespace}: complete")
            return
        elif verdict["type"] == "Failed" and is_ours:
            _fail(name, verdict, nodes)
        elif "deletionTimestamp" in found["metadata"]:
            pass  # it goes
        elif verdict["type"] == "Failed":
            say(f"TrainJob {name}: failed in an earlier try; replaced")
            cluster.delete(found)
        elif is_ours or cluster.owns(found) or cluster.take_over(found):
            is_ours = True
            nodes.tell()
        else:
            say(
                f"TrainJob {name}: it is an earlier attempt's, and to take it over is not allowed ({SECTION}); "
                "replaced, and training goes on from its last state"
            )
            cluster.delete(found)
        time.sleep(POLL_SECONDS)


def _verdict(found: dict[str, Any] | None) -> dict[str, str]:
    """Return the condition that ends a job, or one without a type."""
    conditions = ((found or {}).get("status") or {}).get("conditions") or []
    ended = [one for one in conditions if one["type"] in ("Complete", "Failed") and one["status"] == "True"]
    return ended[0] if ended else {"type": ""}


def _fail(name: str, verdict: dict[str, str], nodes: Nodes) -> None:
    nodes.tell()
    for line in nodes.tail:
        print(f"node 0 | {line}", file=sys.stderr)
    reason = ": ".join(filter(None, (verdict.get("reason"), verdict.get("message"))))
    print(
        f"attngan: TrainJob {name} failed ({reason or 'no reason given'}); {nodes.summary or 'no pods left'}; the last "
        "lines of node 0 are above, and a retry goes on from the last state.",
        file=sys.stderr,
        flush=True,
    )
    raise SystemExit(1)


def _figures(folder: Path) -> dict[str, float]:
    """Return what the step logs of its result: the kept epoch's retrieval, or else the last losses."""
    if (folder / "retrieval.json").is_file():
        return json_text.read(folder / "retrieval.json", dict[str, float])
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json_text.parse(lines[-1], f"{folder / 'metrics.jsonl'}, last line", dict[str, float]) if lines else {}
    return {name: value for name, value in last.items() if name != "step"}
