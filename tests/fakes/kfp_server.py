"""The API of Kubeflow Pipelines in this process: in memory, over HTTP, with moods; it keeps every request it gets."""

import contextlib
import datetime
import http.server
import json
import time
import urllib.parse
import uuid
from typing import Any

import local_server

API = "/apis/v2beta1"
LOGIN = b"<!doctype html><title>Log in</title><form></form>"
UNSET = "1970-01-01T00:00:00Z"


class State:
    """What the server holds, and how it behaves.

    Attributes:
        token, cookie: what every request must carry, "" for none.
        namespaces: those that exist; None for a server with one user, which ignores them.
        mood: "well", "login", "redirect", "forbidden", "silent", "starting" or "elsewhere".
        script: what the run says at each question, a list of (state, {task: state}); the last stays.
        unwell: statuses that the next questions for a run get instead.
    """

    def __init__(self):
        self.token = self.cookie = ""
        self.namespaces: set[str] | None = None
        self.mood = "well"
        self.script: list[tuple[str, dict[str, str]]] = [("SUCCEEDED", {})]
        self.unwell: list[int] = []
        self.messages: dict[str, str] = {}
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
        self.answer(status, {"error": message, "code": 7, "message": message})

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
        if state.token and self.headers.get("authorization") != f"Bearer {state.token}":
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
            self.error(403, f"User 'me' is not authorized with reason: (Namespace:{namespace})")
            return
        match (self.command, *parts):
            case ("GET", "healthz"):
                self.answer(200, {"multi_user": state.namespaces is not None})
            case ("POST", "pipelines", "upload"):
                made = self.make("pipelines", "pipeline_id", {"display_name": request["query"]["name"]})
                self.make("versions", "pipeline_version_id", made | {"name": made["display_name"]})
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
                state.tables["recurringruns"].pop(key, None)
                self.answer(200, {})
            case ("GET", "runs", key):
                self.run(state, key)
            case ("GET", table):
                self.listing(table, table, request["query"], {})
            case ("POST", "runs"):
                self.answer(200, self.make("runs", "run_id", request["body"] | {"state": "PENDING"}))
            case ("POST", "experiments"):
                self.answer(200, self.make("experiments", "experiment_id", request["body"]))
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
        for predicate in json.loads(query.get("filter", '{"predicates": []}'))["predicates"]:
            assert predicate["operation"] in ("EQUALS", 1)
            wanted = wanted | {predicate["key"]: predicate["stringValue"]}
        entries = [
            entry
            for entry in self.server.state.tables[table].values()
            if all(entry.get(key) == value for key, value in wanted.items())
        ]
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
        now_state, tasks = state.script[0] if len(state.script) == 1 else state.script.pop(0)
        details = [
            {
                "run_id": key,
                "task_id": f"id-{name}",
                "display_name": name,
                "state": task,
                "create_time": "2026-01-01T00:00:00Z",
                "start_time": "2026-01-01T00:00:00Z",
                "end_time": "2026-01-01T00:01:05Z" if task in ("SUCCEEDED", "FAILED") else UNSET,
                "child_tasks": [{"pod_name": f"pod-{name}"}],
            }
            for name, task in tasks.items()
        ]
        details += [
            {"pod_name": f"pod-{name}", "display_name": "executor", "state": "FAILED", "error": {"message": message}}
            for name, message in state.messages.items()
        ]
        entry = {**state.tables["runs"][key], "state": now_state, "run_details": {"task_details": details}}
        self.answer(200, entry)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = State()

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"
