"""The API of Kubeflow Pipelines in this process: in memory, over HTTP, with moods; it keeps every request it gets.

What is marked "Real:" was seen with KFP 2.17.0 and Argo 4.0.5, "Source:" was read in their sources.
"""

import contextlib
import datetime
import http.server
import json
import re
import time
import urllib.parse
import uuid
from typing import Any

import local_server

from attngan.storage import places

API = "/apis/v2beta1"
LOGIN = b"<!doctype html><title>Log in</title><form></form>"
UNSET = "1970-01-01T00:00:00Z"
ENDED = ("SUCCEEDED", "FAILED")  # Real: a run that somebody terminates ends as FAILED.


class State:
    """What the server holds, and how it behaves.

    Attributes:
        token: what every request to an installation for many users must carry, "" for none.
        cookie: what a gateway before the server wants, "" for none.
        namespaces: those that exist; None for a standalone server. Real: that ignores namespaces and tokens.
        mood: "well", "login", "redirect", "forbidden", "silent", "starting" or "elsewhere".
        script: what the run says at each question, a list of (state, {task: state}); the last stays.
        attempts: the scripts that take its place at each retry of the run.
        logs: what the steps of each attempt leave as their logs, by step. Real: a lost pod leaves none.
        workflows: the runs whose Workflow, and so whose pods, Kubernetes still has.
        refusal, busy: a status for every retry; how many retries come while a pod has not ended yet.
        unwell: statuses that the next questions for a run get instead.
    """

    def __init__(self):
        self.token = self.cookie = ""
        self.namespaces: set[str] | None = None
        self.mood = "well"
        self.script: list[tuple[str, dict[str, str]]] = [("SUCCEEDED", {})]
        self.attempts: list[list[tuple[str, dict[str, str]]]] = []
        self.logs: list[dict[str, str]] = []
        self.workflows: set[str] = set()
        self.refusal = self.busy = 0
        self.unwell: list[int] = []
        self.tables: dict[str, dict[str, dict]] = {
            name: {} for name in ("experiments", "pipelines", "versions", "runs", "recurringruns")
        }
        self.requests: list[dict[str, Any]] = []
        self.fail_on: tuple[str, str] = ("", "")  # method and end of the path that the server dies on

    @property
    def writes(self) -> list[str]:
        """Every request that changes something, as "METHOD path"."""
        return [f"{one['method']} {one['path']}" for one in self.requests if one["method"] != "GET"]

    def only(self, table: str) -> dict:
        """Return the one entry of a table."""
        (entry,) = self.tables[table].values()
        return entry

    def fire(self, recurring_run_id: str, *, at: str = "", **what: Any) -> str:
        """Start a run of a schedule and return its ID.

        Source: it is named by the scheduler, and has the schedule's experiment, parameters and version; a run that
        nothing has scheduled was so at the beginning of 1970.
        """
        run_id = str(uuid.uuid4())
        number = sum(run.get("recurring_run_id") == recurring_run_id for run in self.tables["runs"].values())
        schedule = self.tables["recurringruns"].get(recurring_run_id, {})
        self.tables["runs"][run_id] = {
            "run_id": run_id,
            "recurring_run_id": recurring_run_id,
            "display_name": f"{schedule.get('display_name')}-{number + 1}-3716264829",
            "experiment_id": schedule.get("experiment_id"),
            "runtime_config": schedule.get("runtime_config"),
            "state": "RUNNING",
            "state_history": [],
            "created_at": at or now(),
            "scheduled_at": at or UNSET,
        } | what
        self.workflows.add(run_id)
        return run_id


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


