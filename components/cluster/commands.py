"""The commands that concern a cluster: submit and retry, schedule and what belongs to it. `ctx.obj` makes pipelines."""

import datetime
import sys
import zoneinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attngan.errors import InputError
from attngan.runtime import exit_status
from components.cluster.options import Connection, Sweep, Work, grouped

if TYPE_CHECKING:
    from kfp import Client

    from components.cluster.runs import Run

RETRIES = 3  # when nothing else is said

app = typer.Typer()

Wait = Annotated[bool, typer.Option("--wait", help="Follow the run to its end; exit status 1 if it fails.")]
Timeout = Annotated[float | None, typer.Option(min=0, max=1e9, help="Seconds to follow it at most.")]
Retries = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1000,
        show_default=False,
        help=f"With --wait: how often to have the run retried after a lost node. Default: {RETRIES}.",
    ),
]

Zone = Annotated[str, typer.Option(help="The controller's CRON_SCHEDULE_TIMEZONE; only for what is printed.")]
Name = Annotated[str, typer.Argument(help="Name of the schedule, unique in its experiment.")]


@app.command()
@grouped
def submit(
    ctx: typer.Context,
    connection: Connection,
    work: Work,
    sweep: Sweep,
    run_name: Annotated[str, typer.Option(help="Default: the pipeline and the time.")] = "",
    wait: Wait = False,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Run the pipeline on a cluster; with --vary a sweep, whose best member is published."""
    with exit_status.reported():
        _check_waits(wait, timeout, retries)
        from components.cluster import arguments, runs

        if not sweep.vary and sweep != Sweep():
            raise InputError("--parallel and --yes are for a sweep; give --vary too, or leave them out.")
        if sweep.vary:
            given = arguments.sweep_arguments(work, sweep.vary, is_agreed=sweep.yes)
        else:
            given = arguments.pipeline_arguments(work)
        client, run = runs.submit(
            _pipeline(ctx, connection, work, "sweep" if sweep.vary else "cluster"),
            given,
            connection,
            pipeline_root=arguments.pipeline_root(work),
            service_account=work.service_account,
            run_name=run_name,
            caching=not work.no_cache,
            parallel=sweep.parallel,
        )
        _tell(connection, client, run, wait=wait, timeout=timeout, retries=retries)


@app.command()
@grouped
def retry(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="ID of the failed run.")],
    connection: Connection,
    wait: Wait = False,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Let a run that failed go on; its steps that succeeded are not run again."""
    with exit_status.reported():
        _check_waits(wait, timeout, retries)
        from components.cluster import runs

        client, run = runs.find([ctx.obj["cluster"](), ctx.obj["sweep"]()], run_id, connection)
        if wait:
            run.logs.remember(run.steps)
        runs.retry(client, run, connection)
        _tell(connection, client, run, wait=wait, timeout=timeout, retries=retries)


def _pipeline(ctx: typer.Context, connection: Connection, work: Work, name: str = "cluster") -> Any:
    """Return the pipeline, or that of a sweep, with a notice at its end where one is wanted."""
    from components.cluster import arguments, notice

    return ctx.obj[name](notice.notice_of(work.notify, connection, arguments.pipeline_root(work)))


def _check_waits(wait: bool, timeout: float | None, retries: int | None) -> None:
    """Refuse what only means something for who waits."""
    for flag, value in (("--timeout", timeout), ("--retries", retries)):
        if value is not None and not wait:
            raise InputError(f"{flag}: expected with --wait; nothing else waits for the run.")


def _tell(
    connection: Connection, client: "Client", run: "Run", *, wait: bool, timeout: float | None, retries: int | None
) -> None:
    """Say which run it is, and follow it if that is wanted."""
    print(f"run   {run.run_id}\nlink  {run.link}", flush=True)
    if not wait:
        return
    from components.cluster import follow

    ended = follow.follow(connection, client, run, timeout=timeout, retries=RETRIES if retries is None else retries)
    if ended.state != "SUCCEEDED":
        print(f"attngan: {ended.sentence()}; its logs: {run.link}", file=sys.stderr, flush=True)
        raise SystemExit(1)
    print(ended.sentence())


@app.command()
@grouped
def schedule(
    ctx: typer.Context,
    name: Name,
    cron: Annotated[str, typer.Option(help='Crontab such as "0 3 * * 1", six fields with seconds first, or @weekly.')],
    connection: Connection,
    work: Work,
    time_zone: Zone = "UTC",
    paused: Annotated[bool, typer.Option("--paused", help="Keep it, but let it not fire.")] = False,
    max_concurrency: Annotated[int, typer.Option(min=1, max=10, help="Runs of it at the same time.")] = 1,
    catchup: Annotated[bool, typer.Option("--catchup", help="Also run what was missed.")] = False,
) -> None:
    """Run the pipeline again and again; the same command again changes nothing."""
    with exit_status.reported():
        from components.cluster import arguments, crontab, schedules

        now = datetime.datetime.now(_zone(time_zone))
        plan = schedules.Plan(
            name=name,
            cron=crontab.six_fields(cron),
            arguments=arguments.pipeline_arguments(work),
            pipeline_root=arguments.pipeline_root(work),
            service_account=work.service_account,
            max_concurrency=max_concurrency,
            catchup=catchup,
            paused=paused,
            caching=not work.no_cache,
        )
        action, link = schedules.schedule(_pipeline(ctx, connection, work), plan, connection)
        print(f"{name}: {action}\ncron  {plan.cron} (seconds first)")
        for moment in crontab.next_times(plan.cron, now, count=3):
            print(f"next  {_shown(moment, time_zone)}" + (", if it were not paused" if paused else ""))
        print(f"link  {link}")


@app.command("schedules")
@grouped
def list_schedules(ctx: typer.Context, connection: Connection, time_zone: Zone = "UTC") -> None:
    """List the schedules of an experiment: when each fires, what became of its last runs, how old the champion is."""
    with exit_status.reported():
        from components.cluster import schedules

        zone = _zone(time_zone)
        found = schedules.schedules(connection)
        if not found:
            print(f"no schedules in the experiment {connection.experiment}")
            return
        from components.cluster import schedule_table

        schedule_table.show(schedule_table.rows_of(found, ctx.obj["cluster"]().name, zone, time_zone), time_zone)


@app.command()
@grouped
def unschedule(name: Name, connection: Connection) -> None:
    """Remove a schedule; runs that it started go on."""
    with exit_status.reported():
        from components.cluster import schedules

        count = schedules.unschedule(name, connection)
        print(f"{name}: removed" + (f" ({count} of that name)" if count > 1 else ""))


def _zone(name: str) -> datetime.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"--time-zone {name}: no such time zone; expected a name such as Europe/Berlin.") from error


def _shown(moment: datetime.datetime, time_zone: str) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} {time_zone}"
