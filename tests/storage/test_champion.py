"""The model folder: damaged files are one sentence, the champion can be opened, the newer decision wins."""

import datetime
import json
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import buckets
import pytest
from candidates import candidate, champion

from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.steps.detect_changes import detect_changes
from attngan.steps.publish import publish, restore_previous
from attngan.storage import champion as module
from attngan.storage import places, uris
from attngan.storage.champion import ModelFolder, origin

CONFIG = configs.load()
ENTRY = {"model": "models/0123456789abcdef", "fingerprint": "0" * 64, "figures": {"r_precision": 0.5}}
POINTER = {"champion": ENTRY, "previous": None}


def as_json(value):
    return json.dumps(value).encode()


def changed(**changes):
    return as_json({"champion": {**ENTRY, **changes}, "previous": None})


DAMAGED = {
    "empty": b"",
    "cut off": as_json(POINTER)[:-20],
    "a list": b"[]",
    "no champion": b'{"previous": null}',
    "null": b'{"champion": null, "previous": null}',
    "a text": b'{"champion": "models/1", "previous": null}',
    "nested": b"[" * 3000,
    "digits": b'{"champion": ' + b"1" * 5000 + b"}",
    "not a number": changed(figures={"r_precision": float("nan")}),
    "a text as a figure": changed(figures={"r_precision": "0.5"}),
    "null as a figure": changed(figures={"r_precision": None}),
    "no figures": changed(figures=[]),
    "out of the folder": changed(model="../other/models/0123"),
    "half out of the folder": changed(model="models/../../0123"),
    "a stamp that is no time": as_json({**POINTER, "stamp": "20261399T000000.000000Z"}),
    "a stamp at the end of time": as_json({**POINTER, "stamp": "99991231T235959.999999Z"}),
}


@pytest.fixture
def models(root):
    """Give a model folder that does not exist yet."""
    return root


@pytest.fixture
def source(tmp_path):
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "one.txt").write_text("a red bird")
    return str(tmp_path / "birds")


def test_a_damaged_champion_json_is_one_sentence_of_every_step_and_never_the_first_model(tmp_path, source, models):
    first = candidate(tmp_path, "first", 0.5)
    pointer = uris.join(models, "champion.json")
    for name, content in DAMAGED.items():
        places.write(pointer, content, generation=places.read(pointer)[1])
        for attempt in (
            lambda: publish(*first, models, CONFIG, force=True),
            lambda: restore_previous(models),
            lambda: detect_changes([source, "", ""], models, CONFIG),
        ):
            with pytest.raises(InputError) as caught:
                attempt()
            sentence = str(caught.value)
            assert sentence.startswith(f"{pointer}: expected ") and len(sentence.splitlines()) == 1, name
            assert "restore the file from an older version, or remove it" in sentence
        assert places.read(pointer)[0] == content
    places.remove(pointer)
    assert publish(*first, models, CONFIG)["promoted"] and champion(models) == "first"


def test_a_damaged_decision_is_one_sentence_that_names_its_file(source, models):
    ModelFolder(models).remember(
        {"promoted": True, "reason": "", "origin": origin(places.fingerprint(source, "", ""), CONFIG)}
    )
    (name,) = ModelFolder(models).decisions()
    uri = uris.join(models, "history", name)
    for content in (b"", b"{", b"[]", b'{"promoted": 1}', b'{"time": "", "promoted": true}', b"[" * 3000):
        places.write(uri, content, generation=places.read(uri)[1])
        for config in (CONFIG, configs.load("seed: 2")):  # the decision on this model, and the last one
            with pytest.raises(InputError, match=r"expected .*, found .*; restore the file .*, or remove it") as caught:
                detect_changes([source, "", ""], models, config)
            assert str(caught.value).startswith(uri)
    places.remove(uri)
    assert detect_changes([source, "", ""], models, CONFIG)["retrain"]


def test_a_decision_under_the_name_of_another_is_refused_and_files_of_others_are_passed_over(models):
    made_from = origin("pictures", CONFIG)
    ModelFolder(models).remember({"promoted": True, "reason": "", "origin": made_from})
    (name,) = ModelFolder(models).decisions()
    for foreign in ("notes.json", "99999999T000000.000000Z-unknown.json", f"old/{name}"):
        places.write(uris.join(models, "history", foreign), b"[]", generation=0)
    assert ModelFolder(models).decisions() == [name]
    uri = uris.join(models, "history", name)
    record = {**json.loads(places.read(uri)[0]), "origin": origin("others", CONFIG)}
    places.write(uri, as_json(record), generation=places.read(uri)[1])
    with pytest.raises(InputError, match="found another origin"):
        ModelFolder(models).find(made_from)


