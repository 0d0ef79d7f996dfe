"""The list of schedules: when each fires, what became of its last runs, how old the champion is."""

import datetime
import io
import json
import re
import time

import cluster_cli
import pytest
import run_logs

pytest.importorskip("kfp")

from attngan.storage import places
from components.cluster import schedule_table
from components.cluster.schedule_table import Row, Run

ROOT, MODELS = "gs://pictures/runs", "gs://pictures/models"
WORK = [*cluster_cli.WORK, "--pipeline-root", ROOT, "--model-uri", MODELS]
FAILED = f"{run_logs.BEGUN}attngan: training.batch_size: lower it.\n"
pytestmark = pytest.mark.usefixtures("gs_bucket")


def schedule(cluster, name="weekly", *flags, cron="0 3 * * 1"):
    assert cluster_cli.run("schedule", name, "--host", cluster.host, *WORK, "--cron", cron, *flags).status == 0
    return next(one for one in cluster.state.tables["recurringruns"].values() if one["display_name"] == name)


def listed(cluster, *flags):
    ended = cluster_cli.run("schedules", "--host", cluster.host, *flags)
    assert (ended.status, ended.err) == (0, "")
    return ended.out.splitlines()


def fire(cluster, made, day, state, logs=(), **what):
    """Let a schedule start a run at 03:00 of a day of November, which left logs."""
    run = cluster.state.fire(made["recurring_run_id"], at=f"2026-11-{day:02}T03:00:00Z", state=state, **what)
    for step, log in dict(logs).items():
        run_logs.put(f"{ROOT}/attngan/{run}", step, log)
    return run


def promote(days):
    """Make a champion that is so old."""
    made = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    entry = {"model": "models/1f0e", "fingerprint": "1f0e77", "figures": {"kid": 0.05}, "promoted": made.isoformat()}
    content = json.dumps({"champion": entry, "previous": None}).encode()
    places.write(f"{MODELS}/champion.json", content, generation=0)


def test_a_schedule_is_told_with_its_times_runs_and_champion(cluster):
    made = schedule(cluster)
    fire(cluster, made, 2, "SUCCEEDED", {"publish": run_logs.done("promoted: the first model here, kid 0.09")})
    fire(cluster, made, 9, "FAILED", {"train-generator": FAILED})
    fire(cluster, made, 16, "SUCCEEDED", {"detect-changes": run_logs.done(run_logs.NOTHING_NEW)})
    fire(cluster, made, 23, "SUCCEEDED", {"publish": run_logs.done(run_logs.PROMOTED)})
    promote(days=4)
    first, next_, *rest = listed(cluster)
    assert first == "weekly: Mondays at 03:00 UTC, enabled"
    assert next_.startswith("  next      Mon 20") and next_.endswith(" (UTC)") and next_.count("03:00, Mon 20") == 2
    assert rest[:4] == [
        "  runs      Mon 2026-11-23 03:00  SUCCEEDED  promoted: kid 0.0512, the champion has 0.0713",
        "            Mon 2026-11-16 03:00  SUCCEEDED  nothing new",
        "            Mon 2026-11-09 03:00  FAILED     failed at train-generator: training.batch_size: lower it.",
        "  champion  4 days old, models/1f0e",
    ]
    assert rest[4].startswith("  version   sha-") and ", changed " in rest[4]


def test_runs_of_one_schedule_are_not_those_of_another(cluster):
    weekly, daily = schedule(cluster), schedule(cluster, "daily", cron="@daily")
    fire(cluster, daily, 23, "RUNNING")
    fire(cluster, weekly, 22, "SUCCEEDED", {"publish": run_logs.done(run_logs.KEPT)})
    text = "\n".join(listed(cluster))
    first, second = text.split("weekly: ")
    assert "runs      Mon 2026-11-23 03:00  RUNNING\n" in first and "kept" not in first
    kept = "kept: kid 0.08, the champion has 0.0713; better by more than 0 is asked for"
    assert f"runs      Sun 2026-11-22 03:00  SUCCEEDED  {kept}\n" in second and "RUNNING" not in second


def test_times_are_those_of_the_schedulers_zone(cluster):
    fire(cluster, schedule(cluster, cron="@daily"), 23, "RUNNING")
    first, next_, runs, *_ = listed(cluster, "--time-zone", "Asia/Tokyo")
    assert first == "weekly: every day at 00:00 Asia/Tokyo, enabled"
    assert next_.endswith("00:00 (Asia/Tokyo)") and runs == "  runs      Mon 2026-11-23 12:00  RUNNING"


def test_a_paused_schedule_fires_at_no_time(cluster):
    schedule(cluster, "weekly", "--paused")
    assert listed(cluster)[:3] == ["weekly: Mondays at 03:00 UTC, paused", "  next      -", "  champion  none yet"]


def test_a_run_that_somebody_ended_is_terminated(cluster):
    states = [{"state": state} for state in ("RUNNING", "CANCELING", "FAILED")]
    fire(cluster, schedule(cluster), 23, "FAILED", state_history=states)
    assert "  runs      Mon 2026-11-23 03:00  FAILED     terminated" in listed(cluster)


