"""An output never costs what was there: over every command that writes one, and every way to come too near an input."""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attngan import cli
from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.steps.preprocess import preprocess
from attngan.storage import artifacts, places, result_folder
from attngan.storage.result_folder import UNFINISHED, result


@pytest.fixture(scope="module")
def world(birds, dataset, damsm, generator, metrics, bundle, tmp_path_factory):
    """Give copies of everything that steps read, each in a folder of its own."""
    root = tmp_path_factory.mktemp("world")
    made = {"birds": birds, "dataset": dataset, "damsm": damsm, "generator": generator, "metrics": metrics}
    for name, folder in {**made, "bundle": bundle}.items():
        shutil.copytree(folder, root / name / name)
    shutil.copytree(root / "birds" / "birds" / "text", root / "captions" / "captions")
    (root / "words").mkdir()
    shutil.copy(dataset / "vocabulary.json", root / "words" / "words")
    return root


# command -> its inputs, and its outputs, by flag; "" for an argument
COMMANDS = {
    "preprocess": ({"source": "birds", "captions": "captions", "vocabulary": "words"}, ["out"]),
    "pretrain-damsm": ({"dataset": "dataset"}, ["out"]),
    "train-generator": ({"dataset": "dataset", "damsm": "damsm"}, ["out"]),
    "evaluate": ({"dataset": "dataset", "damsm": "damsm", "generator": "generator"}, ["out"]),
    "export-samples": (
        {"generator": "generator", "dataset": "dataset", "damsm": "damsm", "metrics": "metrics"},
        ["gallery", "bundle"],
    ),
    "export-onnx": ({"": "bundle"}, ["out"]),
    "generate": ({"": "bundle"}, ["out"]),
    "publish": ({"bundle": "bundle", "metrics": "metrics"}, ["model-uri"]),
}
HAS_CONFIG = {"preprocess", "pretrain-damsm", "train-generator", "evaluate", "export-samples", "publish"}


def place_of(relation: str, given: Path, scratch: Path) -> Path:
    """Return an output that comes too near an input."""
    if relation == "lies inside":
        return given / "deeper"
    if relation == "holds":
        return given.parent
    if relation == "is, behind a link,":
        (scratch / "link").symlink_to(given)
        return scratch / "link"
    if relation == "lies inside, behind a link,":
        (scratch / "link").symlink_to(given if given.is_dir() else given.parent)
        return scratch / "link" / "deeper" / "still"
    return given


def near_inputs():
    relations = ("is", "lies inside", "holds", "is, behind a link,", "lies inside, behind a link,")
    for command, (inputs, outputs) in COMMANDS.items():
        yield from itertools.product([command], outputs, inputs, relations)


@pytest.mark.parametrize(("command", "output", "flag", "relation"), list(near_inputs()))
def test_an_output_that_comes_too_near_an_input_is_refused_before_anything_is_written(
    command, output, flag, relation, world, tmp_path
):
    inputs, outputs = COMMANDS[command]
    near = world / inputs[flag] / inputs[flag]
    if near.is_file() and "inside" in relation:
        relation = "holds"  # nothing lies inside a file
    chosen = {name: str(tmp_path / name) for name in outputs} | {output: str(place_of(relation, near, tmp_path))}
    arguments = [command]
    for name, folder in inputs.items():
        arguments += [f"--{name}", str(world / folder / folder)] if name else [str(world / folder / folder)]
    arguments += ["a red bird"] if command == "generate" else []
    arguments += [text for name, place in chosen.items() for text in (f"--{name}", place)]
    arguments += ["--config", "smoke"] if command in HAS_CONFIG else []
    before = places.fingerprint(str(world))
    ended = CliRunner().invoke(cli.app, arguments)
    assert ended.exit_code == 2, ended.output
    assert len(ended.stderr.splitlines()) == 1
    assert " the input " in ended.stderr or "expected a folder for the result, found a file" in ended.stderr
    assert places.fingerprint(str(world)) == before
    assert not [path for path in tmp_path.iterdir() if path.name != "link"]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("x", "x", "two results would lie in this folder"),
        ("x", "x/bundle", "the output"),
        ("x/gallery", "x", "the output"),
    ],
)
def test_two_outputs_of_a_step_are_two_folders(one, other, said, world, tmp_path):
    flags = ["--generator", str(world / "generator" / "generator"), "--config", "smoke"]
    outputs = ["--gallery", str(tmp_path / one), "--bundle", str(tmp_path / other)]
    ended = CliRunner().invoke(cli.app, ["export-samples", *flags, *outputs])
    assert ended.exit_code == 2 and said in ended.stderr and not list(tmp_path.iterdir())


