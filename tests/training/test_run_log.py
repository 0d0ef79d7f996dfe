"""What a run tells: figures by step, and progress where no terminal is."""

import json

from PIL import Image

from attngan.runtime import console
from attngan.training import run_log


def test_figures_go_on_from_those_of_an_earlier_run(tmp_path):
    log = run_log.RunLog(tmp_path, [])
    log.write(step=1, loss=0.5)
    log.close()
    again = run_log.RunLog(tmp_path, log.rows)
    again.write(step=2, loss=0.25)
    files = again.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    assert files[0] == "metrics.jsonl" and len([name for name in files if name.startswith("tensorboard/")]) == 1


def test_tensorboard_reads_the_events(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = run_log.RunLog(tmp_path, [{"step": 1, "loss": 0.5}])
    log.write(step=2, loss=0.25)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]


def test_progress_without_a_terminal_is_whole_lines_with_rate_and_note(capsys, monkeypatch):
    monkeypatch.setattr(console, "LINE_EVERY_SECONDS", 0.0)
    with console.progress("training", total=10, unit="images", start=4) as advance:
        advance(3, "loss 1.5")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("training: 7/10 images (70 %), ") and lines[0].endswith("loss 1.5")


def test_figures_that_went_wrong_are_forgotten_where_the_run_goes_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = run_log.RunLog(tmp_path, [])
    for step in (1, 2, 3):
        log.write(step=step, loss=0.5)
    log.restart(log.rows[:1])
    log.picture(1, "samples", Image.new("RGB", (4, 4)))
    log.write(step=2, loss=0.25)
    log.close()
    expected = [(1, 0.5), (2, 0.25)]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == expected
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == expected
    assert [image.step for image in events.Images("samples")] == [1]
