"""Where Kubeflow's launcher keeps artifacts in S3: a step asks the same store, with the same credentials.

The launcher reads the ConfigMap `kfp-launcher` of the pod's namespace, and the Secret that it names, with the service
account of the pod. So does this module. Without a word on `minio://` there, it is the store that Kubeflow Pipelines
brings along.
"""

import base64
import dataclasses
import functools
import os
from typing import Any

from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from attngan.config import yaml_text
from attngan.errors import InputError, TransientError
from attngan.runtime import kubernetes_access
from attngan.storage import json_text

CONFIG_MAP = "kfp-launcher"
TIMEOUT = (10, 60)  # seconds to connect, and without a byte
OWN_STORE: Any = {  # what KFP takes for minio:// where its ConfigMap says nothing (v2/config/env.go, 2.17)
    "endpoint": "seaweedfs.kubeflow:9000",
    "region": "minio",
    "disableSSL": True,
    "credentials": {
        "secretRef": {
            "secretName": "mlpipeline-minio-artifact",
            "accessKeyKey": "accesskey",
            "secretKeyKey": "secretkey",
        }
    },
}


class SecretReference(TypedDict):
    """Where keys are."""

    secretName: str
    accessKeyKey: str
    secretKeyKey: str


class Credentials(TypedDict, total=False):
    """Keys in a Secret, or those of the environment."""

    fromEnv: bool
    secretRef: SecretReference | None


class Settings(TypedDict, total=False):
    """Of a store."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    endpoint: str | None
    region: str | None
    disableSSL: bool | None
    forcePathStyle: bool | None
    credentials: Credentials | None


class Override(Settings, total=False):
    """Settings of a bucket, or of a prefix in it."""

    bucketName: str
    keyPrefix: str | None


class Provider(TypedDict, total=False):
    """The stores of a scheme."""

    default: Settings | None
    overrides: list[Override] | None
    Overrides: list[Override] | None  # which the launcher takes for the same


@dataclasses.dataclass(frozen=True)
class Store:
    """A store that speaks S3; without keys, those of the environment are used.

    Args:
        by_path: whether a bucket is a part of the path, and not of the host's name.
    """

    endpoint: str | None
    region: str | None
    access_key: str | None = None
    secret_key: str | None = dataclasses.field(default=None, repr=False)
    by_path: bool = True

    def as_arguments(self) -> dict[str, str | None]:
        """Return it as arguments of a boto3 client."""
        return {
            "endpoint_url": self.endpoint,
            "region_name": self.region,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
        }


def store(scheme: str, bucket: str, name: str) -> Store | None:
    """Return where the launcher of this pod keeps what has this URI; None outside of such a pod, or if it does not say.

    Args:
        scheme: "s3" or "minio".
        bucket: of the URI.
        name: of the object; settings may hold for a prefix.

    Raises:
        InputError: the settings are not what the launcher reads, or name a secret that is not there or is not shown.
    """
    pod = os.environ.get("KFP_POD_NAME")
    settings = _settings(pod) if pod else None
    if settings is None:
        return None
    provider = settings.get(scheme) or ({"default": OWN_STORE} if scheme == "minio" else {})
    if not provider.get("default"):
        return None
    chosen = dict(provider["default"])
    for each in provider.get("overrides") or provider.get("Overrides") or ():
        prefix = (each.get("keyPrefix") or "").strip("/")
        if each.get("bucketName") == bucket and (not prefix or f"{name}/".startswith(f"{prefix}/")):
            chosen |= {key: value for key, value in each.items() if value not in (None, "")}
            break
    credentials = chosen.get("credentials") or {}
    keys = (None, None)
    if not credentials.get("fromEnv") and (reference := credentials.get("secretRef")):
        keys = _keys(pod, *(reference[key] for key in ("secretName", "accessKeyKey", "secretKeyKey")))
    return Store(_url(chosen), chosen.get("region") or None, *keys, by_path=chosen.get("forcePathStyle") is not False)


def _url(settings: dict[str, Any]) -> str | None:
    endpoint = settings.get("endpoint") or ""
    if not endpoint or endpoint.startswith(("http://", "https://")):
        return endpoint or None
    return f"{'http' if settings.get('disableSSL') else 'https'}://{endpoint}"


@functools.cache
def _settings(pod: str) -> dict[str, Provider] | None:
    """Return the launcher's settings by scheme; {} where its ConfigMap says nothing, None where it cannot be read."""
    data = _read("config_map", CONFIG_MAP)
    if data is None:
        return None
    where = f"the ConfigMap {CONFIG_MAP}, providers"
    settings = yaml_text.parse(data.get("providers") or "", where)
    expected, mend = "stores by scheme, as Kubeflow's launcher reads them", "correct it"
    return json_text.shaped(settings, where, dict[str, Provider], expected=expected, mend=mend)


@functools.cache
def _keys(pod: str, secret: str, access_key: str, secret_key: str) -> tuple[str, str]:
    data = _read("secret", secret)
    if data is None:
        raise TransientError(
            f"the Secret {secret}, which the ConfigMap {CONFIG_MAP} or its default names: the service account of this "
            "pod may not read it; grant it get on secrets in its namespace, as pipeline-runner has it."
        )
    if not {access_key, secret_key} <= data.keys():
        raise InputError(
            f"the Secret {secret}: expected {access_key} and {secret_key}, as the ConfigMap {CONFIG_MAP} says, found "
            f"{', '.join(data) or 'none'}; correct the one or the other."
        )
    access, key = (base64.b64decode(data[name]).decode() for name in (access_key, secret_key))
    return access, key


def _read(kind: str, name: str) -> dict[str, str] | None:
    """Return what a ConfigMap or a Secret of this namespace holds, {} if there is none, None if it may not be read."""
    try:
        namespace = kubernetes_access.load()
    except InputError:
        return None
    from kubernetes.client import ApiException, CoreV1Api
    from urllib3.exceptions import HTTPError

    try:
        found = getattr(CoreV1Api(), f"read_namespaced_{kind}")(name, namespace, _request_timeout=TIMEOUT)
    except ApiException as error:
        if error.status == 404:
            return {}
        if error.status in (401, 403):
            return None
        raise TransientError(f"the Kubernetes API does not answer ({error.status}); run it again.") from error
    except HTTPError as error:
        raise TransientError(f"the Kubernetes API does not answer ({error}); run it again.") from error
    return found.data or {}
