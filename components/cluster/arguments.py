"""From flags to the arguments of the compiled pipeline."""

import json
import re
from collections.abc import Sequence
from typing import Any

from attngan.config import settings, variations
from attngan.errors import InputError, shown
from attngan.storage import uris
from attngan.storage.champion import check_metric
from components.cluster.options import Work
from components.image import check_pinned

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]+")
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
LABEL = re.compile(r"([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def pipeline_arguments(work: Work) -> dict[str, Any]:
    """Return what the flags say, under the pipeline's names.

    Raises:
        InputError: a URI that the pods cannot reach, results inside of what is trained on, an unknown setting, a
            selector or toleration that is none.
    """
    loaded = settings.load_files(work.config or [], overrides=work.set_ or [], defaults=settings.IN_A_POD)
    check_pinned(work.image)
    check_metric(loaded)
    for setting, uri in loaded.weights_files.items():
        _uri(setting, uri)
    arguments = {
        "source": _uri("--source", work.source),
        "model_uri": _uri("--model-uri", work.model_uri),
        "config": settings.dump(loaded),
        "captions": work.captions and _uri("--captions", work.captions),
        "inception_weights": work.inception_weights and _uri("--inception-weights", work.inception_weights),
        "checkpoint_root": _checkpoint_root(work),
        "force": work.force,
        "always": work.always,
        "gpu_type": work.gpu_type,
        **_nodes(work),
        "image": work.image,
    }
    _check_apart(work, arguments["checkpoint_root"])
    return arguments


def _check_apart(work: Work, checkpoint_root: str) -> None:
    """Refuse results inside of what is trained on: by them every later run would find something new there."""
    results = {
        "--model-uri": work.model_uri,
        "--pipeline-root": pipeline_root(work),
        "--checkpoint-root": checkpoint_root,
    }
    given = {"--source": work.source, "--captions": work.captions, "--inception-weights": work.inception_weights}
    for flag, place in results.items():
        for other, source in given.items():
            if source and (relation := uris.relation_of(place, source)) in ("is", "lies inside"):
                raise InputError(
                    f"{flag} {shown(place)}: {relation} {other} {shown(source)}, and every later run would find "
                    "new files there and train; name a place outside of it."
                )


def sweep_arguments(work: Work, vary: Sequence[str], *, is_agreed: bool) -> dict[str, Any]:
    """Return what the flags say of a sweep, under the names of its pipeline.

    Raises:
        InputError: as `pipeline_arguments`, or nothing can vary like that, or many members are not agreed to.
    """
    if work.nodes > 1:
        raise InputError("--nodes: expected 1 with --vary; each member of a sweep trains on one node.")
    given, overrides = pipeline_arguments(work), work.set_ or []
    members = variations.members(
        vary,
        lambda varied: settings.load_files(
            work.config or [], overrides=[*overrides, *varied], defaults=settings.IN_A_POD
        ),
    )
    if len(members) > variations.MANY and not is_agreed:
        cost = "and `attngan plan` says on such a machine what one of them costs"
        raise variations.too_many(members, cost)
    names = ("train_job", "always", *(name for name in given if name.startswith("evaluation_")))
    encoders = variations.with_own_encoders(members)
    return {
        **{name: value for name, value in given.items() if name not in names},
        **{"encoders": _varied(encoders), "members": _varied(members)},
    }


def _varied(members: Sequence[variations.Member]) -> list[dict[str, str]]:
    return [{"varied": "\n".join(member.overrides)} for member in members]


def _nodes(work: Work) -> dict[str, Any]:
    """Return what the training steps and the evaluation ask of their nodes; where several train, a pod just waits."""
    nodes = {
        "cpu": _quantity("--cpu", work.cpu),
        "memory": _quantity("--memory", work.memory),
        "node_selector": dict(_selector(text) for text in work.node_selector or []),
        "tolerations": [_toleration(text) for text in work.toleration or []],
    }
    evaluation = {
        "evaluation_gpus": str(min(work.gpus, 1)),
        **{f"evaluation_{name}": value for name, value in nodes.items()},
    }
    if work.nodes == 1:
        return {"num_gpus": str(work.gpus), **nodes, **evaluation, "train_job": ""}
    job = {"nodes": work.nodes, "gpus": work.gpus, "gpu_type": work.gpu_type, "image": work.image, **nodes}
    job["service_account"] = work.node_service_account
    waiting = {"num_gpus": "0", "cpu": "500m", "memory": "4Gi", "node_selector": {}, "tolerations": []}
    return {**waiting, **evaluation, "train_job": json.dumps(job)}


def pipeline_root(work: Work) -> str:
    """Return the folder for the results of all runs, as Kubeflow wants it."""
    root = _uri("--pipeline-root", work.pipeline_root)
    if "?" in root:
        raise InputError(
            f"--pipeline-root {shown(root)}: Kubeflow takes what follows ? for settings of the store, and steps do not "
            "know them; put them into the ConfigMap kfp-launcher."
        )
    return root.rstrip("/")


def _uri(flag: str, uri: str) -> str:
    if not uris.is_remote(uri):
        schemes = " or ".join(f"{scheme}://" for scheme in uris.SCHEMES)
        raise InputError(
            f"{flag} {shown(uri)}: expected {schemes} and a bucket; the cluster's pods do not see this machine's files."
        )
    if not BUCKET.fullmatch(bucket := uris.split(uri)[1]):
        raise InputError(f"{flag} {shown(uri)}: {shown(bucket)!r} cannot be a bucket's name; correct it.")
    return uri


def _checkpoint_root(work: Work) -> str:
    given = work.checkpoint_root  # without a slash at its end, as states and members are known by what is below it
    return _uri("--checkpoint-root", given).rstrip("/") if given else f"{pipeline_root(work)}/state"


def _quantity(flag: str, text: str) -> str:
    if not QUANTITY.fullmatch(text):
        raise InputError(f"{flag} {text}: expected a quantity of Kubernetes, such as 8, 500m or 32Gi.")
    return text


def _selector(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not LABEL.fullmatch(key) or (value and not LABEL.fullmatch(value)):
        raise InputError(f"--node-selector {text}: expected KEY=VALUE, such as cloud.google.com/gke-spot=true.")
    return key, value


def _toleration(text: str) -> dict[str, str]:
    """Read `key=value:effect` as kubectl taint does; without a value, or an effect, any is tolerated."""
    label, colon, effect = text.partition(":")
    key, equals, value = label.partition("=")
    if not LABEL.fullmatch(key) or (value and not LABEL.fullmatch(value)) or (colon and effect not in EFFECTS):
        raise InputError(
            f"--toleration {text}: expected KEY[=VALUE][:EFFECT] with one of {', '.join(EFFECTS)}, such as "
            "nvidia.com/gpu=present:NoSchedule."
        )
    toleration = {"key": key, "operator": "Equal", "value": value} if equals else {"key": key, "operator": "Exists"}
    return toleration | ({"effect": effect} if effect else {})
