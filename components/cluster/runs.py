"""Submitting the pipeline as a run."""

import contextlib
import datetime
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components import compiled
from components.cluster import client as api
from components.cluster import names
from components.cluster.options import Connection

if TYPE_CHECKING:
    from kfp import Client


class Run(NamedTuple):
    """A run that was submitted."""

    run_id: str
    link: str
    steps: list[str]


def submit(
    pipeline: Any,
    arguments: dict[str, Any],
    connection: Connection,
    *,
    pipeline_root: str,
    service_account: str = "",
    run_name: str = "",
    caching: bool = True,
) -> tuple["Client", Run]:
    """Compile the pipeline and start a run of it; return the client for more questions, and the run."""
    client = api.connect(connection)
    with tempfile.TemporaryDirectory() as scratch, api.explained(connection), quiet():
        package = Path(scratch) / "pipeline.yaml"
        steps = compiled.write(pipeline, package, caching=caching)
        run = client.run_pipeline(
            experiment_id=names.made_experiment(client, connection),
            job_name=run_name or f"{pipeline.name} {datetime.datetime.now():%Y-%m-%d %H-%M-%S}",
            pipeline_package_path=str(package),
            params=arguments,
            pipeline_root=pipeline_root,
            service_account=service_account or None,
        )
    return client, Run(run.run_id, api.link(connection, f"runs/details/{run.run_id}"), steps)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep kfp's own account of what it does off the console."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
