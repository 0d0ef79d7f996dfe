"""The Kubernetes API in this process, as far as a TrainJob needs it: over HTTP, with moods; it keeps every request.

As the real one it gives every object a uid, which preconditions and patches may ask for, refuses half an owner, takes
merge patches of custom objects and no strategic ones, and has a garbage collector: an object all of whose owners are
gone, by their uid and not by their name, goes too. A pod that has ended is still there, with what it owns.
"""

import http.server
import json
import urllib.parse
import uuid
from pathlib import Path
from typing import Any

import local_server

JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/birds/trainjobs"
CORE = "/api/v1/namespaces/birds"
PODS = f"{CORE}/pods"
STAMP = "2026-01-01T00:00:00Z"


def condition(kind: str, **more: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "lastTransitionTime": STAMP, "reason": "", "message": "", **more}


def pod(name: str, index: int, phase: str, **status: Any) -> dict[str, Any]:
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {
        "metadata": {"name": name, "labels": labels, "creationTimestamp": STAMP},
        "spec": {"containers": [{"name": "node"}]},
        "status": {"phase": phase, **status},
    }


class Api(http.server.ThreadingHTTPServer):
    """A server for one namespace, `birds`.

    Attributes:
        jobs: TrainJobs by name.
        script: conditions that a job has at each question for it; the last stays.
        pods: of the job.
        log: node 0's, as (time, text).
        refusals: (status, message) by (method, end of the path); given as often as asked, plain text if message is not.
        objects: what ConfigMaps and Secrets hold, by `configmaps/NAME` and `secrets/NAME`.
        lingering: how often a deleted job still answers, with its deletionTimestamp.
        step_pods: uids of the pods of steps, by name.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.script: list[list[dict[str, str]]] = [[], [condition("Complete")]]
        self.pods: list[dict[str, Any]] = []
        self.log: list[tuple[str, str]] = []
        self.refusals: dict[tuple[str, str], tuple[int, str]] = {}
        self.lingering = 0
        self.objects: dict[str, dict[str, str]] = {}
        self.step_pods: dict[str, str] = {}
        self.requests: list[tuple[str, str, Any]] = []

    @property
    def writes(self) -> list[str]:
        """Every request that changes something, by its method."""
        return [method for method, _, _ in self.requests if method != "GET"]

    def start_step_pod(self, name: str) -> dict[str, str]:
        """Start a step's pod, and return what Kubeflow Pipelines tells it of itself."""
        self.step_pods[name] = str(uuid.uuid4())
        return {"KFP_POD_NAME": name, "KFP_POD_UID": self.step_pods[name]}

    def delete_step_pod(self, name: str) -> None:
        del self.step_pods[name]
        self.collect_garbage()

    def collect_garbage(self) -> None:
        for name, job in list(self.jobs.items()):
            owners = job["metadata"].get("ownerReferences", [])
            if owners and not {owner["uid"] for owner in owners} & set(self.step_pods.values()):
                del self.jobs[name]

    def write_kubeconfig(self, path: Path) -> None:
        config = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "birds"}}],
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}],
            "users": [{"name": "me", "user": {"token": "secret"}}],
        }
        path.write_text(json.dumps(config), encoding="utf-8")


class Handler(local_server.Handler):
    server: Api

    def do_GET(self) -> None:
        self.respond()

    def do_POST(self) -> None:
        self.respond()

    def do_DELETE(self) -> None:
        self.respond()

    def do_PATCH(self) -> None:
        self.respond()

    def respond(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(content) if content else None
        path, _, query = self.path.partition("?")
        api = self.server
        api.requests.append((self.command, path, {"query": dict(urllib.parse.parse_qsl(query)), "body": body}))
        refused = [value for (method, end), value in api.refusals.items() if method == self.command and end in path]
        if refused:
            self.refuse(*refused[0])
        elif path.endswith("/log"):
            self.send(200, "".join(f"{stamp} {text}\n" for stamp, text in api.log).encode(), "text/plain")
        elif path.startswith((f"{CORE}/configmaps/", f"{CORE}/secrets/")):
            self.object(path.removeprefix(f"{CORE}/"))
        elif path == PODS:
            self.answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": api.pods})
        elif self.command == "POST":
            self.create(body)
        else:
            self.one(path.removeprefix(f"{JOBS}/"), body)

    def object(self, name: str) -> None:
        if (data := self.server.objects.get(name)) is None:
            self.refuse(404, f"{name} not found")
        else:
            self.answer(200, {"metadata": {"name": name.split("/")[1]}, "data": data})

    def create(self, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        if name in self.server.jobs:
            self.refuse(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
            return
        for owner in body["metadata"].get("ownerReferences", []):
            if missing := [key for key in ("apiVersion", "kind", "name", "uid") if not owner.get(key)]:
                self.refuse(422, f'"{name}" is invalid: metadata.ownerReferences.{missing[0]}: must not be empty')
                return
        made = {**body, "metadata": {**body["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": STAMP}}
        self.server.jobs[name] = made
        self.answer(201, made)
        self.server.collect_garbage()

    def one(self, name: str, body: Any) -> None:
        api = self.server
        job = api.jobs.get(name)
        if job is None:
            self.refuse(404, f'trainjobs.trainer.kubeflow.org "{name}" not found')
            return
        uid = job["metadata"].setdefault("uid", str(uuid.uuid4()))
        wanted = ((body or {}).get("preconditions") or {}).get("uid") if self.command == "DELETE" else None
        if wanted not in (None, uid):
            self.refuse(409, f"the UID in the precondition ({wanted}) does not match the UID in record ({uid})")
        elif self.command == "PATCH":
            self.patch(job, body)
        elif self.command == "DELETE":
            job["metadata"]["deletionTimestamp"] = STAMP
            self.answer(200, {"kind": "Status", "status": "Success"})
            if not api.lingering:
                del api.jobs[name]
        elif "deletionTimestamp" in job["metadata"]:
            self.answer(200, job)
            api.lingering -= 1
            if not api.lingering:
                del api.jobs[name]
        else:
            conditions = api.script[0] if len(api.script) == 1 else api.script.pop(0)
            self.answer(200, job | {"status": {"conditions": conditions}})

    def patch(self, job: dict[str, Any], change: Any) -> None:
        if self.headers["Content-Type"] != "application/merge-patch+json" or not isinstance(change, dict):
            self.refuse(415, "the body of the request was in an unknown format")
            return
        uid = job["metadata"]["uid"]
        if (wanted := change["metadata"].get("uid", uid)) != uid:
            self.refuse(409, f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}")
            return
        job["metadata"] |= change["metadata"]  # lists are replaced as a whole
        self.answer(200, job)
        self.server.collect_garbage()

    def refuse(self, status: int, message: str) -> None:
        if message.startswith("plain: "):
            self.send(status, message.removeprefix("plain: ").encode(), "text/plain")
        else:
            self.answer(status, {"kind": "Status", "status": "Failure", "message": message, "code": status})

    def answer(self, status: int, value: Any) -> None:
        self.send(status, json.dumps(value).encode(), "application/json")

    def send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
