"""Flags that several commands share, each declared once."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where the cluster's pipelines are, and as whom to speak to them."""

    host: Annotated[
        str,
        typer.Option(
            envvar="KF_PIPELINES_ENDPOINT", help="Address of the API, such as https://kubeflow.you.com/pipeline."
        ),
    ]
    namespace: Annotated[str, typer.Option(help="Kubernetes namespace of your experiments.")] = "kubeflow"
    experiment: Annotated[str, typer.Option(help="Experiment of the runs; made if absent.")] = "attngan"
    token: Annotated[
        str,
        typer.Option(envvar="KFP_TOKEN", show_default=False, help="Bearer token; better in the variable or a file."),
    ] = ""
    token_file: Annotated[Path | None, typer.Option(help="File with a bearer token; read again when it expires.")] = (
        None
    )
    cookie: Annotated[
        str,
        typer.Option(envvar="KFP_COOKIE", show_default=False, help="Session cookie, such as authservice_session=..."),
    ] = ""
    iap_client_id: Annotated[
        str,
        typer.Option(envvar="KF_PIPELINES_IAP_OAUTH2_CLIENT_ID", help="Client ID of Google's Identity-Aware Proxy."),
    ] = ""
    ca_cert: Annotated[Path | None, typer.Option(help="PEM file of a private certificate authority.")] = None


@dataclasses.dataclass(frozen=True)
class Work:
    """What a run is to do, and on which nodes."""

    source: Annotated[str, typer.Option(help="Folder, .tgz, .tar or .zip with images, in cloud storage.")]
    model_uri: Annotated[str, typer.Option(help="Folder of the champion and the history, in cloud storage.")]
    pipeline_root: Annotated[str, typer.Option(help="Folder for the results of all runs: gs://, s3:// or minio://.")]
    image: Annotated[
        str, typer.Option(envvar="ATTNGAN_IMAGE", help="Image of the steps that the cluster can pull, pinned.")
    ]
    captions: Annotated[
        str, typer.Option(help="Folder or archive with captions that are not in the source, in cloud storage.")
    ] = ""
    inception_weights: Annotated[
        str, typer.Option(help="ImageNet weights for image_encoder.kind, in cloud storage.")
    ] = ""
    checkpoint_root: Annotated[
        str, typer.Option(help="Folder for training state; default: state below --pipeline-root.")
    ] = ""
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", metavar="FILE", help="YAML file, or toy, tiny, ...; repeatable, later ones on top."),
    ] = None
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Repeatable.")] = None
    force: Annotated[bool, typer.Option("--force", help="Publish whatever the metrics say.")] = False
    always: Annotated[bool, typer.Option("--always", help="Train even if nothing changed since the champion.")] = False
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Take no step's outputs from an earlier run.")] = False
    gpus: Annotated[
        int, typer.Option(min=0, max=1000, help="GPUs of a training step, on each of its nodes; 0: CPU nodes.")
    ] = 1
    gpu_type: Annotated[str, typer.Option(help="Resource name of the GPUs.")] = "nvidia.com/gpu"
    nodes: Annotated[
        int, typer.Option(min=1, max=1000, help="Nodes that train together; several need Kubeflow Trainer.")
    ] = 1
    node_service_account: Annotated[
        str, typer.Option(help="Service account of the training nodes, with --nodes above 1.")
    ] = ""
    cpu: Annotated[str, typer.Option(help="CPUs of a training step, such as 8 or 500m.")] = "8"
    memory: Annotated[str, typer.Option(help="Memory of a training step, such as 32Gi.")] = "32Gi"
    node_selector: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None
    toleration: Annotated[
        list[str] | None, typer.Option(metavar="KEY[=VALUE][:EFFECT]", help="As kubectl taint writes it. Repeatable.")
    ] = None
    service_account: Annotated[str, typer.Option(help="Kubernetes service account of the steps.")] = ""
    notify: Annotated[
        str,
        typer.Option(
            metavar="URL|SECRET",
            help="Say there how a run ended: an address without a secret, or NAME[/KEY] of a Kubernetes secret.",
        ),
    ] = ""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """That a run is one of many members, which have every combination of some settings."""

    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE,VALUE", help="A setting and its values, for a sweep. Repeatable."),
    ] = None
    parallel: Annotated[int, typer.Option(min=1, max=1000, help="Members of a sweep at the same time.")] = 1
    yes: Annotated[bool, typer.Option("--yes", help="Go ahead with more than ten members.")] = False


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Show typer the fields of a command's dataclass parameters as its options; the command gets the dataclasses."""
    signature = inspect.signature(command)
    hints = typing.get_type_hints(command, include_extras=True)
    groups = {name: hints[name] for name in signature.parameters if dataclasses.is_dataclass(hints[name])}
    shown: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name in groups:
            shown += _parameters(groups[parameter.name])
        else:
            shown.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def call(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        command(**given)

    call.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return call


def _parameters(group: Any) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(group)
    ]
