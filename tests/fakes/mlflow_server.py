"""MLflow's tracking server, as far as attngan asks it: answers and refusals are those of 3.17 on SQLite.

`tests/training/test_mlflow_contract.py` asks the same questions of this server and, where it is installed, of the real
one.
"""

import json
import re
import threading
import urllib.parse
import uuid
from http.server import ThreadingHTTPServer
from typing import Any

import local_server

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"
NAME = re.compile(r"[\w\-. :/]*")


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str):
        self.status, self.body = status, {"error_code": code, "message": message}


class Server(ThreadingHTTPServer):
    """Keeps everything in memory.

    Attributes:
        fault: "" or what happens to every request: "closed" (the connection ends without an answer), "deaf" (the
            request is done, its answer is lost), "silent" (no answer until the server ends), "denied" (401).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault = ""
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.requests: list[str] = []
        self.experiments: dict[str, str] = {"0": "Default"}  # name by ID
        self.runs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}  # by run
        self.files: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def server_close(self) -> None:
        self.over.set()
        super().server_close()

    def points(self, name: str) -> list[tuple[int, float]]:
        """Return steps and values of a figure, in all runs, as they came."""
        return [(each["step"], each["value"]) for run in self.history.values() for each in run if each["key"] == name]

    def values(self, run_id: str, kind: str) -> dict[str, str]:
        """Return the params or tags of a run."""
        return {each["key"]: each["value"] for each in self.runs[run_id]["data"][kind]}

    def answer(self, method: str, path: str, given: dict[str, Any]) -> dict[str, Any]:
        name = path.replace("-", "_").replace("/", "_")
        return getattr(self, f"{method.lower()}_{name}")(given)

    def get_experiments_get_by_name(self, given: dict[str, Any]) -> dict[str, Any]:
        for number, name in self.experiments.items():
            if name == given["experiment_name"]:
                return {"experiment": {"experiment_id": number, "name": name, "lifecycle_stage": "active"}}
        message = f"Could not find experiment with name '{given['experiment_name']}'"
        raise Refused(404, "RESOURCE_DOES_NOT_EXIST", message)

    def post_experiments_create(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["name"] in self.experiments.values():
            raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Experiment(name={given['name']}) already exists.")
        number = str(len(self.experiments))
        self.experiments[number] = given["name"]
        return {"experiment_id": number}

    def post_runs_create(self, given: dict[str, Any]) -> dict[str, Any]:
        run_id = uuid.uuid4().hex  # the client keeps what it knows of one
        info = {
            "run_id": run_id,
            "run_uuid": run_id,
            "run_name": given.get("run_name", ""),
            "experiment_id": given["experiment_id"],
            "status": "RUNNING",
            "start_time": given.get("start_time", 0),
            "artifact_uri": f"mlflow-artifacts:/{given['experiment_id']}/{run_id}/artifacts",
            "lifecycle_stage": "active",
        }
        tags = list(given.get("tags", []))
        self.runs[run_id] = {"info": info, "data": {"tags": tags, "params": [], "metrics": []}, "inputs": {}}
        self.history[run_id] = []
        return {"run": self.runs[run_id]}

    def get_runs_get(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"run": self._run(given)}

    def post_runs_search(self, given: dict[str, Any]) -> dict[str, Any]:
        key, value = re.fullmatch(r"tags\.`(.*)` = '(.*)'", given["filter"]).groups()
        tag = {"key": key, "value": value}
        runs = [run for run in self.runs.values() if run["info"]["experiment_id"] in given["experiment_ids"]]
        found = [run for run in runs if tag in run["data"]["tags"]][: int(given["max_results"])]
        return {"runs": found} if found else {}

    def post_runs_update(self, given: dict[str, Any]) -> dict[str, Any]:
        info = self._run(given)["info"]
        info |= {name: given[name] for name in ("status", "end_time") if name in given}
        return {"run_info": info}

    def post_runs_set_tag(self, given: dict[str, Any]) -> dict[str, Any]:
        self._put(self._run(given)["data"]["tags"], given)
        return {}

    def post_runs_log_batch(self, given: dict[str, Any]) -> dict[str, Any]:
        data, history = self._run(given)["data"], self.history[given["run_id"]]
        metrics, params = given.get("metrics", []), given.get("params", [])
        for each, most in ((metrics, 1000), (params, 100)):
            if len(each) > most:
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"A batch logging request can contain at most {most}.")
        for each in (*metrics, *params):
            if not NAME.fullmatch(each["key"]):
                raise Refused(400, "INVALID_PARAMETER_VALUE", f'Invalid value "{each["key"]}" for parameter')
        there = {each["key"]: each["value"] for each in data["params"]}
        if any(there.get(each["key"], each["value"]) != each["value"] for each in params):
            raise Refused(400, "INVALID_PARAMETER_VALUE", "Changing param values is not allowed.")
        for each in params:
            self._put(data["params"], each)
        history += [{**each, "step": int(each["step"])} for each in metrics if each not in history]
        for each in metrics:
            self._put(data["metrics"], each)
        return {}

    def get_metrics_get_history(self, given: dict[str, Any]) -> dict[str, Any]:
        self._run(given)
        found = [each for each in self.history[given["run_id"]] if each["key"] == given["metric_key"]]
        return {"metrics": found} if found else {}

    def post_logged_models_search(self, given: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _run(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["run_id"] not in self.runs:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Run with id={given['run_id']} not found")
        return self.runs[given["run_id"]]

    @staticmethod
    def _put(entries: list[dict[str, Any]], given: dict[str, Any]) -> None:
        entries[:] = [each for each in entries if each["key"] != given["key"]]
        entries.append({name: value for name, value in given.items() if name not in ("run_id", "run_uuid")})


class Handler(local_server.Handler):
    server: Server

    def do_GET(self) -> None:
        self.handle_one("GET")

    def do_POST(self) -> None:
        self.handle_one("POST")

    def do_PUT(self) -> None:
        self.handle_one("PUT")

    def handle_one(self, method: str) -> None:
        fault = self.server.fault
        if fault == "closed":
            self.close_connection = True
            return
        if fault == "silent":
            self.server.over.wait()
            self.close_connection = True
            return
        status, body = self.done(method) if fault != "denied" else (401, "You are not authenticated.")
        if fault == "deaf":
            self.close_connection = True
            return
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def done(self, method: str) -> tuple[int, dict[str, Any]]:
        """Do what is asked; return the status and the answer."""
        length = int(self.headers.get("Content-Length") or 0)
        content, address = self.rfile.read(length), urllib.parse.urlsplit(self.path)
        with self.server.lock:
            self.server.requests.append(f"{method} {address.path}")
            if address.path.startswith(ARTIFACTS) and method == "PUT":
                self.server.files[urllib.parse.unquote(address.path.removeprefix(ARTIFACTS))] = content
                return 200, {}
            given = json.loads(content) if content else dict(urllib.parse.parse_qsl(address.query))
            try:
                return 200, self.server.answer(method, address.path.removeprefix(f"{API}/"), given)
            except Refused as refused:
                return refused.status, refused.body
