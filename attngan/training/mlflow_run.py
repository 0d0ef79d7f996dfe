"""A step as a run of MLflow: that of `MLFLOW_RUN_ID`, as Kubeflow's plugin sets it, or one found by a tag."""

import importlib.util
import logging
import math
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from attngan.config import settings
from attngan.training.tracker_service import File, Row, Service, flat

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY = "attngan.key"  # the tag that a run is found by
EXPERIMENT = "attngan"
PARAMS, METRICS = 100, 1000  # at most, in one request
# The client's own defaults wait for minutes, and tell others of its use. Whoever sets a variable is not overruled.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we try again ourselves
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # which may hold a password
}


def is_installed() -> bool:
    """Return whether MLflow's client is here."""
    return importlib.util.find_spec("mlflow") is not None


class MlflowRun(Service):
    """A run of the server at `MLFLOW_TRACKING_URI`."""

    title = "MLflow"
    client: "MlflowClient"
    run: "Run"
    _there: dict[str, set[tuple[float, float]]]  # of a figure: steps and values when the run was found

    @property
    def place(self) -> str:
        """The tracking URI."""
        return os.environ["MLFLOW_TRACKING_URI"]

    def connect(self) -> None:
        """Find the run or make it, say that it is running, and add the settings that it has not."""
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        for name in ("mlflow", "urllib3.connectionpool"):  # what they would warn of is said in one line of ours
            logging.getLogger(name).setLevel(logging.ERROR)
        self.client, self._there = MlflowClient(), {}
        given = os.environ.get("MLFLOW_RUN_ID")
        self.run = self.client.get_run(given) if given else self._found() or self._made()
        if not given:
            self.client.update_run(self.run.info.run_id, status="RUNNING")
        params = [
            Param(name, value) for name, value in flat(self.config).items() if name not in self.run.data.params
        ]  # one that is there cannot be changed: config.yaml has what holds now
        for start in range(0, len(params), PARAMS):
            self.client.log_batch(self.run.info.run_id, params=params[start : start + PARAMS])
        self.send_file(f"{self.kind}/config.yaml", settings.dump(self.config).encode())

    def missing(self, rows: list[Row]) -> list[Row]:
        """Return the rows whose last figure the run had not, with this value at this step."""
        found = []
        for row in rows:
            name, value = list(_figures(row).items())[-1]
            if name not in self._there:
                history = self.client.get_metric_history(self.run.info.run_id, self._name(name))
                self._there[name] = {(metric.step, metric.value) for metric in history}
            if (row["step"], value) not in self._there[name]:
                found.append(row)
        return found

    def send_rows(self, rows: list[Row]) -> None:
        """Add rows, each in one request with others or alone, never in parts."""
        from mlflow.entities import Metric

        now, metrics = int(time.time() * 1000), []
        for row in rows:
            made = [Metric(self._name(name), value, now, int(row["step"])) for name, value in _figures(row).items()]
            if len(metrics) + len(made) > METRICS:
                self.client.log_batch(self.run.info.run_id, metrics=metrics)
                metrics = []
            metrics += made
        self.client.log_batch(self.run.info.run_id, metrics=metrics)

    def send_file(self, name: str, content: File) -> None:
        """Add a file or a folder to the run's artifacts."""
        if isinstance(content, Path):
            self.client.log_artifacts(self.run.info.run_id, str(content), name)
            return
        path = PurePosixPath(name)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / path.name).write_bytes(content)
            self.client.log_artifact(self.run.info.run_id, str(Path(folder) / path.name), str(path.parent))

    def send_facts(self, facts: Mapping[str, str]) -> None:
        """Add tags."""
        for name, fact in facts.items():
            self.client.set_tag(self.run.info.run_id, f"attngan.{name}", fact)

    def end(self, *, failed: bool) -> None:
        """Say how the run ended, unless whoever made it will."""
        if not os.environ.get("MLFLOW_RUN_ID"):
            self.client.set_terminated(self.run.info.run_id, "FAILED" if failed else "FINISHED")

    def _name(self, figure: str) -> str:
        return f"{self.kind}/{figure}"

    def _found(self) -> "Run | None":
        found = self.client.search_runs([self._experiment()], f"tags.`{KEY}` = '{self.key}'", max_results=1)
        return found[0] if found else None

    def _made(self) -> "Run":
        name = os.environ.get("MLFLOW_RUN_NAME") or self.kind
        return self.client.create_run(self._experiment(), tags={KEY: self.key}, run_name=name)

    def _experiment(self) -> str:
        """Return the ID of the experiment that the environment names, or of our own, which is made if absent."""
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self.client.get_experiment_by_name(name)
        return found.experiment_id if found else self.client.create_experiment(name)


def _figures(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "step" and math.isfinite(value)}
