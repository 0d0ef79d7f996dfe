"""The model card: its front matter says what was measured, and no text of a stranger becomes markup."""

import json
import re
import shlex
import shutil

import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image
from typer.testing import CliRunner

from attngan import cli
from attngan.config.settings import Card
from attngan.errors import InputError
from attngan.inference.bundle import write_bundle
from attngan.metrics import names
from attngan.pages import model_card
from attngan.pages.model_card import Champion
from attngan.storage import artifacts

HOSTILE = (
    'a "red" bird\n---\nlicense: mit\n<script>alert(1)</script> <!-- ![x](http://x.y/z.png) [link](javascript:x) '
    "**bold** `code` | cell | https://example.com www.example.com a@b.c {{ 7 * 7 }} {% raw %} \u202e\x1b[31m # head"
)


def front_of(card):
    """Return the front matter, found as the Hub finds it, and the rest of the card."""
    match = re.match(r"\A---\n(.*?)\n---\n", card, re.DOTALL)
    return yaml.safe_load(match[1]), card[match.end() :]


def tokens_of(body):
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)
    return [*tokens, *(child for token in tokens for child in token.children or [])]


def facts_of(bundle):
    return json.loads((bundle / "provenance.json").read_text(encoding="utf-8"))


@pytest.fixture
def card(bundle):
    return (bundle / "README.md").read_text(encoding="utf-8")


def test_the_front_matter_holds_every_figure_with_its_interval(card, metrics):
    front, _ = front_of(card)
    measured = json.loads((metrics / "metrics.json").read_text(encoding="utf-8"))["details"]
    controls = tuple(f"_{each}" for each in names.CONTROLS)
    expected = {name: each for name, each in measured.items() if not name.endswith(controls)}
    (model,) = front["model-index"]
    (result,) = model["results"]
    found = {each["type"]: (each["value"], each["args"]["low"], each["args"]["high"]) for each in result["metrics"]}
    assert found == {name: (each["value"], each["low"], each["high"]) for name, each in expected.items()}
    assert {"r_precision", "kid", "precision"} <= set(front["metrics"]) and len(front["metrics"]) < len(expected)
    assert result["task"]["type"] == front["pipeline_tag"] == "text-to-image"
    assert result["dataset"] == {"type": "captioned-pictures", "name": "captioned pictures", "split": "test"}
    assert front["license"] == "unknown" and "datasets" not in front


def test_the_card_is_a_function_of_the_provenance_and_tells_its_facts(card, bundle, smoke, dataset, metrics, generator):
    facts = facts_of(bundle)
    assert card == model_card.text(facts)
    counts = json.loads((dataset / "dataset.json").read_text())["counts"]["train"]
    assert f"It has seen {counts['images']:,} pictures with {counts['captions']:,} captions" in card
    assert "these are few" in card and "32 x 32 pixels" in card
    made = artifacts.check(generator, "generator")
    assert (
        f"- Steps of the adversarial training: {made['steps']:,}" in card
        and made["device"] in card
        and made["revision"] in card
    )
    assert 0 < made["seconds"] < 600 and "- Time of it: about a minute" in card
    assert "| training.batch\\_size | 8 |" in card and "| training.epochs | 2 |" in card
    assert "| discriminator.projected.weight | 0 |" in card and "projected discriminator on" not in card
    frozen = model_card.text({**facts, "frozen": "57934424" + 56 * "0"})
    assert "- Trained against a projected discriminator on weights with sha256 5793442400000000\n" in frozen
    judge = next(name for name in made_by(metrics) if name.startswith("kid_")).removeprefix("kid_")
    assert f"It was trained to please the encoders {judge}" in card
    said = json.loads((metrics / "metrics.json").read_text(encoding="utf-8"))
    for sentence in (*said["not_learnt"], *said["broken"]):
        assert sentence[:40].replace("_", "\\_") in card


def test_encoders_that_the_generator_never_saw_are_not_said_to_have_been_pleased(bundle):
    facts = facts_of(bundle)
    details = facts["evaluation"]["details"]
    judge = details["r_precision"]["features"]
    for name in [name for name in details if name.startswith("r_precision")]:
        second = name.replace("r_precision", "r_precision_second_judge")
        details[second] = {**details[name], "features": "damsm-00000000"}
    front, body = front_of(model_card.text(facts))
    assert f"It was trained to please the encoders {judge}, which" in body
    assert body.count("| fits its caption (R-precision), by a second judge, among ") == 1
    assert {"r_precision", "r_precision_second_judge"} <= set(front["metrics"])


def made_by(metrics):
    return artifacts.check(metrics, "metrics")["figures"]


def test_the_step_of_the_weights_is_said_where_the_best_snapshot_is_the_result(bundle):
    facts = facts_of(bundle)
    facts["training"]["best"]["step"] = 17
    assert "those after step 17, the best snapshot" in model_card.text(facts)
    facts["recipe"]["watch.result"] = "last"
    assert "step 17" not in model_card.text(facts)


