"""The page of a model folder: every decision, what cannot be read, and what the champions draw."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import buckets
import pytest
from candidates import candidate, champion

from attngan.config import settings as configs
from attngan.inference import champion_pictures
from attngan.pages import model_page
from attngan.steps.detect_changes import detect_changes
from attngan.steps.publish import publish, restore_previous
from attngan.storage import places, uris
from attngan.storage.champion import ModelFolder

CONFIG = configs.load()


def page_of(models):
    return places.read(uris.join(models, "index.html"))[0].decode()


def card_of(models):
    return places.read(uris.join(models, "README.md"))[0].decode()


def plots_in(page):
    """Return the plots of a page, without the keys below them."""
    return [ET.fromstring(f"<svg{part.split('</svg>')[0]}</svg>") for part in page.split("<svg")[1:] if "role=" in part]


def classes(plot):
    return [each.get("class") for each in plot.findall("g")]


@pytest.fixture
def models(root):
    """Give a model folder that does not exist yet."""
    return root


def test_every_decision_stands_on_the_page_by_its_kind_with_its_interval(tmp_path, models):
    source = tmp_path / "birds"
    source.mkdir()
    inputs = places.fingerprint(str(source), "", "")
    publish(*candidate(tmp_path, "first", 0.5, spread=0.02), models, CONFIG)
    (plot,) = plots_in(page_of(models))
    assert classes(plot) == ["promoted"]
    publish(*candidate(tmp_path, "worse", 0.4), models, CONFIG)
    publish(*candidate(tmp_path, "better", 0.6, spread=0.03), models, CONFIG, inputs=inputs)
    assert not detect_changes([str(source), "", ""], models, CONFIG, remember=True)["retrain"]
    (plot,) = plots_in(page_of(models))
    assert classes(plot) == ["promoted", "kept", "promoted"]
    assert [len(each.findall("path")) for each in plot.findall("g")] == [1, 0, 1]  # its interval, where there is one
    assert len(plot.findall("path")) == 1 and "1 with nothing new" in page_of(models)
    restore_previous(models)
    page = page_of(models)
    (plot,) = plots_in(page)
    assert classes(plot) == ["promoted", "kept", "promoted", "restored"]
    heights = [float(each.find("*[@cy]").get("cy")) for each in plot.findall("g")[:3]]
    assert heights[1] > heights[0] > heights[2]
    assert float(plot.findall("g")[3].find("rect").get("y")) + 3.5 == pytest.approx(heights[0])
    assert "2 promoted, 1 not promoted" in page and "60.0\u00a0% [57.0\u00a0%, 63.0\u00a0%]" in page
    assert page.count("<tr>") == 5 and ModelFolder(models).champion["model"] in card_of(models)


@buckets.slow_in_clouds
@pytest.mark.parametrize("name", ["page", "card"])
def test_who_writes_last_shows_what_both_decided(name, tmp_path, models, monkeypatch):
    """A rival publishes after what a page is made of was read, and writes its own first."""
    publish(*candidate(tmp_path, "first", 0.5), models, CONFIG)
    rival, make = candidate(tmp_path, "rival", 0.7), getattr(model_page, name)

    def rival_is_faster(uri):
        text = make(uri)
        if getattr(model_page, name) is rival_is_faster:
            monkeypatch.setattr(model_page, name, make)
            publish(*rival, models, CONFIG)
        return text

    monkeypatch.setattr(model_page, name, rival_is_faster)
    publish(*candidate(tmp_path, "slow", 0.6), models, CONFIG)
    assert classes(plots_in(page_of(models))[0]) == ["promoted"] * 3
    assert champion(models) == "rival" and ModelFolder(models).champion["model"] in card_of(models)


def remember(folder, number, content):
    """Put a decision into the history of a local folder."""
    kind = "-unchanged" if isinstance(content, dict) and content.get("retrain") is False else ""
    path = folder / "history" / f"20260501T{number // 60:02d}{number % 60:02d}00.000000Z-unknown{kind}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def decision(value, best, **more):
    bundle = f"{round(1000 * value):064x}"
    facts = {"time": "", "promoted": value > best, "reason": "", "metric": "r_precision", "challenger": value}
    return {**facts, "champion": best, "bundle": bundle, "origin": None, **more}


def test_a_long_history_shows_its_newest_part_and_counts_the_rest(tmp_path):
    for number in range(205):
        remember(tmp_path, number, decision(0.1 + number / 300, 0.0))
        remember(tmp_path, 300 + number, {"time": "", "retrain": False, "reason": "nothing new", "origin": None})
    page = model_page.page(str(tmp_path))
    (plot,) = plots_in(page)
    assert len(classes(plot)) == model_page.MOST_DECISIONS == len(plot.findall("path"))
    assert "10 older decisions are in" in page
    assert page.count("No pictures of it are kept.") == model_page.MOST_CHAMPIONS
    assert f"{200 - model_page.MOST_CHAMPIONS} champions between are left out." in page
    assert len(page) < 200_000


DAMAGED = ["", "{", "[]", '{"promoted": "yes"}', '{"challenger": NaN}', "[" * 3000, '{"low": "0"}', '"text"']


def test_what_of_the_history_cannot_be_read_is_left_out_and_said(tmp_path):
    remember(tmp_path, 0, decision(0.5, 0.0))
    for number, content in enumerate(DAMAGED, start=1):
        remember(tmp_path, number, content)
    remember(tmp_path, 50, decision(0.6, 0.5))
    page = model_page.page(str(tmp_path))
    assert classes(plots_in(page)[0]) == ["promoted", "promoted"]
    assert f"{len(DAMAGED)} files of the history cannot be read and are left out: 20260501T000100" in page


def test_texts_of_the_history_stay_texts_and_metrics_of_other_versions_are_shown(tmp_path):
    hostile = '"><script>alert(1)</script>'
    remember(tmp_path, 0, decision(0.5, 0.0, metric=hostile, reason=hostile, bundle=hostile))
    remember(tmp_path, 1, decision(0.5, 0.0))
    remember(tmp_path, 2, {"time": "", "promoted": True, "origin": None})
    remember(tmp_path, 3, decision(0.0, 0.0, challenger=None, metric="kid_damsm-1"))
    page = model_page.page(str(tmp_path))
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert [len(classes(plot)) for plot in plots_in(page)] == [1, 1]


def test_a_folder_without_a_decision_has_a_page(tmp_path):
    page = model_page.page(str(tmp_path))
    assert "There is no champion yet." in page and "<svg" not in page


def test_files_of_others_are_not_replaced_and_the_decision_stands(tmp_path, models, capsys):
    for name in ("README.md", "index.html"):
        places.write(uris.join(models, name), b"mine", generation=0)
    assert publish(*candidate(tmp_path, "first", 0.5), models, CONFIG)["promoted"]
    assert page_of(models) == card_of(models) == "mine" and len(ModelFolder(models).decisions()) == 1
    said = capsys.readouterr().out
    assert said.count("stands in the way, and attngan did not write it; move it away") == 2


def test_each_champion_draws_the_same_sentences(bundle, metrics, tmp_path, models, capsys):
    assert publish(bundle, metrics, models, CONFIG, force=True)["promoted"]
    sentences = json.loads(places.read(uris.join(models, "pictures", "sentences.json"))[0])
    assert sentences == json.loads((bundle / "provenance.json").read_text())["examples"]
    page = page_of(models)
    assert page.count("data:image/webp;base64,") == 1 and page.count('role="img" aria-label') == 1 + len(sentences)
    assert all(f"<li>{sentence}</li>" in page for sentence in sentences)
    assert "](models/" in card_of(models) and "http" not in re.sub(r"<svg.*?</svg>", "", page)
    publish(*candidate(tmp_path, "other", 0.99), models, CONFIG, force=True)  # which nobody can draw with
    assert "no pictures of " in capsys.readouterr().out
    assert page_of(models).count("No pictures of it are kept.") == 1
    uri = uris.join(
        models, next(f"pictures/{name}" for name in places.names(f"{models}/pictures") if name.endswith(".webp"))
    )
    places.write(uri, b"RIFF", generation=places.read(uri)[1])
    restore_previous(models)
    assert page_of(models).count("No pictures of it are kept.") == 3


def test_a_sentence_without_a_known_word_is_an_empty_place(bundle, tmp_path):
    folder = ModelFolder(str(tmp_path))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "sentences.json").write_text(json.dumps(["xyzzy", "a red bird"]))
    champion_pictures.draw(folder, bundle, "0123")
    assert model_page._strip((tmp_path / "pictures" / "0123.webp").read_bytes(), 2)
    (tmp_path / "pictures" / "sentences.json").write_text("{")
    champion_pictures.draw(folder, bundle, "4567")
    assert not (tmp_path / "pictures" / "4567.webp").exists()


OLD = {"model": "models/00aa", "fingerprint": "00aa", "figures": {"r_precision": 0.5, "r_precision_real": 0.7}}


def test_a_model_folder_of_before_is_read_shown_promoted_over_and_put_back(tmp_path, models):
    """Written without stamp, times, intervals, pictures, pages; its bundle says less of where it comes from."""
    old = candidate(tmp_path, "old", 0.5)[0]
    fingerprint = json.loads((old / "manifest.json").read_text())["fingerprint"]
    model = f"models/{fingerprint[:16]}"
    places.copy([(path, path.name) for path in Path(old).iterdir()], uris.join(models, model))
    entry = {**OLD, "model": model, "fingerprint": fingerprint}
    pointer = json.dumps({"champion": entry, "previous": None}).encode()
    places.write(uris.join(models, "champion.json"), pointer, generation=0)
    older = {"time": "2025-01-01T00:00:00+00:00", "promoted": True, "origin": None, "bundle": fingerprint}
    figures = {"reason": "promoted: the first", "metric": "r_precision", "challenger": 0.5, "champion": None}
    name = uris.join(models, "history", "20250101T000000.000000Z-unknown.json")
    places.write(name, json.dumps({**older, **figures}).encode(), generation=0)

    assert not publish(*candidate(tmp_path, "worse", 0.4), models, CONFIG)["promoted"]
    assert "| 50.0 % | real pictures 70.0 % |" in card_of(models) and model in card_of(models)
    assert publish(*candidate(tmp_path, "better", 0.6, spread=0.01), models, CONFIG)["promoted"]
    assert classes(plots_in(page_of(models))[0]) == ["promoted", "kept", "promoted"]
    restore_previous(models)
    assert champion(models) == "old" and "since a time not known" in card_of(models)
    assert classes(plots_in(page_of(models))[0])[-1] == "restored"
