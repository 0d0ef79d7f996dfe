"""Recurring runs that can be declared again and again: the same declaration changes nothing, another replaces it.

The API has no update. A schedule is known by its name in its experiment; its description holds a digest of what it
should be.
"""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attngan.errors import InputError
from components import compiled
from components.cluster import client as api
from components.cluster import names
from components.cluster.options import Connection
from components.cluster.runs import quiet

if TYPE_CHECKING:
    from kfp import Client

MARK = "attngan-spec:"
PAGE = 100
LAST_RUNS = 3  # of a schedule that are told of


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a schedule should be.

    Args:
        cron: six fields, the seconds first.
        catchup: run what was missed while the schedule could not fire.
    """

    name: str
    cron: str
    arguments: dict[str, Any]
    pipeline_root: str
    service_account: str = ""
    max_concurrency: int = 1
    catchup: bool = False
    paused: bool = False
    caching: bool = True


def schedule(pipeline: Any, plan: Plan, connection: Connection) -> tuple[str, str]:
    """Make the cluster's schedule of this name what the plan says.

    Returns:
        What was done (created, updated, unchanged, paused, resumed), and a link.
    """
    client = api.connect(connection)
    with api.explained(connection), quiet():
        experiment = names.made_experiment(client, connection)
        pipeline_id, version_id = _version(client, pipeline, connection.namespace, caching=plan.caching)
        wanted = {
            "job_name": plan.name,
            "cron_expression": plan.cron,
            "params": plan.arguments,
            "pipeline_id": pipeline_id,
            "version_id": version_id,
            "pipeline_root": plan.pipeline_root,
            "service_account": plan.service_account or None,
            "max_concurrency": plan.max_concurrency,
            "no_catchup": not plan.catchup,
        }
        mark = MARK + hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
        before = list(_named(client, experiment, plan.name))
        if not any(mark in (found.description or "") for found in before):
            client.create_recurring_run(experiment, description=mark, enabled=False, **wanted)
        kept, others = _divided(list(_named(client, experiment, plan.name)), mark)
        for other in others:
            _delete(client, other.recurring_run_id)
        toggled = is_enabled(kept) == plan.paused
        if toggled:  # last: two schedules never fire side by side
            (client.disable_recurring_run if plan.paused else client.enable_recurring_run)(kept.recurring_run_id)
    action = _action(before, kept, replaced=bool(others), toggled=toggled, paused=plan.paused)
    return action, api.link(connection, f"recurringrun/details/{kept.recurring_run_id}")


class Schedule(NamedTuple):
    """A schedule as the cluster has it.

    Args:
        recurring_run: what the API tells of it.
        version: name of its version of the pipeline, "" for none.
        runs: what the API tells of its last runs, the newest first.
        is_ours: it was made by `schedule`, for this pipeline.
    """

    recurring_run: Any
    version: str
    runs: list[Any]
    is_ours: bool


def schedules(connection: Connection) -> list[Schedule]:
    """Return the schedules of the experiment by name."""
    client = api.connect(connection)
    with api.explained(connection):
        experiment = names.experiment(client, connection)
        found = list(_pages(client, experiment)) if experiment else []
        return [
            Schedule(one, _version_name(client, one), _last_runs(client, one), MARK in (one.description or ""))
            for one in sorted(found, key=lambda one: one.display_name)
        ]


def unschedule(name: str, connection: Connection) -> int:
    """Delete every schedule of this name and return how many there were.

    Raises:
        InputError: there is none.
    """
    client = api.connect(connection)
    with api.explained(connection):
        experiment = names.experiment(client, connection)
        found = list(_named(client, experiment, name)) if experiment else []
        if not found:
            others = sorted({one.display_name for one in _pages(client, experiment)}) if experiment else []
            known = f"found {', '.join(others)}" if others else "there is none"
            raise InputError(f"{name}: expected a schedule of the experiment {connection.experiment}, {known}.")
        for one in found:
            _delete(client, one.recurring_run_id)
    return len(found)


def is_enabled(recurring_run: Any) -> bool:
    """Return whether a schedule fires. Its `status` is unspecified after a run that failed; its `mode` is not."""
    return recurring_run.mode == "ENABLE" or (recurring_run.mode is None and recurring_run.status == "ENABLED")


def digest(package: Path) -> str:
    """Return the digest of what a compiled file says; its bytes differ from one compilation to the next."""
    content = json.dumps(compiled.read(package), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _version(client: "Client", pipeline: Any, namespace: str, *, caching: bool) -> tuple[str, str]:
    """Return the IDs of the pipeline and of the version with this content; upload what is missing."""
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "pipeline.yaml"
        compiled.write(pipeline, package, caching=caching)
        version = f"sha-{digest(package)[:12]}"
        found = client.list_pipelines(namespace=namespace, filter=names.equals(pipeline.name)).pipelines
        first = found[0] if found else client.upload_pipeline(str(package), pipeline.name, namespace=namespace)
        versions = client.list_pipeline_versions(first.pipeline_id, filter=names.equals(version)).pipeline_versions
        made = (
            versions[0]
            if versions
            else client.upload_pipeline_version(str(package), version, pipeline_id=first.pipeline_id)
        )
    return first.pipeline_id, made.pipeline_version_id


def _version_name(client: "Client", recurring_run: Any) -> str:
    reference = recurring_run.pipeline_version_reference
    if not reference or not reference.pipeline_version_id:
        return ""
    version = client.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id)
    return version.display_name or reference.pipeline_version_id


def _last_runs(client: "Client", recurring_run: Any) -> list[Any]:
    """Return the last runs of a schedule; what is not asked otherwise, the API tells of the oldest first."""
    wanted = names.equals(recurring_run.recurring_run_id, key="recurring_run_id")
    how = {"experiment_id": recurring_run.experiment_id, "sort_by": "created_at desc", "filter": wanted}
    runs: list[Any] = []
    token = ""
    while True:
        page = client.list_runs(page_size=LAST_RUNS, page_token=token, **how)
        runs += page.runs or []
        token = page.next_page_token
        if not token or len(runs) >= LAST_RUNS:
            return runs[:LAST_RUNS]


def _divided(found: list[Any], mark: str) -> tuple[Any, list[Any]]:
    """Return the schedule to keep and the others; two processes that declare the same keep the same one."""
    same = sorted(
        (one for one in found if mark in (one.description or "")),
        key=lambda one: (str(one.created_at), one.recurring_run_id),
    )
    if not same:
        raise InputError("another process changed this schedule just now; run the same command again.")
    return same[0], [one for one in found if one is not same[0]]


def _action(before: list[Any], kept: Any, *, replaced: bool, toggled: bool, paused: bool) -> str:
    if not before:
        return "created"
    if replaced or kept.recurring_run_id not in {one.recurring_run_id for one in before}:
        return "updated"
    if toggled:
        return "paused" if paused else "resumed"
    return "unchanged"


def _delete(client: "Client", recurring_run_id: str) -> None:
    """Delete a schedule and leave its runs: Kubernetes would collect them with it, and end their pods."""
    from kfp_server_api import ApiException

    delete = client.recurring_runs.recurring_run_service_delete_recurring_run
    try:
        delete(recurring_run_id, propagation_policy="ORPHAN")
    except ApiException as error:
        if error.status != 404:  # gone already is as good
            raise


def _named(client: "Client", experiment: str, name: str) -> Iterator[Any]:
    return _pages(client, experiment, filter=names.equals(name))


def _pages(client: "Client", experiment: str, **rest: str) -> Iterator[Any]:
    token = ""
    listing: Callable[..., Any] = client.list_recurring_runs
    while True:
        page = listing(experiment_id=experiment, page_size=PAGE, page_token=token, **rest)
        yield from page.recurring_runs or []
        token = page.next_page_token
        if not token:
            return