def test_that_nothing_was_new_is_no_decision_on_a_model_and_has_its_place_in_time(models, monkeypatch):
    set_clock(monkeypatch, 0)
    made_from = origin("pictures", CONFIG)
    ModelFolder(models).remember({"promoted": True, "reason": "first", "origin": made_from})
    ModelFolder(models).remember_unchanged(made_from, "nothing to train")
    ModelFolder(models).remember({"promoted": False, "reason": "second", "origin": made_from})
    folder = ModelFolder(models)
    first, unchanged, second = folder.history()
    assert folder.decisions() == [first, second] and unchanged.endswith("-unchanged.json")
    assert json.loads(places.read(uris.join(models, "history", unchanged))[0])["decision"] == first
    assert folder.find(made_from)["reason"] == "second"


def damage(models, how):
    """Do harm to the one stored bundle."""
    (model,) = {name.split("/")[1] for name in places.names(models) if name.startswith("models/")}
    uri = uris.join(models, "models", model, "manifest.json" if how == "empty manifest" else "content")
    if how == "missing":
        places.remove(uri)
    else:
        places.write(uri, b"" if how.startswith("empty") else b"FIRST", generation=places.read(uri)[1])


@pytest.mark.parametrize("how", ["missing", "other bytes", "empty manifest"])
def test_a_stored_copy_that_is_damaged_is_stored_again_also_the_champions(how, tmp_path, models):
    first = candidate(tmp_path, "first", 0.5)
    publish(*first, models, CONFIG)
    damage(models, how)
    again = publish(*first, models, CONFIG)
    assert again["promoted"] and "it is the champion" in again["reason"] and champion(models) == "first"

    damage(models, how)
    places.remove(uris.join(models, "champion.json"))
    assert publish(*first, models, CONFIG)["promoted"] and champion(models) == "first"


def test_a_bundle_that_cannot_be_opened_from_the_folder_is_not_the_champion(tmp_path, models, monkeypatch):
    publish(*candidate(tmp_path, "first", 0.5), models, CONFIG)
    second, copy = candidate(tmp_path, "second", 0.6), places.copy

    def half(files, uri):
        copy([file for file in files if file[1] != "content"], uri)

    monkeypatch.setattr(places, "copy", half)
    with pytest.raises(InputError, match=r"cannot be opened, so the champion stays: .*content: named in manifest.json"):
        publish(*second, models, CONFIG)
    assert champion(models) == "first"
    assert len(ModelFolder(models).decisions()) == 1
    monkeypatch.setattr(places, "copy", copy)
    assert publish(*second, models, CONFIG)["promoted"] and champion(models) == "second"


def test_a_previous_champion_that_cannot_be_opened_is_not_put_back(tmp_path, models):
    publish(*candidate(tmp_path, "first", 0.5), models, CONFIG)
    first = ModelFolder(models).champion["model"]
    publish(*candidate(tmp_path, "second", 0.6), models, CONFIG)
    places.remove(uris.join(models, first, "content"))
    with pytest.raises(InputError, match=r"content: named in manifest.json but not there.*publish its bundle again"):
        restore_previous(models)
    assert champion(models) == "second"


@pytest.mark.parametrize("figure", ["0.6", None, True, float("nan"), float("inf"), 10**399])
def test_a_metric_that_is_no_finite_number_is_refused(figure, tmp_path):
    models = str(tmp_path / "models")
    bundle, metrics = candidate(tmp_path, "first", 0.5)
    manifest = json.loads((metrics / "manifest.json").read_text())
    manifest["figures"]["r_precision"] = figure
    (metrics / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"manifest.json: expected .*, found something else"):
        publish(bundle, metrics, models, CONFIG)
    assert ModelFolder(models).champion is None


@pytest.mark.parametrize("content", ["[]", '"text"', "null", "[" * 3000, '{"figures": 1}'])
def test_a_manifest_that_is_no_object_is_refused(content, tmp_path):
    for number in (0, 1):
        folders = candidate(tmp_path, f"candidate{number}", 0.5)
        (folders[number] / "manifest.json").write_text(content)
        with pytest.raises(InputError, match=r"manifest.json: expected"):
            publish(*folders, str(tmp_path / "models"), CONFIG)