def test_a_person_may_edit_the_card_and_the_bundle_stays_sound(bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    (folder / "README.md").write_text("My own words.")
    artifacts.check(folder, "bundle", contents=True)
    (folder / "README.md").unlink()
    with pytest.raises(InputError, match=r"README.md: named in manifest.json but not there"):
        artifacts.check(folder, "bundle")


def test_pictures_lie_where_the_card_says(card, bundle):
    _, body = front_of(card)
    images = [token for token in tokens_of(body) if token.type == "image"]
    assert len(images) == len(facts_of(bundle)["examples"]) == 2
    for image in images:
        with Image.open(bundle / image.attrs["src"]) as picture:
            assert picture.size == (32, 32) and picture.text["caption"] == image.content


def test_what_the_card_says_of_drawing_works_and_draws_its_first_picture(card, bundle, tmp_path, monkeypatch):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    monkeypatch.chdir(folder)
    blocks = {token.info: token.content for token in tokens_of(front_of(card)[1]) if token.type == "fence"}
    command = shlex.split(blocks["sh"])
    assert command[0] == "attngan"
    done = CliRunner().invoke(cli.app, command[1:])
    assert done.exit_code == 0, done.output
    exec(blocks["python"], {})
    shown = Image.open(folder / "pictures" / "00.png")
    for drawn in (tmp_path / "picture.png", min((tmp_path / "pictures").glob("*-000.png"))):
        assert Image.open(drawn).tobytes() == shown.tobytes()
    artifacts.check(folder, "bundle", contents=True)


def test_texts_of_a_stranger_stay_texts(bundle):
    facts = facts_of(bundle)
    facts["examples"] = [HOSTILE, "- a bird", *facts["examples"]]
    facts["data"] |= {"dataset": HOSTILE, "license": HOSTILE, "source": HOSTILE}
    facts["training"]["device"] = facts["revision"] = facts["start_from"] = facts["dataset"] = HOSTILE
    facts["recipe"][HOSTILE] = HOSTILE
    facts["evaluation"]["findings"] = [HOSTILE, "1. one", "+ two"]
    facts["evaluation"]["details"][HOSTILE] = facts["evaluation"]["details"]["r_precision"]
    calm, card = model_card.text(facts_of(bundle)), model_card.text(facts)
    front, body = front_of(card)
    assert front["license"] == "other" and "<script>" in front["license_name"] and "\n" not in front["license_name"]
    assert set(front) - set(front_of(calm)[0]) == {"license_name"}
    assert "\x1b" not in card and "\u202e" not in card and "49" not in body.split("## Draw")[0]
    tokens, expected = tokens_of(body), tokens_of(front_of(calm)[1])
    assert [token.content.strip() for token in tokens if token.type.startswith("html_")] == [model_card.MADE]
    links = [token.attrs["href"] for token in tokens if token.type == "link_open"]
    assert links == ["https://arxiv.org/abs/1711.10485", "config.yaml"]
    kinds = ("heading_open", "strong_open", "em_open", "s_open", "fence", "code_block", "hr", "table_open")
    for kind in kinds:
        assert sum(token.type == kind for token in tokens) == sum(token.type == kind for token in expected), kind
    assert sum(token.type == "bullet_list_open" for token in tokens) == 3
    assert not any(token.type == "ordered_list_open" for token in tokens)
    assert not re.search(r"https?://|www\.", body.split("## Figures")[1])


@pytest.mark.parametrize(
    ("given", "front"),
    [
        ({"license": "CC-BY-4.0"}, {"license": "cc-by-4.0"}),
        ({"license": "Ours, 2026"}, {"license": "other", "license_name": "Ours, 2026"}),
        ({"dataset": "efekankavalci/CUB_200_2011"}, {"datasets": ["efekankavalci/CUB_200_2011"]}),
        ({"dataset": "CUB-200-2011"}, {}),
    ],
)
def test_name_and_licence_of_the_data_are_those_of_the_settings(given, front, generator, tmp_path):
    write_bundle(generator, tmp_path, None, card=Card(**given))
    found, body = front_of((tmp_path / "README.md").read_text(encoding="utf-8"))
    assert found | front == found and ("datasets" in found) == ("datasets" in front)
    assert next(iter(given.values())).replace("_", "\\_") in body
    assert "model-index" not in found and "Nobody has measured this model." in body


@pytest.mark.parametrize("facts", [{}, {"revision": "1", "metrics": {"r_precision": 0.5, "r_precision_real": 0.6}}])
def test_a_bundle_of_before_has_a_card_too(facts):
    front, body = front_of(model_card.text(facts))
    assert ("model-index" in front) == ("metrics" in facts)
    if "metrics" in facts:
        assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
        assert "| 50.0 % | real pictures 60.0 % |" in body


def test_in_a_model_folder_everything_lies_below_the_champions_bundle(bundle):
    card = model_card.text(facts_of(bundle), Champion("models/0123", "2026-05-01"))
    images = [token.attrs["src"] for token in tokens_of(front_of(card)[1]) if token.type == "image"]
    assert images == ["models/0123/pictures/00.png", "models/0123/pictures/01.png"]
    assert "attngan generate models/0123 " in card and 'Path("models/0123")' in card