def test_the_captions_that_lie_beside_a_source_are_an_input_too(world, tmp_path):
    shutil.copytree(world / "birds" / "birds", tmp_path / "source" / "CUB")
    (tmp_path / "source" / "CUB" / "text").rename(tmp_path / "source" / "text")
    places = ["--source", str(tmp_path / "source" / "CUB"), "--out", str(tmp_path / "source" / "text")]
    ended = CliRunner().invoke(cli.app, ["preprocess", *places, "--config", "smoke"])
    assert ended.exit_code == 2 and "is the input" in ended.stderr
    assert not list((tmp_path / "source" / "text").glob("*.json"))


def write(draft: Path, *, files: dict[str, str]) -> None:
    for name, text in files.items():
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_text(text)
    artifacts.finish(draft, "generator", list(files))


FIRST = {"config.yaml": "first", "samples/step-0000001.png": "1", "tensorboard/events.one": "1"}
SECOND = {"config.yaml": "second", "film.webp": "film", "tensorboard/events.two": "2"}


def make(folder: Path, files: dict[str, str], **options: bool) -> None:
    with result(folder, "generator", inputs=[], **options) as draft:
        write(draft, files=files)


def contents(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in places.names(str(folder)) if name != "manifest.json"}


def test_a_new_result_takes_the_place_of_an_earlier_one_and_foreign_files_stay(tmp_path):
    folder = tmp_path / "out"
    make(folder, FIRST)
    assert contents(folder) == FIRST
    foreign = {"notes.txt": "mine", "samples/holiday.png": "mine", "tensorboard/events.mine": "mine"}
    for name, text in foreign.items():
        (folder / name).write_text(text)
    (folder / "tensorboard" / "events.mine").rename(folder / "tensorboard" / "my.events")
    foreign["tensorboard/my.events"] = foreign.pop("tensorboard/events.mine")
    make(folder, SECOND)
    assert contents(folder) == SECOND | foreign
    artifacts.check(folder, "generator", contents=True)


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "tensorboard/events.out", "samples/step-0000007.png", "manifest.json", "unfinished/mine.txt"],
)
def test_what_stands_in_the_way_is_named_and_kept(name, tmp_path):
    folder = tmp_path / "out"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("mine")
    with pytest.raises(InputError, match="stands in the way of the result") as caught:
        make(folder, FIRST)
    assert name.split("/")[0] in str(caught.value)
    assert {each: (folder / each).read_text() for each in places.names(str(folder))} == {name: "mine"}


def test_a_folder_in_the_place_of_a_file_and_a_link_in_that_of_a_folder_are_named_too(tmp_path):
    (tmp_path / "one" / "config.yaml").mkdir(parents=True)
    with pytest.raises(InputError, match=r"config\.yaml: stands in the way"):
        make(tmp_path / "one", FIRST)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "samples").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="samples: stands in the way"):
        make(tmp_path / "two", FIRST)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_complete_folder_of_another_kind_is_not_turned_into_this_one(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "bundle")
    before = places.fingerprint(str(tmp_path))
    with pytest.raises(InputError, match="expected a place for the generator, found a complete bundle folder"):
        make(tmp_path / "bundle", FIRST)
    assert places.fingerprint(str(tmp_path)) == before


def fail_half_way(folder: Path, **options: bool) -> None:
    with result(folder, "generator", inputs=[], **options) as draft:
        (draft / "progress.html").write_text("half")
        raise ZeroDivisionError


@pytest.mark.parametrize("is_watched", [False, True])
def test_a_result_that_fails_leaves_the_earlier_one_whole(is_watched, tmp_path):
    folder = tmp_path / "out"
    make(folder, FIRST)
    with pytest.raises(ZeroDivisionError):
        fail_half_way(folder, is_watched=is_watched)
    artifacts.check(folder, "generator", contents=True)
    assert (folder / UNFINISHED / "progress.html").exists() == is_watched
    make(folder, SECOND)
    assert contents(folder) == SECOND


