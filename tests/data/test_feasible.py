"""What a later step cannot do is said before the first one spends time, and small sets go through all steps."""

import json

import pytest
from PIL import Image
from small_sources import settings, write_cub
from typer.testing import CliRunner

from attngan import cli
from attngan.config import settings as configs
from attngan.data import feasible
from attngan.data.dataset import Dataset
from attngan.data.records import LEAST_TEST, Record, caption_labels, divide
from attngan.errors import InputError
from attngan.steps.evaluate import evaluate
from attngan.steps.preprocess import preprocess
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.steps.train_generator import train_generator

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange", "brown", "pink")


def write_folder(folder, count, *, caption="a {colour} thing, number {number}", same=False, classes=False):
    """Write pictures with a caption each, in a layout that names no split."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        colour = COLOURS[number % len(COLOURS)]
        picture = Image.new("RGB", (48, 48), "grey" if same else colour)
        picture.paste("white", (8 if same else 4 + number % 20, 10, 40, 20))
        picture.save(folder / f"{number}.png")
        line = {"file": f"{number}.png", "captions": [caption.format(colour=colour, number=number)]}
        lines.append(line | ({"class": "one"} if classes else {}))
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def smaller(smoke, *overrides):
    """Return the smoke settings for a few pictures."""
    return configs.load(configs.dump(smoke), overrides=["damsm.batch_size=4", "training.batch_size=4", *overrides])


@pytest.fixture(scope="module")
def few(smoke, tmp_path_factory):
    """Give the dataset of twenty pictures, and the settings for it."""
    folder, config = tmp_path_factory.mktemp("few"), smaller(smoke, "evaluate.num_candidates=100")
    preprocess(write_folder(folder / "pictures", 20), folder / "dataset", config, is_for_all=True)
    return folder / "dataset", config


def test_twenty_pictures_go_through_all_six_steps(few, tmp_path, capsys):
    dataset, config = few
    (tmp_path / "config.yaml").write_text(configs.dump(config))
    places = {name: str(tmp_path / name) for name in ("damsm", "generator", "metrics", "gallery", "bundle", "models")}
    places["dataset"] = str(dataset)
    steps = {
        "pretrain-damsm": ("dataset", "damsm"),
        "train-generator": ("dataset", "damsm", "generator"),
        "evaluate": ("dataset", "damsm", "generator", "metrics"),
        "export-samples": ("generator", "dataset", "damsm", "metrics", "gallery", "bundle"),
        "publish": ("bundle", "metrics", "models"),
    }
    last = {"pretrain-damsm": "out", "train-generator": "out", "evaluate": "out", "publish": "model-uri"}
    said = {}
    for command, names in steps.items():
        flags = [(last.get(command, name) if name == names[-1] else name, places[name]) for name in names]
        words = [text for flag, place in flags for text in (f"--{flag}", place)]
        ended = CliRunner().invoke(cli.app, [command, *words, "--config", str(tmp_path / "config.yaml")])
        assert ended.exit_code == 0, ended.output
        said[command] = ended.output
    for command in ("pretrain-damsm", "train-generator", "evaluate"):
        assert said[command].count("R-precision chooses among 8 captions, not among 100") == 1
    measured = json.loads((tmp_path / "metrics" / "metrics.json").read_text())
    assert len(Dataset.open(dataset, "test")) == LEAST_TEST
    assert measured["details"]["r_precision"]["candidates"] == measured["conditions"]["num_candidates"] == 8
    assert measured["conditions"]["kid_subset_size"] == 8
    assert any(name.startswith("kid_damsm") for name in measured["figures"])
    assert "each among 8 captions" in (tmp_path / "metrics" / "report.html").read_text()
    assert "(R-precision) among 8 captions" in (tmp_path / "generator" / "progress.html").read_text()


@pytest.mark.parametrize(
    ("options", "overrides", "said"),
    [
        ({}, ["damsm.batch_size=13"], r"12 training pictures are fewer than damsm\.batch_size 13; lower it"),
        ({}, ["training.batch_size=13"], r"12 training pictures are fewer than training\.batch_size 13"),
        ({"caption": "a thing"}, [], r"no wrong caption to choose among \(R-precision\); leave `class` out where"),
        ({"classes": True}, [], r"no wrong caption to choose among \(R-precision\); leave `class` out where"),
        ({"same": True}, [], "the 8 test pictures are all the same"),
    ],
)
def test_what_cannot_be_done_is_said_by_preprocess_and_stops_the_trainings_and_the_plan(
    options, overrides, said, smoke, tmp_path, capsys
):
    config = smaller(smoke, *overrides)
    source = write_folder(tmp_path / "pictures", 20, **options)
    preprocess(source, tmp_path / "dataset", config)
    assert "with this config a later step stops: " in capsys.readouterr().out
    steps = {
        "preprocess": lambda out: preprocess(source, out, config, is_for_all=True),
        "damsm": lambda out: pretrain_damsm(tmp_path / "dataset", out, config),
        "generator": lambda out: train_generator(tmp_path / "dataset", tmp_path / "nowhere", out, config),
    }
    for name, step in steps.items():
        with pytest.raises(InputError, match=said):
            step(tmp_path / name)
        assert not (tmp_path / name).exists()
    (tmp_path / "config.yaml").write_text(configs.dump(config))
    flags = ["--dataset", str(tmp_path / "dataset"), "--config", str(tmp_path / "config.yaml")]
    planned = CliRunner().invoke(cli.app, ["plan", *flags])
    assert planned.exit_code == 2 and len(planned.stderr.splitlines()) == 1


def test_a_config_of_a_higher_resolution_is_refused_with_the_one_to_give_before_anything_begins(few, tmp_path, capsys):
    dataset, config = few[0], smaller(few[1], "data.resolution=64")
    for step in (
        lambda: pretrain_damsm(dataset, tmp_path / "damsm", config),
        lambda: train_generator(dataset, tmp_path / "nowhere", tmp_path / "generator", config),
    ):
        with pytest.raises(InputError) as caught:
            step()
        assert str(caught.value) == (
            f"{dataset}: its pictures are stored for 32 pixels, 64 are asked for; give this step the settings of the "
            f"dataset, --config {dataset / 'config.yaml'}, or run preprocess again with data.resolution=64."
        )
    assert capsys.readouterr().out == ""


def test_a_split_too_small_for_any_figure_stops_before_a_picture_is_read(tmp_path, monkeypatch):
    from attngan.data import images

    monkeypatch.setattr(images, "prepare_all", lambda *_, **__: pytest.fail("a picture was read"))
    config = settings("damsm.batch_size=2", "training.batch_size=2")
    with pytest.raises(InputError, match="2 test pictures are fewer than the 4 that figures need"):
        preprocess(write_cub(tmp_path / "source"), tmp_path / "out", config, is_for_all=True)


def test_without_whole_sets_their_figures_are_left_out_and_that_is_said(few, damsm, smoke):
    config = few[1]
    sizes = feasible.Sizes(num_train=16, num_test=5, num_wrong=4, are_alike=False)
    assert feasible.problems(config, sizes) == []
    assert any("with 5 they are left out" in note for note in feasible.notes(config, sizes))
    large = feasible.Sizes(num_train=9000, num_test=3000, num_wrong=2900, are_alike=False)
    assert feasible.notes(configs.load(), large) == []


def test_evaluation_asks_for_no_batch_of_the_trainings(dataset, damsm, generator, smoke, tmp_path):
    config = configs.load(configs.dump(smoke), overrides=["training.batch_size=1000"])
    assert evaluate(dataset, damsm, generator, tmp_path / "metrics", config)


def test_candidates_that_there_are_not_are_not_asked_for(dataset, damsm, generator, smoke, tmp_path, capsys):
    config = configs.load(configs.dump(smoke), overrides=["evaluate.num_candidates=500"])
    evaluate(dataset, damsm, generator, tmp_path / "metrics", config)
    found = json.loads((tmp_path / "metrics" / "metrics.json").read_text())["details"]["r_precision"]["candidates"]
    assert 2 <= found <= 16
    assert f"R-precision chooses among {found} captions, not among 500" in capsys.readouterr().out


def record(number, split=None):
    return Record(f"{number}.png", None, None, None, split, ("a bird",))


@pytest.mark.parametrize("count", [4, 8, 16, 20, 60, 1000])
def test_a_small_set_without_splits_has_pictures_enough_to_test(count):
    divided = divide([record(number) for number in range(count)])
    assert len(divided["test"]) >= min(LEAST_TEST, count // 2)
    assert len(divided["train"]) + len(divided["test"]) == count and len(divided["train"]) >= count // 2
    again = divide([record(number) for number in reversed(range(count))])
    assert {each.name for each in again["test"]} == {each.name for each in divided["test"]}


def test_a_source_that_names_its_splits_keeps_them():
    records = [record(0, "test"), *(record(number, "train") for number in range(1, 30))]
    assert [each.name for each in divide(records)["test"]] == ["0.png"]


def test_labels_share_the_number_of_a_text():
    assert caption_labels([3, 4], [["b", "a"], ["a"]]) == [[(3, 1), (3, 0)], [(4, 0)]]


def test_a_figure_that_nothing_can_be_measured_by_is_left_out(few, damsm, capsys):
    import torch

    from attngan.evaluation.measures import MetricMaker
    from attngan.metrics.distribution import Rows

    flat = {"judge": Rows(torch.ones(8, 4))}
    maker = MetricMaker(few[1].evaluate, 0, {"real": flat, "pairs": {}})
    assert maker.changes("judge") == {}
    assert "sees no difference between test pictures" in capsys.readouterr().out
