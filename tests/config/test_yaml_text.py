"""YAML from anywhere: whatever it holds is settings, or one short sentence, at once and without much memory."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from attngan.config import settings as configs
from attngan.config import yaml_text
from attngan.config.bounds import FEW
from attngan.config.section import Section, Text
from attngan.config.settings import Config
from attngan.errors import InputError, shown
from attngan.training import train_job

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)
CHAIN = "a0: &a0 [[[x]]]\n" + "".join(f"a{i + 1}: &a{i + 1} [[[*a{i}]]]\n" for i in range(900))
BAD = {
    "a date": ("seed: 2020-01-01", "seed: .*found '2020-01-01'"),
    "a number that is none": ("seed: 0x_", "seed: expected a finite number, found 0x_"),
    "5,000 digits": (f"seed: {'1' * 5000}", r"seed: expected a finite number, found 111.*5,000 characters"),
    "5,000 digits in parts": (f"seed: {'1:' * 150}11", "seed: "),
    "a number of sixty parts that overflows": (f"watch: {{every_epochs: {'59:' * 130}11.5}}", "every_epochs"),
    "300 digits": (f"seed: {'1' * 300}", "seed: .*found 111"),
    "nested": ("[" * 3000, "at most 20 deep"),
    "nested and closed": ("a: " + "[" * 3000 + "]" * 3000, "at most 20 deep"),
    "nested sections": ("".join(f"{' ' * depth}a:\n" for depth in range(300)), "at most 20 deep"),
    "a tag": ("seed: !!timestamp x", "seed: expected a number, text, list or section, found YAML's !!timestamp"),
    "a tag that is no number": ("seed: !!int x", "seed: expected a finite number, found x"),
    "a tag of nothing": ("seed: !!int ''", "seed: expected a finite number"),
    "a truth that is none": ("compile: !!bool x", "compile: expected true or false, found x"),
    "an object": ("seed: !!python/object/apply:os.system ['true']", "found YAML's !!python/object"),
    "bytes": ("seed: !!binary aGk=", "found YAML's !!binary"),
    "a set": ("!!set {a, b}", "found YAML's !!set"),
    "pairs": ("seed: !!omap [a: 1]", "found YAML's !!omap"),
    "an alias of itself": ("damsm: &a [*a]", r"damsm\.0.*alias"),
    "a section inside itself": ("&a {damsm: *a}", "alias"),
    "aliases that grow": (LAUGHS, "alias"),
    "names that grow": (f"a: &a {{{'k' * 900}: 1}}\nb: [{'*a,' * 2000}]", "alias"),
    "a chain of aliases": (CHAIN, "alias"),
    "an alias of nothing": ("seed: *a", "not readable as YAML"),
    "merging": ("a: &a {epochs: 1}\ndamsm: {<<: *a}", r"unknown setting damsm\.<<"),
    "infinity": ("training: {kl_weight: .inf}", r"training\.kl_weight: expected a finite number, found \.inf"),
    "minus infinity": ("training: {kl_weight: -.inf}", "expected a finite number"),
    "not a number": ("seed: .nan", "seed: expected a finite number"),
    "infinity in digits": ("training: {kl_weight: 1.0e+999}", "expected a finite number"),
    "half a surrogate pair": ('device: "\\ud800"', "device: expected text, found half of a surrogate pair"),
    "half a pair as a name": ('"\\ud800": 1', "expected text, found half of a surrogate pair"),
    "half a pair as it is": ("device: \ud800", "not readable as YAML"),
    "NUL": ('evaluate: {clip: {uri: "a\\0b"}}', r"evaluate\.clip\.uri: expected text, found NUL"),
    "NUL as it is": ("device: a\0", "not readable as YAML"),
    "no character": ('device: "\\UFFFFFFFF"', "not readable as YAML"),
    "twice": ("seed: 1\nseed: 2", "seed: expected one value, found two"),
    "twice inside": ("damsm: {epochs: 1, 'epochs': 2}", r"damsm\.epochs: expected one value, found two"),
    "a number as a name": ("1: 2", "expected the name of a setting, found 1"),
    "true as a name": ("on: 2", "expected the name of a setting, found on"),
    "a list as a name": ("? [a, b]\n: 1", "expected the name of a setting, found a list"),
    "several documents": ("seed: 1\n---\nseed: 2", "not readable as YAML"),
    "a directive": ("%YAML 9.9\n---\nseed: 1", "not readable as YAML"),
    "a long name": (f"? {'a' * 5000}\n: 1", r"unknown setting aaa.*5,000 characters"),
    "a long text": (f"damsm: {{epochs: {'a' * 5000}}}", r"damsm\.epochs: .*5,00\d characters"),
    "many mistakes": ("".join(f"a{i}: 1\n" for i in range(3000)), "unknown setting a0; .*; and 2,990 more"),
    "many values": (f"a: [{'a,' * 20_000}]", "at most 10,000 names and values"),
    "much text": ("#" * 2_000_000, "more than 262,144 bytes"),
    "a huge list of numbers": (f"samples: {{captions: [{'a,' * 3000}]}}", r"samples\.captions: .*at most 1000 items"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD)
def test_what_is_no_setting_is_one_short_sentence_at_once(text, says):
    start = time.process_time()
    with pytest.raises(InputError, match=says) as caught:
        configs.load(text, where="my.yaml")
    assert time.process_time() - start < 5
    sentence = str(caught.value)
    assert sentence.startswith("my.yaml: ") and sentence.isprintable() and len(sentence) < 1000


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD)
def test_no_override_does_more_than_a_file(text, says):
    with pytest.raises(InputError) as caught:
        configs.load(overrides=[f"data.resolution={{{text}}}"])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1200


def test_a_train_job_is_read_by_the_same_reader():
    with pytest.raises(InputError, match=r"^train_job: .*alias"):
        train_job.load("node_selector: &a [*a]")


@pytest.mark.parametrize(
    "override", [".".join("a" * 3000) + "=1", "seed=&a [*a]", f"{'a' * 9000}=1", "a\nb", "x" * 9000]
)
def test_an_override_that_is_none_is_one_short_sentence(override):
    with pytest.raises(InputError, match=r"^(--set|config: unknown)") as caught:
        configs.load(overrides=[override])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("captions: a bird\u2019s".encode("cp1252"), "in UTF-8, found other bytes"),
        (b"#" * 300_000, "more than 262,144 bytes"),
        ("seed: 1\n".encode("utf-16"), "in UTF-8, found other bytes"),
    ],
)
def test_a_file_of_other_bytes_is_one_sentence_that_names_it(content, says, tmp_path):
    (tmp_path / "my.yaml").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        configs.load_file(tmp_path / "my.yaml")
    assert str(caught.value).startswith(str(tmp_path / "my.yaml"))


def test_a_device_in_place_of_a_config_is_not_read_for_ever():
    with pytest.raises(InputError, match="more than 262,144 bytes"):
        configs.load_file(Path("/dev/zero"))


def test_aliases_that_grow_take_no_memory():
    code = (
        "import resource, sys; from attngan.config import settings as config\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: config.load(sys.argv[1])\n"
        "except ValueError as error: assert 'alias' in str(error)\n"
        "else: raise AssertionError\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000"
    )
    subprocess.run([sys.executable, "-c", code, LAUGHS], check=True)


def test_what_settings_can_be_is_read_as_it_was_meant():
    text = """\ufeff
    a: &few [1, 2.5, true, null, ~, no]
    b: *few
    c: {d: *few, e: 0x1F, f: 1_000, g: 1e5, h: 1.0e+5}
    i: 2020-01-01
    j: "\\ud83d\\ude00 \U0001f426"
    k: =
    """
    few = [1, 2.5, True, None, None, False]
    assert yaml_text.parse(text.replace("\n    ", "\n"), "here") == {
        "a": few,
        "b": few,
        "c": {"d": few, "e": 31, "f": 1000, "g": "1e5", "h": 1e5},
        "i": "2020-01-01",
        "j": "\U0001f600 \U0001f426",
        "k": "=",
    }
    for value in ("2020-01-01", "=", "<<", "0x_", "~", "a\x85b", "\U0001f426", "1:2", " x ", "on"):
        assert yaml_text.parse(yaml_text.dump({"a": value}), "here") == {"a": value}
        given = {}
        yaml_text.place(f"a={yaml_text.one_line(value)}", given)
        assert given == {"a": value}


def test_the_same_section_named_twice_is_changed_once():
    values = yaml_text.parse("a: &a {b: 1}\nc: *a", "here")
    yaml_text.place("c.b=2", values)
    assert values == {"a": {"b": 1}, "c": {"b": 2}}


class Form(Section):
    text: Text = ""
    texts: Annotated[tuple[Text, ...], Field(max_length=FEW)] = ()


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "a" * 5000])
def test_text_that_cannot_be_written_is_no_setting_however_it_comes(text):
    for given in ({"text": text}, {"texts": [text]}):
        with pytest.raises(ValueError, match="validation error"):
            Form(**given)


def bounds(model: type[Section]) -> list[str]:
    """Return the settings of a model without both bounds, and texts and lists without a length."""
    loose: list[str] = []

    def look(part: dict, name: str) -> None:
        if "$ref" in part:
            return
        for other in part.get("anyOf", []):
            look(other, name)
        kind = part.get("type")
        if kind in ("integer", "number"):
            has_both = {"minimum", "exclusiveMinimum"} & part.keys() and {"maximum", "exclusiveMaximum"} & part.keys()
            loose.extend([] if has_both else [name])
        if kind == "string" and "enum" not in part and "maxLength" not in part:
            loose.append(name)
        if kind == "array":
            loose.extend([] if "maxItems" in part else [name])
            look(part["items"], f"{name}[]")
        if kind == "object":
            look(part.get("additionalProperties") or {}, f"{name}{{}}")

    schema = model.model_json_schema()
    for section in [schema, *schema.get("$defs", {}).values()]:
        for name, part in section["properties"].items():
            look(part, f"{section['title']}.{name}")
    return loose


@pytest.mark.parametrize("model", [Config, train_job.TrainJob])
def test_every_setting_has_bounds(model):
    assert bounds(model) == []


def texts(values: dict, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return where the texts of a config are that is dumped in full."""
    found: list[tuple[str, ...]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += texts(value, (*place, name))
        elif isinstance(value, str):
            found.append((*place, name))
    return found


@pytest.mark.parametrize("place", texts(Config().model_dump()), ids=".".join)
def test_every_text_refuses_what_cannot_be_written(place):
    for text in ("\0", "\ud800", "a" * 5000):
        values: dict = {}
        inner = values
        for name in place[:-1]:
            inner = inner.setdefault(name, {})
        inner[place[-1]] = text
        with pytest.raises(ValueError, match="validation error"):
            Config.model_validate(values)


@pytest.mark.parametrize(
    "override",
    [
        "data.resolution=1048576",
        "generator.channels=1000000000",
        "text_encoder.feature_dim=1000000000",
        "num_threads=1000000000",
        "num_processes=1000000000",
        "training.epochs=1.0e+30",
        "training.epochs=1000000000000",
        "training.batch_size=1000000000",
        "evaluate.kid_subset_size=1000000",
        "training.checkpoint_every_seconds=1.0e+300",
        "watch.every_epochs=1.0e+30",
        "samples.variants=1000000000",
    ],
)
def test_a_size_beyond_any_use_is_refused_by_its_name(override):
    with pytest.raises(InputError, match=f"{override.partition('=')[0]}: .* found 1"):
        configs.load(overrides=[override])


def test_what_is_shown_is_short_and_prints():
    assert shown("a \u00e9") == "a \u00e9"
    assert shown("a\nb\udcff\0") == "a\\nb\\udcff\\x00"
    assert shown("a" * 1000) == f"{'a' * 120}... (1,000 characters)"
    assert json.dumps(shown("\ud800")) == '"\\\\ud800"'