def test_a_result_that_fails_leaves_no_folder_where_there_was_none(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail_half_way(tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("moves", range(5))
def test_what_a_kill_leaves_while_a_result_takes_its_place_is_put_right_by_the_next_run(moves, tmp_path, monkeypatch):
    folder, replace, made = tmp_path / "out", os.replace, []
    make(folder, FIRST)

    def killed(one, other):
        if len(made) == moves:
            raise SystemExit("as if killed")
        made.append(one)
        replace(one, other)

    def make_and_be_killed():
        with result(folder, "generator", inputs=[]) as draft:
            write(draft, files=SECOND)
            monkeypatch.setattr(os, "replace", killed)

    with pytest.raises(SystemExit):
        make_and_be_killed()
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(ZeroDivisionError):
        fail_half_way(folder)
    artifacts.check(folder, "generator", contents=True)
    assert contents(folder) == SECOND


def test_two_processes_do_not_make_a_result_in_one_folder(tmp_path):
    folder = tmp_path / "out"
    (folder / UNFINISHED).mkdir(parents=True)
    with (folder / UNFINISHED / result_folder.MARK).open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is making a result there"):
            make(folder, FIRST)
    make(folder, FIRST)
    assert contents(folder) == FIRST


def test_a_step_that_fails_leaves_its_earlier_result(birds, dataset, damsm, generator, smoke, tmp_path):
    """A broken picture too many, weights that are missing, a batch that does not fit."""
    from attngan.steps.evaluate import evaluate
    from attngan.steps.pretrain_damsm import pretrain_damsm
    from attngan.steps.train_generator import train_generator

    shutil.copytree(birds, tmp_path / "birds")
    for path in sorted((tmp_path / "birds" / "images").rglob("*.jpg"))[:20]:
        path.write_text("broken")
    weights = configs.load(configs.dump(smoke), overrides=["evaluate.clip.uri=nowhere"])
    large = {"batch_size": 5000}
    encoders = smoke.model_copy(update={"damsm": smoke.damsm.model_copy(update=large)})
    networks = smoke.model_copy(update={"training": smoke.training.model_copy(update=large)})
    again = {
        "dataset": lambda out: preprocess(tmp_path / "birds", out, smoke),
        "damsm": lambda out: pretrain_damsm(dataset, out, encoders),
        "generator": lambda out: train_generator(dataset, damsm, out, networks),
        "metrics": lambda out: evaluate(dataset, damsm, generator, out, weights),
    }
    for kind, step in again.items():
        out = tmp_path / kind
        out.mkdir()
        (out / "content").write_text("earlier")
        artifacts.finish(out, kind, ["content"], figures={}, generator="g")
        before = places.fingerprint(str(out))
        with pytest.raises(InputError):
            step(out)
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        assert places.fingerprint(str(out)) == before, kind


def test_what_steps_write_is_what_their_folders_are_said_to_hold(dataset, damsm, generator, metrics, exported):
    folders = {"dataset": dataset, "damsm": damsm, "generator": generator, "metrics": metrics}
    for kind, folder in {**folders, "gallery": exported[0], "bundle": exported[1]}.items():
        for name in artifacts.check(folder, kind)["files"]:
            assert result_folder.in_the_way([name], kind, own=[]) == name, f"{kind}: {name}"
        assert not (folder / UNFINISHED).exists()


@pytest.mark.slow
def test_a_training_that_was_killed_leaves_its_page_where_it_is_made(dataset, smoke, tmp_path):
    """Ended from outside at its first save, a training leaves its page and figures for those who watch."""
    code = (
        "import os, sys; from pathlib import Path; from attngan.config import settings\n"
        "from attngan.steps import pretrain_damsm; from attngan.training import states\n"
        "save = states.StateStore.save\n"
        "def die(self, step, *a, **k):\n"
        "    save(self, step, *a, **k)\n"
        "    if step: os._exit(9)\n"
        "states.StateStore.save = die\n"
        "pretrain_damsm.pretrain_damsm(Path(sys.argv[1]), Path(sys.argv[2]), settings.load_file(Path('smoke')))\n"
    )
    out = tmp_path / "damsm"
    ended = subprocess.run([sys.executable, "-c", code, str(dataset), str(out)], capture_output=True, text=True)
    assert ended.returncode == 9, ended.stderr
    rows = (out / UNFINISHED / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["step"] > 0
    assert not (out / "manifest.json").exists()


@pytest.mark.parametrize(
    "name", ["../../victim/file.txt", "/{place}/victim/file.txt", "a\0b", "a/../../../victim/file.txt", ""]
)
def test_a_manifest_that_names_files_elsewhere_is_refused_and_they_stay(name, tmp_path):
    folder, victim = tmp_path / "runs" / "out", tmp_path / "victim" / "file.txt"
    make(folder, FIRST)
    victim.parent.mkdir()
    victim.write_text("precious")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name.format(place=str(tmp_path).strip("/"))] = {"bytes": 8, "sha256": ""}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="stands in the way"):
        make(folder, SECOND)
    with pytest.raises(InputError, match="expected a manifest of attngan"):
        artifacts.check(folder, "generator")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_the_place_of_the_mark_costs_nothing(link, tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "out" / UNFINISHED).mkdir(parents=True)
    link(tmp_path / "mine", tmp_path / "out" / UNFINISHED / result_folder.MARK)
    with contextlib.suppress(InputError):  # a link to a file is somebody else's; the file by another name may be ours
        make(tmp_path / "out", FIRST)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_link_in_the_place_of_a_pointers_lock_costs_nothing(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / places.LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        places.write(str(tmp_path / "latest.json"), b"{}", generation=0)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_folder_in_the_place_of_a_file_of_the_earlier_result_is_named_before_anything_moves(tmp_path):
    folder = tmp_path / "out"
    make(folder, FIRST)
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").mkdir()
    (folder / "config.yaml" / "mine").write_text("mine")
    before = places.fingerprint(str(folder))
    with pytest.raises(InputError, match=r"config\.yaml: stands in the way"):
        make(folder, {"film.webp": "film"})
    assert places.fingerprint(str(folder)) == before


def test_a_mark_that_was_removed_while_it_was_waited_for_is_not_taken_for_ours(tmp_path, monkeypatch):
    folder, flock, others = tmp_path / "out", fcntl.flock, []

    def overtaken(mark, how):
        if not others:  # the one that held it has ended, and another one has begun
            others.append(mark)
            (folder / UNFINISHED / result_folder.MARK).unlink()
            (folder / UNFINISHED / result_folder.MARK).touch()
        flock(mark, how)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    with result(folder, "generator", inputs=[]) as draft:
        with (draft / result_folder.MARK).open() as mark, pytest.raises(BlockingIOError):
            flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write(draft, files=FIRST)
    assert contents(folder) == FIRST


def test_only_gs_is_cloud_storage_whatever_else_has_a_colon(bundle, metrics, tmp_path, monkeypatch):
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "x:").mkdir()
    monkeypatch.chdir(tmp_path)
    flags = ["--bundle", "bundle", "--metrics", str(metrics), "--model-uri", "x://../bundle", "--config", "smoke"]
    ended = CliRunner().invoke(cli.app, ["publish", *flags])
    assert ended.exit_code == 2 and "is the input" in ended.stderr
    assert not (tmp_path / "bundle" / "champion.json").exists()


def test_a_name_with_several_lines_is_one_line_of_every_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command, (inputs, outputs) in COMMANDS.items():
        arguments = [text for name in inputs for text in ([f"--{name}"] if name else []) + ["no\nsuch"]]
        arguments += ["a red bird"] if command == "generate" else []
        arguments += [text for name in outputs for text in (f"--{name}", f"{name}-out")]
        ended = CliRunner().invoke(cli.app, [command, *arguments])
        assert ended.exit_code == 2 and len(ended.stderr.splitlines()) == 1, ended.stderr


def test_an_output_without_a_name_is_refused(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--source", str(world / "birds" / "birds"), "--out", "", "--config", "smoke"]
    assert CliRunner().invoke(cli.app, ["preprocess", *flags]).exit_code == 2
    assert not list(tmp_path.iterdir())
