"""The stub of MLflow's server answers as the real one does, which is asked too where it is installed."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import local_server
import mlflow_server
import pytest

START_SECONDS = 120


@pytest.fixture(params=["stub", pytest.param("real", marks=pytest.mark.slow)])
def address(request, tmp_path):
    if request.param == "stub":
        with local_server.running(mlflow_server.Server()) as server:
            yield server.url
        return
    pytest.importorskip("mlflow.server.handlers", reason="needs all of mlflow, with its server")
    port = local_server.HTTPServer(("127.0.0.1", 0), local_server.Handler)
    port.server_close()
    url = f"http://127.0.0.1:{port.server_port}"
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/runs.db", "--artifacts-destination", str(tmp_path / "files")]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port.server_port), "--workers", "1", *store]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait()


def ask(address, method, path, **given):
    """Return the status and the answer."""
    body = json.dumps(given).encode() if method == "POST" else None
    query = f"?{urllib.parse.urlencode(given)}" if method == "GET" else ""
    request = urllib.request.Request(f"{address}/api/2.0/mlflow/{path}{query}", data=body, method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error_code"]


def point(step, *, key="a/loss", timestamp=1):
    return {"key": key, "value": 0.5, "timestamp": timestamp, "step": step}


def test_what_trackers_go_by_is_what_the_server_does(address):
    assert ask(address, "GET", "experiments/get-by-name", experiment_name="mine") == (404, "RESOURCE_DOES_NOT_EXIST")
    assert ask(address, "POST", "experiments/create", name="mine") == (200, {"experiment_id": "1"})
    assert ask(address, "POST", "experiments/create", name="mine") == (400, "RESOURCE_ALREADY_EXISTS")
    assert ask(address, "GET", "runs/get", run_id="none") == (404, "RESOURCE_DOES_NOT_EXIST")

    tag = {"key": "attngan.key", "value": "k"}
    run = ask(address, "POST", "runs/create", experiment_id="1", run_name="x", start_time=1, tags=[tag])[1]["run"]
    run_id = run["info"]["run_id"]
    assert run["info"]["status"] == "RUNNING" and len(run_id) == 32
    search = {"experiment_ids": ["1"], "max_results": 1}
    assert ask(address, "POST", "runs/search", filter="tags.`attngan.key` = 'other'", **search) == (200, {})
    [found] = ask(address, "POST", "runs/search", filter="tags.`attngan.key` = 'k'", **search)[1]["runs"]
    assert found["info"]["run_id"] == run_id

    def log(**given):
        return ask(address, "POST", "runs/log-batch", run_id=run_id, **given)

    history = {"run_id": run_id, "metric_key": "a/loss"}
    assert ask(address, "GET", "metrics/get-history", **history) == (200, {})
    for timestamp in (1, 1, 2):  # the same once more is the same; at another time it is another
        assert log(metrics=[point(3, timestamp=timestamp)]) == (200, {})
    points = ask(address, "GET", "metrics/get-history", **history)[1]["metrics"]
    assert [(each["step"], each["value"], each["timestamp"]) for each in points] == [(3, 0.5, 1), (3, 0.5, 2)]

    assert log(params=[{"key": "seed", "value": "1"}]) == (200, {})
    assert log(params=[{"key": "seed", "value": "2"}]) == (400, "INVALID_PARAMETER_VALUE")
    assert log(params=[{"key": f"p{n}", "value": "1"} for n in range(101)]) == (400, "INVALID_PARAMETER_VALUE")
    assert log(metrics=[point(1, key=f"m{n}") for n in range(1001)]) == (400, "INVALID_PARAMETER_VALUE")
    assert log(metrics=[point(1, key="kid(clip)")]) == (400, "INVALID_PARAMETER_VALUE")

    assert ask(address, "POST", "runs/set-tag", run_id=run_id, key="t", value="v") == (200, {})
    ended = ask(address, "POST", "runs/update", run_id=run_id, status="FINISHED", end_time=5)
    assert ended[1]["run_info"]["status"] == "FINISHED"
    data = ask(address, "GET", "runs/get", run_id=run_id)[1]["run"]["data"]
    assert {"key": "t", "value": "v"} in data["tags"] and data["params"] == [{"key": "seed", "value": "1"}]