def set_clock(monkeypatch, *times):
    """Let the clock of the model folder say these seconds after a certain time, the last one for ever."""
    start, remaining = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC), list(times)

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, zone=None):
            seconds = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            return start + datetime.timedelta(seconds=seconds)

    fake = types.SimpleNamespace(datetime=Clock, UTC=datetime.UTC, timedelta=datetime.timedelta)
    monkeypatch.setattr(module, "datetime", fake)


def decisions(models):
    folder = ModelFolder(models)
    return [folder.decision(name) for name in folder.decisions()]


def test_a_clock_that_is_set_back_does_not_make_an_old_decision_the_last_one(tmp_path, models, monkeypatch):
    set_clock(monkeypatch, 3600)
    assert publish(*candidate(tmp_path, "first", 0.5), models, CONFIG, inputs="pictures")["promoted"]
    set_clock(monkeypatch, 0)
    publish(*candidate(tmp_path, "worse", 0.4), models, CONFIG, inputs="pictures")
    assert not ModelFolder(models).find(origin("pictures", CONFIG))["promoted"]
    publish(*candidate(tmp_path, "better", 0.6), models, CONFIG, inputs="pictures")
    assert ModelFolder(models).find(origin("pictures", CONFIG))["promoted"]
    assert [entry["challenger"] for entry in decisions(models)] == [0.5, 0.4, 0.6]
    assert [entry["time"][11:19] for entry in decisions(models)] == ["13:00:00", "12:00:00", "12:00:00"]


def test_a_clock_that_is_set_back_between_the_pointer_and_the_history_changes_nothing(tmp_path, models, monkeypatch):
    """The champion is set by a run that ends before its decision is kept: the time is in champion.json too."""
    set_clock(monkeypatch, 3600)

    def die(*_):
        raise RuntimeError("the node is gone")

    with monkeypatch.context() as context:
        context.setattr(ModelFolder, "remember", die)
        with pytest.raises(RuntimeError):
            publish(*candidate(tmp_path, "first", 0.5), models, CONFIG)
    set_clock(monkeypatch, 0)
    publish(*candidate(tmp_path, "worse", 0.4), models, CONFIG)
    (name,) = ModelFolder(models).decisions()
    assert name > json.loads(places.read(uris.join(models, "champion.json"))[0])["stamp"]


def test_a_clock_that_stands_still_loses_no_decision(tmp_path, models, monkeypatch):
    set_clock(monkeypatch, 0)
    for name, value in (("first", 0.5), ("worse", 0.4), ("better", 0.6), ("worst", 0.3)):
        publish(*candidate(tmp_path, name, value), models, CONFIG, inputs="pictures")
    assert [entry["challenger"] for entry in decisions(models)] == [0.5, 0.4, 0.6, 0.3]
    assert ModelFolder(models).find(origin("pictures", CONFIG))["challenger"] == 0.3


@pytest.mark.parametrize("seconds", [0, -3600])
def test_of_two_publishers_at_once_the_one_that_sets_later_decides_later(seconds, tmp_path, models, monkeypatch):
    """The rival's clock says the same, or is an hour behind; it is faster, and then keeps its decision first."""
    set_clock(monkeypatch, 0)
    set_champion, rival = ModelFolder.set_champion, candidate(tmp_path, "rival", 0.5)

    def rival_is_faster(folder, *arguments):
        monkeypatch.setattr(ModelFolder, "set_champion", set_champion)
        set_clock(monkeypatch, seconds)
        publish(*rival, models, CONFIG, inputs="pictures")
        set_clock(monkeypatch, 0)
        set_champion(folder, *arguments)

    monkeypatch.setattr(ModelFolder, "set_champion", rival_is_faster)
    assert publish(*candidate(tmp_path, "slow", 0.6), models, CONFIG, inputs="pictures")["champion"] == 0.5
    assert [entry["challenger"] for entry in decisions(models)] == [0.5, 0.6]
    assert ModelFolder(models).find(origin("pictures", CONFIG))["challenger"] == 0.6


