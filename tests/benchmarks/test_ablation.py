"""`python -m benchmarks.ablation`: what its ways state, what it counts, and the command at its smallest size."""

import json
import multiprocessing
import time
from pathlib import Path

import pytest
import typer
from PIL import Image

from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.storage import artifacts
from attngan.training.schedule import of_generator
from benchmarks import ablation
from benchmarks.ablation import FURTHER, PARTS, WAYS, figures_of, schedule, steps_within, table

SMALL = [
    "damsm.batch_size=16",
    "watch.num_images=20",
    "evaluate.num_images=20",
    "evaluate.num_candidates=10",
    "evaluate.num_colour_captions=4",
    "evaluate.num_pairs=2",
    "evaluate.kid_subsets=4",
    "evaluate.num_resamples=4",
]


def stated(way):
    return dict(setting.split("=") for setting in WAYS[way])


def differing(way, other):
    return {name: value for name, value in stated(way).items() if stated(other)[name] != value}


def test_every_way_states_the_same_settings_and_none_twice():
    names = [setting.split("=")[0] for setting in WAYS["paper's"]]
    assert len(set(names)) == len(names)
    assert all([setting.split("=")[0] for setting in way] == names for way in WAYS.values())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("recipe", ["toy", "tiny"])
def test_every_way_is_settings_of_both_recipes(recipe, way):
    configs.load_file(Path(recipe), overrides=[*ablation.COMMON, *WAYS[way]])


@pytest.mark.parametrize("part", PARTS)
def test_a_part_alone_differs_in_that_part_and_beside_the_others_too(part):
    [other] = PARTS.keys() - {part}
    assert differing(f"+ {part}", "spectral norm") == differing("modern", f"+ {other}") == PARTS[part]


@pytest.mark.parametrize("part", FURTHER)
def test_what_is_left_out_stands_beside_all_that_is_not(part):
    assert differing(f"modern + {part}", "modern") == FURTHER[part]


def test_both_is_each_that_is_left_out_beside_the_other():
    one, other = "projected", "translation"
    assert differing("modern + both", f"modern + {one}") == FURTHER[other]
    assert differing("modern + both", f"modern + {other}") == FURTHER[one]


@pytest.mark.parametrize(("recipe", "way"), [("tiny", "modern"), ("toy", "modern + rates 0.004")])
def test_the_ways_are_the_recipes_that_are_shipped(recipe, way):
    assert configs.load_file(Path(recipe)) == configs.load_file(Path(recipe), overrides=WAYS[way])


@pytest.mark.parametrize(("seconds", "pace", "expected"), [(216, 0.04, 5400), (10, 3.0, 3), (1, 3.0, 1)])
def test_steps_are_those_that_fit_into_the_time(seconds, pace, expected):
    assert steps_within(seconds, pace) == expected


