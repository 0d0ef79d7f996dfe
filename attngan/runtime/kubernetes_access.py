"""How a process in a cluster, or beside one, speaks to the Kubernetes API."""

import os
from pathlib import Path

from attngan.errors import InputError

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def load() -> str:
    """Make the client of Kubernetes ready, with a pod's account or with KUBECONFIG, and return the namespace.

    Raises:
        InputError: the client is not installed, or there is no access.
    """
    try:
        from kubernetes import config
    except ImportError:
        raise InputError("Kubernetes: its client is not installed; install the trainer extra of attngan.") from None

    kubeconfig = os.environ.get("KUBECONFIG") or None
    try:
        if NAMESPACE_FILE.is_file():
            config.load_incluster_config()
            return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        config.load_kube_config(config_file=kubeconfig)
        context = config.list_kube_config_contexts(config_file=kubeconfig)[1]["context"]
        return context.get("namespace") or "default"
    except config.ConfigException as error:
        raise InputError(
            f"Kubernetes: no access to a cluster ({error}); run the step in one, or point KUBECONFIG at its file."
        ) from None