def test_a_decision_that_is_kept_late_is_still_the_older_one(tmp_path, models, monkeypatch):
    """A champion is replaced before the run that set it has kept its decision; both clocks stand still."""
    set_clock(monkeypatch, 0)
    remember, rival = ModelFolder.remember, candidate(tmp_path, "rival", 0.6)

    def rival_is_faster(folder, decision):
        monkeypatch.setattr(ModelFolder, "remember", remember)
        publish(*rival, models, CONFIG, inputs="pictures")
        remember(folder, decision)

    monkeypatch.setattr(ModelFolder, "remember", rival_is_faster)
    publish(*candidate(tmp_path, "first", 0.5), models, CONFIG, inputs="pictures")
    assert champion(models) == "rival"
    assert [entry["challenger"] for entry in decisions(models)] == [0.5, 0.6]


def test_of_two_that_publish_at_the_same_moment_one_wins_and_both_decisions_are_kept(tmp_path, models, monkeypatch):
    """Both have seen the champion of before when each sets its own; the storage lets one of them."""
    publish(*candidate(tmp_path, "first", 0.5), models, CONFIG)
    set_champion, both_are_there = ModelFolder.set_champion, threading.Barrier(2, timeout=60)
    tries: list[str] = []

    def set_together(folder, entry, previous):
        tries.append(entry["fingerprint"])
        if tries.count(entry["fingerprint"]) == 1:
            both_are_there.wait()
        set_champion(folder, entry, previous)

    monkeypatch.setattr(ModelFolder, "set_champion", set_together)
    rivals = [candidate(tmp_path, name, value) for name, value in (("better", 0.6), ("best", 0.7))]
    found = at_once([lambda rival=rival: publish(*rival, models, CONFIG) for rival in rivals])
    better, best = found
    assert best["promoted"] and champion(models) == "best"
    assert better["promoted"] == (best["champion"] == 0.6)  # the one that was first, or compared with the other
    assert len(tries) == 2 + better["promoted"]
    assert sorted(entry["challenger"] for entry in decisions(models)) == [0.5, 0.6, 0.7]
    assert ModelFolder(models).previous["figures"]["r_precision"] == (0.6 if better["promoted"] else 0.5)


def at_once(works):
    """Let each work run in a thread of its own, and return what they return."""
    with ThreadPoolExecutor(len(works)) as threads:
        return [each.result(timeout=120) for each in [threads.submit(work) for work in works]]


@buckets.slow_in_clouds
def test_two_that_publish_again_and_again_lose_nothing_and_the_last_decision_is_on_the_champion(tmp_path, models):
    """Threads see what processes would: each publishing opens the folder anew, and locks are those of open files."""
    for number in range(12):
        candidate(tmp_path, str(number), 0.5)
    begin = threading.Barrier(2, timeout=60)

    def publish_some(start):
        begin.wait()
        for number in range(start, 12, 2):
            found = [tmp_path / f"{number}-{kind}" for kind in ("bundle", "metrics")]
            publish(*found, models, CONFIG, inputs="pictures", force=True)

    at_once([lambda: publish_some(0), lambda: publish_some(1)])
    history = decisions(models)
    assert len({entry["bundle"] for entry in history}) == len(history) == 12
    assert history[-1]["bundle"] == ModelFolder(models).champion["fingerprint"]
    assert ModelFolder(models).previous["fingerprint"] == history[-2]["bundle"]
    page = places.read(uris.join(models, "index.html"))[0].decode()
    assert "12 promoted" in page  # the last page of two shows what both decided
    assert ModelFolder(models).champion["model"] in places.read(uris.join(models, "README.md"))[0].decode()


@pytest.mark.slow
def test_two_processes_that_publish_at_once_lose_nothing(tmp_path, models):
    for number in range(6):
        candidate(tmp_path, str(number), 0.5)
    command = [sys.executable, "-c", PUBLISHER, str(tmp_path), models]
    runs = [subprocess.Popen([*command, start], stderr=subprocess.PIPE, text=True) for start in ("0", "1")]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert len({entry["bundle"] for entry in decisions(models)}) == len(decisions(models)) == 6
    assert decisions(models)[-1]["bundle"] == ModelFolder(models).champion["fingerprint"]


PUBLISHER = """
import sys
from pathlib import Path
from attngan.config import settings as config
from attngan.steps.publish import publish
folder, models, start = sys.argv[1:]
for number in range(int(start), 6, 2):
    found = [Path(folder) / f"{number}-{kind}" for kind in ("bundle", "metrics")]
    publish(*found, models, config.load(), inputs="pictures", force=True)
"""
