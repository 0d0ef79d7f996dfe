"""The Kubernetes API as a TrainJob needs it: every answer that a person can put right becomes a sentence.

The client of Kubernetes is imported inside: only a step that trains on several nodes needs it.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any

from attngan.errors import InputError, TransientError
from attngan.runtime import kubernetes_access
from attngan.runtime.console import say

API = {"group": "trainer.kubeflow.org", "version": "v1alpha1", "plural": "trainjobs"}
NODE = "node"  # the runtime's name for the pods that train, and for the container in them
SECTION = "docs/kubeflow-reference.md, Several GPUs, several nodes"
OWN_POD = ("KFP_POD_NAME", "KFP_POD_UID")  # set in every step's pod by Kubeflow Pipelines
PATIENCE_SECONDS = 300.0  # without a proper answer: a control plane is away for minutes while it is upgraded
RETRY_SECONDS = 5.0
TIMEOUT = (10, 60)  # seconds to connect, and without a byte
TAIL_LINES = 50


class Cluster:
    """TrainJobs, and the pods of one, in the namespace that this process belongs to.

    A job belongs to the step's pod, where that is known: when the pod is deleted, as with its run, the cluster's
    garbage collector deletes the job. A pod that has only ended is still there, and so is its job: the next attempt
    takes it over.
    """

    def __init__(self):
        self.namespace = kubernetes_access.load()
        from kubernetes import client

        self._jobs, self._core = client.CustomObjectsApi(), client.CoreV1Api()
        name, uid = (os.environ.get(variable, "") for variable in OWN_POD)
        self._owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid} if name and uid else None

    def find(self, name: str) -> dict[str, Any] | None:
        """Return a job, None where there is none."""
        return self._ask("get", "trainjobs", self._jobs.get_namespaced_custom_object, absent=(404,), **self._job(name))

    def create(self, body: dict[str, Any]) -> bool:
        """Submit a job; False where one of that name is there already."""
        if self._owner:  # blockOwnerDeletion would ask for a right on the pod's finalizers
            body = {**body, "metadata": {**body["metadata"], "ownerReferences": [self._owner]}}
        create, place = self._jobs.create_namespaced_custom_object, {**API, "namespace": self.namespace}
        strict = {"field_validation": "Strict"}  # an older Trainer would drop the patches without a word
        made = self._ask("create", "trainjobs", create, absent=(409,), body=body, **place, **strict)
        if made is not None:
            name = body["metadata"]["name"]
            say(f"TrainJob {name} in {self.namespace}: submitted")
            say(f"  kubectl delete trainjob --namespace {self.namespace} {name}   ends it")
        return made is not None

    def owns(self, found: dict[str, Any]) -> bool:
        """Return whether a job belongs to this process's pod, or to nobody that it knows of."""
        owners = [owner["uid"] for owner in found["metadata"].get("ownerReferences", [])]
        return self._owner is None or self._owner["uid"] in owners

    def take_over(self, found: dict[str, Any]) -> bool:
        """Make a job that an earlier attempt submitted this pod's own; False where that is not allowed, or it is gone.

        Its owner's end would be its own: "retry run" deletes the pods of the attempts before.
        """
        patch, job = self._jobs.patch_namespaced_custom_object, self._job(found["metadata"]["name"])
        change = {"metadata": {"uid": found["metadata"]["uid"], "ownerReferences": [self._owner]}}
        refused = (403, 404, 409, 422)  # the last two: it is another one by now, as its uid says
        return self._ask("patch", "trainjobs", patch, absent=refused, **job, body=change) is not None

    def delete(self, found: dict[str, Any]) -> None:
        """Delete a job and its pods, not another one of its name; it may be gone already."""
        from kubernetes.client import V1DeleteOptions, V1Preconditions

        delete, job = self._jobs.delete_namespaced_custom_object, self._job(found["metadata"]["name"])
        that = V1DeleteOptions(preconditions=V1Preconditions(uid=found["metadata"]["uid"]))
        how = {"body": that, "propagation_policy": "Foreground"}
        self._ask("delete", "trainjobs", delete, absent=(404, 409), **job, **how)

    def give_up(self, name: str) -> None:
        """Delete a job in the seconds that are left to an interrupted process, or say how a person does it."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            self._jobs.delete_namespaced_custom_object(**self._job(name), _request_timeout=TIMEOUT[0])
            say(f"TrainJob {name} in {self.namespace}: deleted")
        except (ApiException, HTTPError) as error:
            if getattr(error, "status", None) != 404:
                say(f"TrainJob {name} may still run: kubectl delete trainjob --namespace {self.namespace} {name}")

    def pods(self, name: str) -> dict[int, Any]:
        """Return the newest pod of each node that there is."""
        label = f"jobset.sigs.k8s.io/jobset-name={name},jobset.sigs.k8s.io/replicatedjob-name={NODE}"
        listing = {"namespace": self.namespace, "label_selector": label}
        found = self._ask("list", "pods", self._core.list_namespaced_pod, **listing).items
        found.sort(key=lambda pod: str(pod.metadata.creation_timestamp))
        index = "batch.kubernetes.io/job-completion-index"
        newest = {int(pod.metadata.labels.get(index, 0)): pod for pod in found}
        return {node: newest[node] for node in sorted(newest)}

    def log(self, pod: str) -> list[tuple[str, str]]:
        """Return the last lines of a pod's log, each after its time; nothing before it has started."""
        place = {"name": pod, "namespace": self.namespace, "container": NODE}
        form = {"tail_lines": TAIL_LINES, "timestamps": True, "_preload_content": False}  # else JSON lines are parsed
        answer = self._ask("get", "pods/log", self._core.read_namespaced_pod_log, absent=(400, 404), **place, **form)
        lines = answer.data.decode("utf-8", "replace").splitlines() if answer else []
        return [(stamp, text) for stamp, _, text in (line.partition(" ") for line in lines)]

    def _job(self, name: str) -> dict[str, str]:
        return {**API, "namespace": self.namespace, "name": name}

    def _ask(self, verb: str, what: str, request: Callable, *, absent: tuple[int, ...] = (), **values: Any) -> Any:
        """Return the answer, None for a status in `absent`; try again what may pass."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        deadline = time.monotonic() + PATIENCE_SECONDS
        is_told = False
        while True:
            try:
                return request(**values, _request_timeout=TIMEOUT)
            except ApiException as error:
                if error.status in absent:
                    return None
                if error.status != 429 and error.status < 500:
                    kind = InputError if error.status in (400, 422) else TransientError  # else others can mend it
                    raise kind(self._explain(verb, what, error.status, _message(error))) from None
                trouble = f"{error.status}, {_message(error)}"
            except HTTPError as error:
                trouble = str(error)
            if time.monotonic() > deadline:
                raise TransientError(
                    f"train_job: no answer from the Kubernetes API for {PATIENCE_SECONDS:g} seconds ({trouble}); the "
                    "job, if there is one, goes on: run the step again when the API is back."
                )
            if not is_told:
                say(f"no answer from the Kubernetes API ({trouble}); trying again")
                is_told = True
            time.sleep(RETRY_SECONDS)

    def _explain(self, verb: str, what: str, status: int, message: str) -> str:
        place = f"train_job: namespace {self.namespace}"
        if status == 401:
            return f"{place}: the cluster does not accept this process's token ({message}); log in to it again."
        if "must be created" in message:  # the webhook's words
            return f"{place}: the training runtime is missing ({message}); install it ({SECTION}) or name another one."
        if status == 403 and "admission webhook" not in message:
            return f"{place}: not allowed to {verb} {what} ({message}); give its service account the role of {SECTION}."
        if status == 404 and "namespaces" in message:
            return f"{place}: there is no such namespace ({message}); name another one in the kubeconfig."
        if status == 404:
            return f"{place}: the cluster knows no TrainJob ({message}); install Kubeflow Trainer v2 ({SECTION})."
        if "unknown field" in message:
            return f"{place}: its Kubeflow Trainer is too old ({message}); 2.2 or newer is needed ({SECTION})."
        return (
            f"{place}: the cluster refused to {verb} {what} ({status}, {message}); correct the settings of train_job."
        )


class Nodes:
    """What the nodes of a job are doing: a line where a state changes, and node 0's log as it grows.

    Attributes:
        summary: the state of every node, as last seen.
        tail: the last lines of node 0, kept when its pod is gone.
    """

    def __init__(self, cluster: Cluster, name: str):
        self.summary, self.tail = "", []
        self._cluster, self._name, self._last_stamp, self._refusal = cluster, name, "", ""
        cluster.pods(name)  # says what is not allowed before anything is submitted

    def tell(self) -> None:
        """Say what is new."""
        pods = self._cluster.pods(self._name)
        summary = ", ".join(f"node {index} {_state(pod)}" for index, pod in pods.items())
        if summary and summary != self.summary:
            self.summary = summary
            say(summary)
        if 0 in pods:
            self._follow(pods[0].metadata.name)

    def _follow(self, pod: str) -> None:
        try:
            lines = self._cluster.log(pod)
        except InputError as error:  # training does not depend on it
            if not self._refusal:
                self._refusal = str(error)
                say(self._refusal)
            return
        self.tail = [text for _, text in lines] or self.tail
        for stamp, text in lines:
            if stamp > self._last_stamp:
                say(f"node 0 | {text}")
        self._last_stamp = max([self._last_stamp, *(stamp for stamp, _ in lines)])


def _state(pod: Any) -> str:
    """Return a pod's phase, and why it is not running."""
    reasons = [one.message or one.reason for one in pod.status.conditions or [] if one.reason == "Unschedulable"]
    for container in pod.status.container_statuses or []:
        if container.state.waiting:
            reasons.append(container.state.waiting.reason)
        if container.state.terminated and container.state.terminated.exit_code:
            reasons.append(f"{container.state.terminated.reason}, exit status {container.state.terminated.exit_code}")
    return pod.status.phase + (f" ({'; '.join(filter(None, reasons))})" if any(reasons) else "")


def _message(error: Any) -> str:
    """Return what the API says, which is JSON with a message, or plain text where it knows no such route."""
    try:
        text = str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        text = error.body if isinstance(error.body, str) else str(error.reason)
    return " ".join(text.split())[:500]