def test_a_run_without_a_time_of_its_schedule_has_that_of_its_making(cluster):
    fire(cluster, schedule(cluster), 23, "RUNNING", scheduled_at="1970-01-01T00:00:00Z")
    assert "  runs      Mon 2026-11-23 03:00  RUNNING" in listed(cluster)


def test_a_champion_that_cannot_be_read_is_said_in_its_row_alone(cluster):
    schedule(cluster)
    schedule(cluster, "other", "--model-uri", "gs://pictures/broken")
    promote(days=400)
    places.write("gs://pictures/broken/champion.json", b"{", generation=0)
    champions = [line for line in listed(cluster) if line.startswith("  champion")]
    assert champions[0].startswith("  champion  cannot be read: gs://pictures/broken/champion.json: expected JSON")
    assert champions[1] == "  champion  400 days old, models/1f0e"


def test_logs_that_cannot_be_read_are_said_in_their_row_alone(cluster):
    made = schedule(cluster, "weekly", "--pipeline-root", "gs://absent/runs")
    cluster.state.fire(made["recurring_run_id"], at="2026-11-23T03:00:00Z", state="SUCCEEDED")
    _, _, runs, champion, _ = listed(cluster)
    assert runs.startswith("  runs      Mon 2026-11-23 03:00  SUCCEEDED  succeeded: its logs below gs://absent/runs")
    assert champion == "  champion  none yet"


def test_storage_that_does_not_answer_leaves_what_the_cluster_tells(cluster, monkeypatch):
    fire(cluster, schedule(cluster), 23, "SUCCEEDED")
    monkeypatch.setattr(schedule_table, "SECONDS", 0.05)
    monkeypatch.setattr(schedule_table, "_champion", lambda _: time.sleep(2))
    _, _, runs, champion, _ = listed(cluster)
    assert runs == "  runs      Mon 2026-11-23 03:00  SUCCEEDED  storage did not answer in time"
    assert champion == "  champion  storage did not answer in time"


def test_a_schedule_by_interval_made_elsewhere_is_listed_without_a_guess(cluster):
    made = schedule(cluster)
    made["trigger"] = {"periodic_schedule": {"interval_second": "60"}}
    made["description"] = "of somebody else"
    made.pop("pipeline_version_reference")
    fire(cluster, made, 23, "SUCCEEDED", {"publish": run_logs.done(run_logs.PROMOTED)})
    first, next_, runs, champion, version = listed(cluster)
    assert first == "weekly: every 60 seconds, enabled"
    assert (next_, champion) == ("  next      -", "  champion  -") and version.startswith("  version   -, changed ")
    assert runs == "  runs      Mon 2026-11-23 03:00  SUCCEEDED"


def test_a_schedule_of_which_the_cluster_tells_no_places_is_listed_without_a_guess(cluster):
    made = schedule(cluster)
    made.pop("runtime_config")
    fire(cluster, made, 23, "SUCCEEDED")
    _, _, runs, champion, _ = listed(cluster)
    assert (runs, champion) == ("  runs      Mon 2026-11-23 03:00  SUCCEEDED", "  champion  -")


ROW = Row(
    name="weekly [red]",
    when="Mondays at 03:00 UTC",
    state="enabled",
    next=["Mon 2026-11-30 03:00", "Mon 2026-12-07 03:00"],
    runs=[Run("Mon 2026-11-23 03:00", "SUCCEEDED", "promoted: kid 0.0512, the champion has 0.0713")],
    champion="4 days old, models/1f0e",
    version="sha-1f0e",
)


def on_a_terminal(width):
    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, color_system=None)
    schedule_table.show([ROW], "UTC", console)
    return text.getvalue().splitlines()


def test_a_wide_terminal_gets_a_table():
    lines = on_a_terminal(160)
    header = next(line for line in lines if "SCHEDULE" in line)
    names = ["SCHEDULE", "NEXT (UTC)", "LAST RUNS", "STATE", "WHAT BECAME OF THEM", "CHAMPION"]
    assert re.split(" {2,}", header.strip()) == names
    first, second, third = [re.split(" {2,}", line.strip()) for line in lines if re.search(r"\w", line)][1:]
    assert first == [
        "weekly [red]",
        "Mon 2026-11-30 03:00",
        "Mon 2026-11-23 03:00",
        "SUCCEEDED",
        "promoted: kid 0.0512, the champion has 0.0713",
        "4 days old, models/1f0e",
    ]
    assert (second, third) == (["Mondays at 03:00 UTC", "Mon 2026-12-07 03:00"], ["enabled"])
    assert all(len(line) <= 160 for line in lines)


def test_a_narrow_terminal_gets_a_paragraph_that_fits():
    lines = on_a_terminal(50)
    assert lines[0] == "weekly [red]: Mondays at 03:00 UTC, enabled"
    assert all(len(line) <= 50 for line in lines)
    assert "  runs      Mon 2026-11-23 03:00  SUCCEEDED" in lines[3]


@pytest.mark.parametrize(
    ("minutes", "age"),
    [(0, "a moment"), (1, "1 minute"), (59, "59 minutes"), (60, "1 hour"), (2879, "1 day"), (2880, "2 days")],
)
def test_an_age_has_its_largest_unit(minutes, age):
    assert schedule_table._age(datetime.timedelta(minutes=minutes)) == age
