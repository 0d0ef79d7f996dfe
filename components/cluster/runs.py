"""Submitting the pipeline as a run, and asking for a retry of one."""

import contextlib
import datetime
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attngan.errors import InputError
from attngan.storage.step_logs import StepLogs
from components import compiled
from components.cluster import client as api
from components.cluster import names
from components.cluster.options import Connection

if TYPE_CHECKING:
    from kfp import Client

ID = re.compile(r"\w[\w-]*")


class Run(NamedTuple):
    """A run on a cluster."""

    run_id: str
    link: str
    steps: list[str]
    logs: StepLogs


def submit(
    pipeline: Any,
    arguments: dict[str, Any],
    connection: Connection,
    *,
    pipeline_root: str,
    service_account: str = "",
    run_name: str = "",
    caching: bool = True,
    parallel: int = 1,
) -> tuple["Client", Run]:
    """Compile the pipeline and start a run of it; return the client for more questions, and the run."""
    client = api.connect(connection)
    with tempfile.TemporaryDirectory() as scratch, api.explained(connection), quiet():
        package = Path(scratch) / "pipeline.yaml"
        steps = compiled.write(pipeline, package, caching=caching, parallel=parallel)
        run = client.run_pipeline(
            experiment_id=names.made_experiment(client, connection),
            job_name=run_name or f"{pipeline.name} {datetime.datetime.now():%Y-%m-%d %H-%M-%S}",
            pipeline_package_path=str(package),
            params=arguments,
            pipeline_root=pipeline_root,
            service_account=service_account or None,
        )
    return client, _run(run.run_id, steps, connection, f"{pipeline_root}/{pipeline.name}")


def find(pipelines: Sequence[Any], run_id: str, connection: Connection) -> tuple["Client", Run]:
    """Return the client, and a run that can be retried, of one of the pipelines, the first where it says none.

    Raises:
        InputError: there is no such run, or it has not failed.
    """
    from kfp_server_api import ApiException

    client = api.connect(connection)
    with api.explained(connection):
        try:
            found = client.get_run(run_id) if ID.fullmatch(run_id) else None
        except ApiException as error:
            if error.status != 404:
                raise
            found = None
    if found is None or found.run_id != run_id:
        raise InputError(f"{run_id}: {connection.host} knows no such run; expected the ID that submit prints.")
    if found.state == "SUCCEEDED":
        raise InputError(f"{run_id}: the run SUCCEEDED, so there is nothing to retry; submit another one.")
    if found.state not in ("FAILED", "CANCELED"):
        raise InputError(
            f"{run_id}: expected a run that failed, found one that is {found.state}; wait for its end, or terminate it "
            "on its page."
        )
    given = found.pipeline_spec or {}
    name = given.get("pipeline_spec", given).get("pipelineInfo", {}).get("name")
    pipeline = next((each for each in pipelines if each.name == name), pipelines[0])
    with tempfile.TemporaryDirectory() as scratch, quiet():
        steps = compiled.write(pipeline, Path(scratch) / "pipeline.yaml")
    root = (found.runtime_config and found.runtime_config.pipeline_root) or ""
    return client, _run(run_id, steps, connection, root and f"{root.rstrip('/')}/{pipeline.name}")


def retry(client: "Client", run: Run, connection: Connection) -> None:
    """Let the cluster go on with a run that failed: steps that succeeded are not run again."""
    with api.explained(connection):
        client.runs.run_service_retry_run(run.run_id)


def _run(run_id: str, steps: list[str], connection: Connection, folder: str) -> Run:
    """Put a run together; `folder` holds the pipeline's runs, "" where that is not known."""
    logs = StepLogs(folder and f"{folder}/{run_id}")
    return Run(run_id, api.link(connection, f"runs/details/{run_id}"), steps, logs)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep kfp's own account of what it does off the console."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
