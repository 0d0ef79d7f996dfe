"""Where the tasks of a run are placed in a cluster, and how long they are tried again when a node goes away."""

from collections.abc import Iterable
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask
from kfp.dsl.pipeline_channel import PipelineParameterChannel

GPU_RETRIES = 10  # nodes with GPUs are often spot nodes, and go away
CPU_RETRIES = 2
TWO_WEEKS = "1209600s"  # Argo counts from the first try on: KFP's default of an hour would end every longer step
SHARED_MEMORY = "8Gi"  # /dev/shm: for NCCL between processes; a pod has 64 MB


def everywhere(tasks: Iterable[PipelineTask], *, image: Any) -> None:
    """Say which image tasks run.

    Args:
        tasks: of the run.
        image: pinned by digest or commit; text, or a parameter of the pipeline.
    """
    for task in tasks:
        task.set_container_image(image)
        kubernetes.set_image_pull_policy(task, "IfNotPresent")


def on_gpus(
    tasks: Iterable[PipelineTask],
    *,
    gpu_type: Any,
    num_gpus: Any,
    cpu: Any,
    memory: Any,
    node_selector: Any,
    tolerations: Any,
) -> None:
    """Place tasks on nodes with GPUs, or on CPU nodes where `num_gpus` is 0; any value may be a pipeline's parameter.

    Args:
        tasks: the tasks.
        gpu_type: the resource's name, `nvidia.com/gpu`; the model of a GPU is the node selector's.
        num_gpus: how many each gets, as text: KFP's backend takes no number from a parameter here.
        cpu: cores, requested and limit, such as "8".
        memory: requested and limit, such as "32Gi".
        node_selector: labels of the nodes, as a dict.
        tolerations: of the nodes' taints, as a list.
    """
    for task in tasks:
        task.register_pipeline_channels(  # kfp 2.17 forgets these parameters inside a condition
            [value for value in (gpu_type, num_gpus, cpu, memory) if isinstance(value, PipelineParameterChannel)]
        )
        _try_again(task, GPU_RETRIES)
        task.set_accelerator_type(gpu_type).set_accelerator_limit(num_gpus)
        task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
        kubernetes.add_node_selector_json(task, node_selector)
        kubernetes.add_toleration_json(task, tolerations)
        kubernetes.empty_dir_mount(
            task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=SHARED_MEMORY
        )


def on_cpu(tasks: Iterable[PipelineTask], *, cpu: str, memory: str, most_memory: str = "") -> None:
    """Ask for a share of any node: `cpu` cores and `memory`, which is the limit too where `most_memory` is not."""
    for task in tasks:
        _try_again(task, CPU_RETRIES)
        task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(most_memory or memory)


def with_secret(task: PipelineTask, *, name: str, key: str, variable: str) -> None:
    """Give a task an entry of a Kubernetes secret as a variable; without the secret the task runs too, and says so."""
    kubernetes.use_secret_as_env(task, secret_name=name, secret_key_to_env={key: variable}, optional=True)


def _try_again(task: PipelineTask, times: int) -> None:
    """Try again what a lost node ended; what counts as that is the retry policy of the installation's Argo."""
    task.set_retry(times, backoff_duration="60s", backoff_factor=1, backoff_max_duration=TWO_WEEKS)