class Handler(local_server.Handler):
    server: "Server"

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def answer(self, status: int, content: Any, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if body.startswith(b"<") else "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def error(self, status: int, message: str) -> None:
        if "/pipelines/upload" in self.path:  # Real: that part of the server has another form for its errors.
            self.answer(status, {"error_message": message, "error_details": f"{message}: at line 1"})
        else:
            self.answer(status, {"error": message, "code": 7, "message": message, "details": []})

    def do(self) -> None:
        state = self.server.state
        url = urllib.parse.urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = (self.headers.get("Content-Type") or "").split(";")[0]
        request = {
            "method": self.command,
            "path": url.path,
            "query": dict(urllib.parse.parse_qsl(url.query)),
            "kind": kind,
            "body": json.loads(raw) if raw and kind == "application/json" else None,
            "headers": dict(self.headers),
        }
        state.requests.append(request)
        if self.in_a_mood(state):
            return
        if (
            state.namespaces is not None
            and state.token
            and self.headers.get("authorization") != f"Bearer {state.token}"
        ):
            self.error(401, "Request header error: there is no user identity header.")
        elif state.cookie and self.headers.get("Cookie") != state.cookie:
            self.answer(200, LOGIN)
        elif state.fail_on[0] == self.command and url.path.endswith(state.fail_on[1]):
            self.error(500, "Internal Server Error")
        elif not url.path.startswith(API):
            self.error(404, "Not Found")
        else:
            self.route(state, request, url.path.removeprefix(API).strip("/").split("/"))

    do_GET = do_POST = do_DELETE = do

    def in_a_mood(self, state: State) -> bool:
        if state.mood == "silent":
            time.sleep(30)
        answers = {
            "login": lambda: self.answer(200, LOGIN),
            "redirect": lambda: self.answer(302, b"", Location="https://dex.example.com/auth?state=secret"),
            "forbidden": lambda: self.answer(403, b"RBAC: access denied"),
            "starting": lambda: self.answer(503, b"no healthy upstream"),
            "elsewhere": lambda: self.answer(404, b"404 page not found"),
        }
        if state.mood in answers:
            answers[state.mood]()
        return state.mood != "well"

    def route(self, state: State, request: dict, parts: list[str]) -> None:
        """Answer a request to the API proper."""
        namespace = request["query"].get("namespace") or (request["body"] or {}).get("namespace")
        if namespace and state.namespaces is not None and namespace not in state.namespaces:
            self.error(403, f"User 'me' is not authorized with reason: (Namespace:{namespace}): Unauthorized access")
            return
        match (self.command, *parts):
            case ("GET", "healthz"):
                self.answer(200, {"multi_user": state.namespaces is not None})
            case ("POST", "pipelines", "upload"):
                entry = {"display_name": request["query"]["name"], "namespace": namespace}
                made = self.make("pipelines", "pipeline_id", entry)
                first = {"pipeline_id": made["pipeline_id"], "display_name": entry["display_name"]}
                self.make("versions", "pipeline_version_id", first)
                self.answer(200, made)
            case ("POST", "pipelines", "upload_version"):
                entry = {"pipeline_id": request["query"]["pipelineid"], "display_name": request["query"]["name"]}
                self.answer(200, self.make("versions", "pipeline_version_id", entry))
            case ("GET", "pipelines", key, "versions"):
                self.listing("pipeline_versions", "versions", request["query"], {"pipeline_id": key})
            case ("GET", "pipelines", _, "versions", key):
                self.one("versions", key)
            case ("GET", "recurringruns"):
                wanted = {"experiment_id": request["query"]["experiment_id"]}
                self.listing("recurringRuns", "recurringruns", request["query"], wanted)
            case ("POST", "recurringruns"):
                status = "ENABLED" if request["body"]["mode"] == "ENABLE" else "DISABLED"
                entry = request["body"] | {"status": status, "max_concurrency": str(request["body"]["max_concurrency"])}
                self.answer(200, self.make("recurringruns", "recurring_run_id", entry))
            case ("POST", "recurringruns", action):
                key, _, verb = action.partition(":")
                self.toggle(key, verb)
            case ("DELETE", "recurringruns", key):
                self.delete_schedule(state, key, request["query"].get("propagation_policy"))
            case ("GET", "runs", key):
                self.run(state, urllib.parse.unquote(key))
            case ("POST", "runs", action) if action.endswith(":retry"):
                self.retry(state, urllib.parse.unquote(action.removesuffix(":retry")))
            case ("GET", "runs"):
                self.listing("runs", "runs", request["query"], {"experiment_id": request["query"]["experiment_id"]})
            case ("GET", table):
                owned = {"namespace": namespace} if namespace and state.namespaces is not None else {}
                self.listing(table, table, request["query"], owned)
            case ("POST", "runs"):
                made = self.make("runs", "run_id", request["body"] | {"state": "PENDING", "state_history": []})
                state.workflows.add(made["run_id"])
                self.answer(200, made)
            case ("POST", "experiments"):
                self.make_experiment(state, request["body"])
            case _:
                self.error(404, "Not Found")

    def make(self, table: str, key: str, entry: dict) -> dict:
        made = entry | {key: str(uuid.uuid4()), "created_at": now()}
        self.server.state.tables[table][made[key]] = made
        return made

    def one(self, table: str, key: str) -> None:
        entry = self.server.state.tables[table].get(key)
        self.answer(200, entry) if entry else self.error(404, f"{key} not found")

    def listing(self, name: str, table: str, query: dict, wanted: dict) -> None:
        """Answer two entries a page, so that paging is needed."""
        filter_ = query.get("filter", '{"predicates": []}')
        if re.search(r"%(?![0-9a-fA-F]{2})", filter_):
            self.error(400, f"failed to parse valid filter from {filter_!r}: invalid URL escape")
            return
        # Real: the filter, unescaped already as part of the address, is unescaped once more.
        for predicate in json.loads(urllib.parse.unquote_plus(filter_))["predicates"]:
            assert predicate["operation"] in ("EQUALS", 1)
            wanted = wanted | {predicate["key"]: predicate["stringValue"]}
        entries = [
            entry
            for entry in self.server.state.tables[table].values()
            if all(entry.get(key) == value for key, value in wanted.items())
        ]
        # Source: the oldest come first where nothing else is asked.
        field, _, direction = query.get("sort_by", "created_at").partition(" ")
        entries.sort(key=lambda entry: entry.get(field, ""), reverse=direction == "desc")
        start = int(query.get("page_token") or 0)
        rest = {"next_page_token": str(start + 2)} if len(entries) > start + 2 else {}
        self.answer(200, {name: entries[start : start + 2], "total_size": len(entries)} | rest)

    def toggle(self, key: str, verb: str) -> None:
        entry = self.server.state.tables["recurringruns"].get(key)
        if entry is None:
            self.error(404, f"{key} not found")
            return
        entry |= {"mode": verb.upper(), "status": f"{verb.upper()}D"}
        self.answer(200, {})

    def run(self, state: State, key: str) -> None:
        if state.unwell:
            status = state.unwell.pop(0)
            self.answer(200, LOGIN) if status == 200 else self.error(status, "not now")
            return
        if key not in state.tables["runs"]:
            self.error(404, f"Failed to get a run: Run {key} not found")
            return
        run = state.tables["runs"][key]
        now_state, tasks = state.script[0] if len(state.script) == 1 else state.script.pop(0)
        if run["state"] != now_state:
            run |= {"state": now_state, "state_history": [*run["state_history"], {"state": now_state}]}
            if now_state in ENDED and state.logs and "pipeline_spec" in run:
                leave_logs(run, state.logs.pop(0))
        # Real: what never ran is PENDING when all is over. Source: an exit task is run however the others ended.
        at_end = {name: "SUCCEEDED" if is_exit else "PENDING" for name, is_exit in step_names(run).items()}
        named = (at_end if now_state in ENDED else {}) | tasks
        self.answer(200, run | {"run_details": {"task_details": [detail(key, *each) for each in named.items()]}})

    def retry(self, state: State, key: str) -> None:
        run = state.tables["runs"].get(key)
        if run is None:
            self.error(404, f"Failed to retry run {key} due to error fetching the run: Run {key} not found")
        elif state.busy:  # Source: Argo's nodes may run on for a moment after the end of the run.
            state.busy -= 1
            self.error(500, "Internal Server Error")
        elif run["state"] != "FAILED" or state.refusal:
            # Source: what is not Failed or Error cannot be retried.
            self.error(state.refusal or 409, f"Failed to retry run {key}: Workflow must be Failed/Error to retry")
        else:
            run |= {"state": "RUNNING", "state_history": [*run["state_history"], {"state": "RUNNING"}]}
            state.script = state.attempts.pop(0)
            self.answer(200, {})

    def make_experiment(self, state: State, body: dict) -> None:
        names = {(one["display_name"], one.get("namespace")) for one in state.tables["experiments"].values()}
        if (body["display_name"], body.get("namespace")) in names:
            self.error(409, f"Already exists: The name {body['display_name']} already exists")
        else:
            self.answer(200, self.make("experiments", "experiment_id", body))

    def delete_schedule(self, state: State, key: str, policy: str | None) -> None:
        if state.tables["recurringruns"].pop(key, None) is None:
            self.error(404, f"{key} not found")
            return
        if policy != "ORPHAN":
            # Real: Kubernetes collects the Workflows, which are owned by the schedule, and their pods; the API says
            # RUNNING of those runs for ever.
            runs = state.tables["runs"].values()
            state.workflows -= {run["run_id"] for run in runs if run.get("recurring_run_id") == key}
        self.answer(200, {})


def detail(run_id: str, name: str, state: str) -> dict[str, Any]:
    """Return what the API tells of a task. Real: no error, no name of a pod, and children that match no other task."""
    return {
        "run_id": run_id,
        "task_id": str(uuid.uuid4()),
        "display_name": name,
        "state": state,
        "create_time": "2026-01-01T00:00:00Z",
        "start_time": UNSET if state == "PENDING" else "2026-01-01T00:00:00Z",
        "end_time": "2026-01-01T00:01:05Z" if state in ENDED else UNSET,
        "child_tasks": [{"pod_name": f"attngan-x7k2p-{name}-1745639871"}],
    }


def specification(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run's pipeline, without what is for Kubernetes alone."""
    return run["pipeline_spec"].get("pipeline_spec", run["pipeline_spec"])


def step_names(run: dict[str, Any]) -> dict[str, bool]:
    """Return the tasks of a run by name, and whether each is an exit task."""
    if "pipeline_spec" not in run:  # it names a version of a pipeline instead
        return {}
    pipeline = specification(run)
    dags = [pipeline["root"], *pipeline["components"].values()]
    tasks = {name: task for dag in dags for name, task in dag.get("dag", {}).get("tasks", {}).items()}
    return {
        name: "triggerPolicy" in task
        for name, task in tasks.items()
        if not name.startswith(("condition-", "exit-handler-"))
    }


def leave_logs(run: dict[str, Any], logs: dict[str, str]) -> None:
    """Put logs of steps where KFP's launcher puts them.

    Source: a retry of the run keeps the folder that the driver chose, and counts attempts from 0 again.
    """
    root, name = run["runtime_config"]["pipeline_root"], specification(run)["pipelineInfo"]["name"]
    for step, text in logs.items():
        folder = uuid.uuid5(uuid.NAMESPACE_URL, f"{run['run_id']}/{step}")
        uri = f"{root}/{name}/{run['run_id']}/{step}/{folder}/executor-logs-0"
        places.write(uri, text.encode(), generation=places.read(uri)[1])


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = State()

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"