@pytest.mark.parametrize(("steps", "expected"), [(5400, 5), (5003, 5), (10, 5), (3, 3)])
def test_a_training_is_looked_at_five_times(steps, expected):
    config = configs.load_file(Path("toy"), overrides=schedule(steps, 2571 // 8))
    assert (of_generator(config, 2571).total, of_generator(config, 2571).num_looks) == (steps, expected)


def test_figures_are_those_of_generated_pictures_with_their_intervals():
    def figure(value, features=""):
        return {"value": value, "low": value - 1, "high": value + 1, "generated": 1000, "features": features}

    damsm, pretrained = "damsm-5a00e006", "mobilenet-v2-b0353104"
    details = {
        "r_precision": figure(3, damsm),
        "r_precision_real": figure(9, damsm),
        "r_precision_second_judge": figure(9, "damsm-11111111"),
        "wing_colour": figure(4),
        "wing_colour_shuffled": figure(9),
        f"kid_{damsm}": figure(5, damsm),
        f"kid_{pretrained}": figure(6, pretrained),
        f"kid_{pretrained}_noise": figure(9, pretrained),
        "near_copies_pixels": figure(7, "pixels"),
        f"diversity_{damsm}": figure(9, damsm),
    }
    found = {"r_precision": 3, "wing_colour": 4, "kid_damsm": 5, "kid_mobilenet": 6, "near_copies_pixels": 7}
    assert figures_of(details) == {
        name: {"value": value, "low": value - 1, "high": value + 1} for name, value in found.items()
    }


def test_the_table_has_means_of_seeds_between_the_lowest_and_the_highest():
    def row(way, seed, *values):
        figures = {name: {"value": each} for name, each in zip(("r_precision", "kid_damsm"), values)}
        return {"way": way, "seed": seed, "steps": 1000 + seed, "seconds": 20.0, "figures": figures}

    rows = [row("b", 0, 0.5, 0.25), row("a", 0, 0.25, 1.0), row("a", 2, 0.75, 2.0)]
    failed = [{"way": "a", "seed": 1, "failed": "a loss"}, {"way": "c", "seed": 0, "failed": "a loss"}]
    assert table([*rows, *failed], ["a", "b", "c"]).replace("\u00a0", " ").splitlines() == [
        "| mean of its seeds (lowest to highest) | seeds | steps | seconds | r precision | kid damsm |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a | 2 | 1,001 | 20 | 50.0 % (25.0 % to 75.0 %) | 1.5 (1 to 2) |",
        "| b | 1 | 1,000 | 20 | 50.0 % | 0.25 |",
        "| c | 0 |  |  |  |  |",
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"only": "modern, postmodern"}, "postmodern: expected some of paper's,"),
        ({"eyes": Path("no-such.pth")}, "no-such.pth"),
        ({"source": Path("no-such-folder")}, "no-such-folder"),
        ({"captions": Path("texts")}, "--captions: expected with --source"),
        ({"sheet": Path()}, r"--sheet: \. is a folder; expected a file's name"),
        ({"out": Path()}, r"--out: \. is a folder; expected a file's name"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(tmp_path, given, sentence):
    with pytest.raises((InputError, typer.BadParameter), match=sentence):
        ablation.main(**{"folder": tmp_path, "out": tmp_path / "a.json", **given})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_is_not_taken(tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(InputError, match="holds other things, which might be lost"):
        ablation.main(folder=tmp_path, out=tmp_path / "a.json")
    assert [each.name for each in tmp_path.iterdir()] == ["thesis"]


def test_a_way_that_states_something_else_now_is_not_gone_on_with(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ablation, "_prepare", stop)
    for expected in (KeyboardInterrupt, InputError):
        with pytest.raises(expected):
            ablation.main(only="modern", folder=tmp_path, out=tmp_path / "a.json")
        monkeypatch.setitem(WAYS, "modern", WAYS["spectral norm"])


def test_a_training_that_cannot_go_on_is_a_finding_and_a_bug_is_none(tmp_path, monkeypatch):
    errors = [InputError("a loss is not finite"), RuntimeError("a bug")]
    monkeypatch.setattr(ablation, "_done", lambda jobs, work, tasks: zip(tasks, errors))
    rows = ablation._rows(tmp_path, {("modern", 0): None, ("modern", 1): None}, {"modern": 0.5}, 1)
    assert next(rows) == {"way": "modern", "seed": 0, "pace": 0.5, "failed": "a loss is not finite"}
    with pytest.raises(RuntimeError, match="a bug"):
        next(rows)


def test_an_interruption_ends_what_runs_and_begins_nothing_more():
    done = ablation._done(2, time.sleep, [(0.01,), (600,), (600,), (600,)])
    assert next(done) == ((0.01,), None)
    with pytest.raises(KeyboardInterrupt):
        done.throw(KeyboardInterrupt)
    assert multiprocessing.active_children() == []


def test_a_way_that_comes_later_is_measured_beside_as_many_others_as_the_first_ones(tmp_path, monkeypatch):
    measured = []

    def done(jobs, work, tasks):
        assert (jobs, work) == (2, ablation.measure_pace)
        for place, way, number, _, lasting in tasks:
            assert lasting == 1
            measured.append((way, number))
            (place / way).mkdir(exist_ok=True)
            artifacts.write_json(ablation._pace(place, way, number), len(measured))
        yield from ((task, None) for task in tasks)

    monkeypatch.setattr(ablation, "_done", done)
    assert ablation._paces(tmp_path, {"modern": None}, 2, 1) == {"modern": 1.5}
    assert ablation._paces(tmp_path, {"modern": None, "paper's": None}, 2, 1) == {"modern": 1.5, "paper's": 3.5}
    assert measured == [("modern", 0), ("modern", 1), ("paper's", 0), ("paper's", 1)]


@pytest.mark.slow
def test_two_ways_are_trained_in_equal_time_and_not_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablation, "COMMON", [*ablation.COMMON, *SMALL])
    folder, out, sheet = tmp_path / "kept", tmp_path / "new" / "a.json", tmp_path / "sheet" / "s.png"
    given = {"seeds": 1, "seconds": 1, "birds": 112, "damsm_steps": 2, "folder": folder, "out": out}
    ablation.main(only="attn-DCGAN", **given)
    made = (folder / "attn-DCGAN" / "generator-0" / artifacts.MANIFEST).stat().st_mtime_ns
    ablation.main(only="attn-DCGAN, paper's", sheet=sheet, **given)
    assert (folder / "attn-DCGAN" / "generator-0" / artifacts.MANIFEST).stat().st_mtime_ns == made

    report = json.loads(out.read_text())
    assert report["threads"] == 1  # of each of two trainings
    assert report["ways"] == {way: WAYS[way] for way in ("attn-DCGAN", "paper's")} and report["torch"]
    assert [(row["way"], row["seed"]) for row in report["rows"]] == [("attn-DCGAN", 0), ("paper's", 0)]
    for row in report["rows"]:
        assert row["steps"] == steps_within(1, row["pace"]) and row["seconds"] > 0
        assert {"r_precision", "body_colour", "kid_damsm", "recall_damsm", "near_copies_pixels"} <= set(row["figures"])
        assert all(each["low"] <= each["high"] for each in row["figures"].values())
    assert "| paper's | 1 |" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert picture.width > ablation.NUM_CAPTIONS * 128 and "captions" in picture.text
