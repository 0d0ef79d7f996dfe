"""Where a step's inputs come from: cloud storage, downloaded once, and what a cluster run left there."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("kfp")

import pipeline
from attngan.errors import InputError
from attngan.storage import delivery, json_text, places
from components.local import inputs


@pytest.fixture
def fetches(monkeypatch) -> list[str]:
    """Record the URIs that are downloaded."""
    fetched: list[str] = []
    fetch = places.fetch

    def recorded(uri: str, into: Path) -> Path:
        fetched.append(uri)
        return fetch(uri, into)

    monkeypatch.setattr(places, "fetch", recorded)
    return fetched


def test_an_input_is_downloaded_once_and_again_when_it_changed(bucket, fetches, tmp_path):
    bucket.blob("run/dataset/words.txt").upload_from_string("a red bird")
    first = inputs.local("gs://pictures/run/dataset", tmp_path)
    assert first.is_relative_to(tmp_path / "gs" / "pictures" / "run" / "dataset") and first.name == "dataset"
    assert inputs.local("gs://pictures/run/dataset/", tmp_path) == first
    assert len(fetches) == 1
    bucket.blob("run/dataset/words.txt").upload_from_string("a blue bird")
    second = inputs.local("gs://pictures/run/dataset", tmp_path)
    assert (first / "words.txt").read_text(encoding="utf-8") == "a red bird", "a container may be reading it"
    assert (second / "words.txt").read_text(encoding="utf-8") == "a blue bird"
    bucket.blob("run/dataset/more.txt").upload_from_string("one more")
    assert {path.name for path in inputs.local("gs://pictures/run/dataset", tmp_path).iterdir()} == {
        "words.txt",
        "more.txt",
    }


def test_a_file_keeps_its_name_and_a_folder_inside_another_has_its_own_place(bucket, tmp_path):
    bucket.blob("run/birds.tgz").upload_from_string("an archive")
    bucket.blob("run/dataset/words.txt").upload_from_string("a red bird")
    assert inputs.local("gs://pictures/run/birds.tgz", tmp_path).name == "birds.tgz"
    inner = inputs.local("gs://pictures/run/dataset", tmp_path)
    outer = inputs.local("gs://pictures/run", tmp_path)
    assert (outer / "dataset" / "words.txt").is_file() and (inner / "words.txt").is_file()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, InputError])
def test_an_interrupted_download_leaves_nothing_that_looks_complete(bucket, tmp_path, monkeypatch, stop):
    bucket.blob("run/dataset/words.txt").upload_from_string("a red bird")
    fetch = places.fetch

    def interrupted(uri: str, into: Path) -> Path:
        fetch(uri, into)
        raise stop

    monkeypatch.setattr(places, "fetch", interrupted)
    with pytest.raises(stop):
        inputs.local("gs://pictures/run/dataset", tmp_path / "cache")
    monkeypatch.setattr(places, "fetch", fetch)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert (inputs.local("gs://pictures/run/dataset", tmp_path / "cache") / "words.txt").is_file()


def test_an_input_that_changes_while_it_is_downloaded_is_refused(bucket, tmp_path, monkeypatch):
    bucket.blob("run/dataset/words.txt").upload_from_string("a red bird")
    fetch = places.fetch

    def overtaken(uri: str, into: Path) -> Path:
        bucket.blob("run/dataset/words.txt").upload_from_string("a blue bird")
        return fetch(uri, into)

    monkeypatch.setattr(places, "fetch", overtaken)
    with pytest.raises(InputError, match="changed while it was downloaded"):
        inputs.local("gs://pictures/run/dataset", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_two_commands_that_download_the_same_both_get_it(bucket, tmp_path, monkeypatch):
    bucket.blob("run/dataset/words.txt").upload_from_string("a red bird")
    fetch = places.fetch

    def slower(uri: str, into: Path) -> Path:
        monkeypatch.setattr(places, "fetch", fetch)
        inputs.local(uri, tmp_path)  # the other command, which ends first
        return fetch(uri, into)

    monkeypatch.setattr(places, "fetch", slower)
    place = inputs.local("gs://pictures/run/dataset", tmp_path)
    assert (place / "words.txt").is_file()
    assert list(tmp_path.glob(".part-*")) == []


def test_the_cache_is_where_the_system_keeps_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert inputs.default_cache() == tmp_path / "attngan"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert inputs.default_cache() == tmp_path / ".cache" / "attngan"


def leave(bucket, name: str, content: str, *, complete: bool = True) -> None:
    """Put an output of a cluster run into the bucket."""
    for file in ["content", *(["manifest.json"] if complete else [])]:
        bucket.blob(f"root/attngan/{name}/{file}").upload_from_string(content)


def test_a_clusters_run_gives_the_newest_complete_outputs(bucket):
    leave(bucket, "run-1/preprocess/a-first/dataset", "first")
    leave(bucket, "run-1/preprocess/b-retried/dataset", "second")
    leave(bucket, "run-1/preprocess/c-killed/dataset", "third", complete=False)
    leave(bucket, "run-1/train-generator/u/generator", "gan")
    leave(bucket, "run-1/train-generator/u/progress", "a page")
    leave(bucket, "run-2/evaluate/u/metrics", "of another run")
    assert inputs.of_run("run-1", "gs://pictures/root/", ["dataset", "generator", "metrics", "captions"]) == {
        "dataset": "gs://pictures/root/attngan/run-1/preprocess/b-retried/dataset",
        "generator": "gs://pictures/root/attngan/run-1/train-generator/u/generator",
    }


def test_for_a_run_that_is_not_there_the_others_are_not_listed(bucket, monkeypatch):
    """A root holds the objects of all runs there ever were."""
    leave(bucket, "run-1/preprocess/u/dataset", "x")
    listed, names = [], places.names
    monkeypatch.setattr(places, "names", lambda uri: (listed.append(uri), names(uri))[1])
    with pytest.raises(InputError, match=r"nothing is at gs://pictures/root/attngan/run-3; give the ID"):
        inputs.of_run("run-3", "gs://pictures/root/", ["dataset"])
    assert listed == ["gs://pictures/root/attngan/run-3"]


def test_each_input_that_a_step_leaves_is_known_with_its_task():
    made = {
        "dataset": "preprocess",
        "damsm": "pretrain-damsm",
        "generator": "train-generator",
        "metrics": "evaluate",
        "bundle": "export-samples",
    }
    assert {name: inputs.producers()[name] for name in made} == made


def step(*arguments: object):
    return CliRunner().invoke(pipeline.app, ["step", *map(str, arguments)])


def test_a_step_is_run_again_with_what_a_clusters_run_left(bucket, dataset, damsm, generator, metrics, tmp_path):
    root = "gs://pictures/root/attngan/run-1"
    delivery.deliver(dataset, f"{root}/preprocess/u1/dataset")
    delivery.deliver(damsm, f"{root}/pretrain-damsm/u2/damsm")
    delivery.deliver(generator, f"{root}/train-generator/u3/generator")
    run = ["--from-run", "run-1", "--pipeline-root", "gs://pictures/root", "--cache", tmp_path / "cache"]
    result = step("evaluate", *run, "--out", tmp_path / "metrics", "--config", "smoke")
    assert result.exit_code == 0, result.stderr
    made = [json_text.read(folder / "manifest.json") for folder in (tmp_path / "metrics", metrics)]
    assert made[0]["fingerprint"] == made[1]["fingerprint"]
    printed = step("evaluate", *run, "--input", f"damsm={damsm}", "--out", tmp_path / "m", "--dry-run").stdout
    flags = shlex.split(printed.splitlines()[0])
    assert flags[flags.index("--damsm") + 1] == str(damsm), "what is given goes before what the run left"
    incomplete = step("publish", *run, "--out", tmp_path / "models")
    assert incomplete.exit_code == 2 and "expected --input bundle=PATH --input metrics=PATH" in incomplete.stderr
