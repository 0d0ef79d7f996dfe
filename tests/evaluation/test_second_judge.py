"""A second judge of R-precision: what it says, whom it does not know, and what goes on after a kill."""

import json
import shutil

import pytest
import safetensors.torch
import torch

from attngan.config import settings as configs
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.evaluation import row_store
from attngan.evaluation.extractors import damsm_extractor
from attngan.evaluation.measures import MetricMaker
from attngan.evaluation.picture_sets import EvaluationPictures, Query
from attngan.evaluation.second_judge import SecondJudge, open_second_judge
from attngan.inference import trained_encoders
from attngan.inference.text_to_image import TextToImage
from attngan.metrics.distribution import Rows
from attngan.steps import evaluate as step
from attngan.steps.evaluate import evaluate
from attngan.storage import artifacts

SECOND = "r_precision_second_judge"
WHOSE = ("", "_real", "_noise", "_blurred", "_shuffled")


@pytest.fixture(scope="module")
def subject(dataset, generator, smoke):
    model = TextToImage.open(generator, kind="generator")
    splits = Dataset.open(dataset, "test"), Dataset.open(dataset, "train")
    return EvaluationPictures(model, *splits, smoke.seed, num_images=24, num_pairs=6)


@pytest.fixture(scope="module")
def first(damsm, subject):
    model = subject.model
    return damsm_extractor(damsm, trained_encoders.load(damsm, model.config, len(model.vocabulary), model.device)[1])


@pytest.fixture(scope="module")
def judged(dataset, damsm, second_damsm, generator, smoke, tmp_path_factory):
    """The metrics folder of an evaluation with a second judge."""
    out = tmp_path_factory.mktemp("judged") / "metrics"
    evaluate(dataset, damsm, generator, out, smoke, second_damsm=second_damsm)
    return out


def test_each_judge_is_asked_by_its_own_features_about_the_same_captions(smoke):
    num = 12
    features, others = torch.eye(num), torch.eye(num).roll(1, 0)  # each picture looks like its own, or another caption
    blind = torch.ones(num, num)
    tables = {
        "generated": {"a": features, "b": others, "sentence": features, "second sentence": features},
        **{name: {"a": features, "b": others} for name in ("real", "blurred")},
        "noise": {"a": blind, "b": blind},
    }
    rows = {name: {column: Rows(values) for column, values in table.items()} for name, table in tables.items()}
    maker = MetricMaker(smoke.evaluate.model_copy(update={"num_candidates": num}), 0, rows)
    given = [Query(image, 0) for image in range(num)], [[(image, image)] for image in range(num)], features
    told = {"metric": SECOND, "sentence": "second sentence"}
    own, foreign = maker.r_precision("a", *given), maker.r_precision("b", *given, **told)
    values = {name: {whose: each.value for whose, each in of.items()} for name, of in {**own, **foreign}.items()}
    assert values["r_precision"] == {"generated": 1, "real": 1, "noise": 0, "blurred": 1, "shuffled": 0}
    assert values[SECOND] | {"shuffled": 0} == {"generated": 0, "real": 0, "noise": 0, "blurred": 0, "shuffled": 0}
    assert foreign[SECOND]["generated"].candidates == num and foreign[SECOND]["generated"].features == "b"
    assert maker.r_precision("a", *given, **told)[SECOND] == own["r_precision"]


def test_its_figure_stands_beside_the_first_with_all_controls_and_changes_nothing_else(
    judged, metrics, damsm, second_damsm
):
    measured = json.loads((judged / "metrics.json").read_text())
    figures, without = measured["figures"], artifacts.check(metrics, "metrics")["figures"]
    assert figures.keys() - without.keys() == {f"{SECOND}{whose}" for whose in WHOSE}
    assert {name: figures[name] for name in without} == without
    sha256 = artifacts.sha256_of(second_damsm / "image_encoder.safetensors")
    assert {measured["details"][f"{SECOND}{whose}"]["features"] for whose in WHOSE} == {f"damsm-{sha256[:8]}"}
    conditions = measured["conditions"]
    assert conditions[f"damsm-{sha256[:8]}"]["sha256"] == sha256
    for name, folder in {"damsm": damsm, "second_damsm": second_damsm}.items():
        assert conditions[name] == artifacts.check(folder, "damsm")["fingerprint"]
    assert artifacts.check(judged, "metrics", contents=True)["figures"] == figures
    page = (judged / "report.html").read_text()
    assert f"<code>{SECOND}</code>" in page and "(R-precision), by a second judge" in page


def test_a_second_judge_that_sees_and_reads_as_the_first_says_what_the_first_says(
    dataset, damsm, second_damsm, generator, metrics, smoke, tmp_path, monkeypatch
):
    def same(folder, subject, *, first, generator):
        return SecondJudge(first, subject.model.text_encoder, subject.model.config.data.max_words)

    monkeypatch.setattr(step, "open_second_judge", same)
    figures = evaluate(dataset, damsm, generator, tmp_path / "metrics", smoke, second_damsm=second_damsm)
    own = artifacts.check(metrics, "metrics")["figures"]
    assert [figures[f"{SECOND}{whose}"] for whose in WHOSE] == [own[f"r_precision{whose}"] for whose in WHOSE]


def test_its_settings_are_its_own(second_damsm, generator, subject, first):
    judge = open_second_judge(second_damsm, subject, first=first, generator=generator)
    config = configs.load_file(second_damsm / "config.yaml")
    assert config.text_encoder.feature_dim == 12 != subject.model.config.text_encoder.feature_dim
    queries = subject.queries[:3]
    word_ids, lengths = subject.word_ids(queries, 5)
    assert word_ids.shape == (3, 5) and subject.word_ids(queries)[0].shape[1] > 5
    expected = trained_encoders.load(second_damsm, config, len(subject.model.vocabulary), torch.device("cpu"))
    assert torch.equal(judge.sentences(subject, queries), expected[0](word_ids, lengths)[1])
    images = subject.real([0, 1, 2])
    assert torch.equal(judge.extractor.extract(images)[0], expected[1](images)[1])
    assert judge.sentences(subject, queries).shape == judge.extractor.extract(images)[0].shape == (3, 12)


def test_the_judge_that_the_generator_was_trained_against_is_no_second_one(
    dataset, damsm, second_damsm, generator, subject, first, smoke, tmp_path
):
    refused = "found the judge that the generator was trained against; give one of another training"
    copy = shutil.copytree(damsm, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "0" * 64}))
    for again in (damsm, copy):
        with pytest.raises(InputError, match=refused):
            evaluate(dataset, damsm, generator, tmp_path / "metrics", smoke, second_damsm=again)
    assert not (tmp_path / "metrics").exists()
    other = open_second_judge(second_damsm, subject, first=first, generator=generator)
    with pytest.raises(InputError, match=refused):  # given in the other order
        open_second_judge(damsm, subject, first=other.extractor, generator=generator)


def test_a_judge_that_reads_other_words_is_refused(dataset, damsm, second_damsm, generator, smoke, tmp_path):
    other = shutil.copytree(second_damsm, tmp_path / "other")
    words = json.loads((other / "vocabulary.json").read_text())
    (other / "vocabulary.json").write_text(json.dumps([*words[:-1], "zyzzyva"]))
    manifest = json.loads((other / "manifest.json").read_text())
    entry = manifest["files"]["vocabulary.json"]
    entry["bytes"] = (other / "vocabulary.json").stat().st_size
    entry["sha256"] = artifacts.sha256_of(other / "vocabulary.json")
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"other: its vocabulary is not the dataset's; give a second DAMSM"):
        evaluate(dataset, damsm, generator, tmp_path / "metrics", smoke, second_damsm=other)


def test_what_is_no_whole_damsm_is_refused_before_a_picture_is_drawn(
    dataset, damsm, second_damsm, generator, smoke, tmp_path, monkeypatch
):
    monkeypatch.setattr(EvaluationPictures, "generated", lambda *_: pytest.fail("a picture was drawn"))
    torn = shutil.copytree(second_damsm, tmp_path / "torn")
    (torn / "text_encoder.safetensors").write_bytes(b"torn")
    for folder, words in (
        (tmp_path / "nowhere", "nowhere: no such folder; expected the damsm folder"),
        (generator, "expected a damsm folder, found a generator folder"),
        (torn, "text_encoder.safetensors"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate(dataset, damsm, generator, tmp_path / "metrics", smoke, second_damsm=folder)
    with pytest.raises(InputError, match="second"):
        evaluate(dataset, damsm, generator, second_damsm, smoke, second_damsm=second_damsm)  # would replace its input


def test_rows_of_the_second_judge_are_kept_and_belong_to_it(
    dataset, damsm, second_damsm, generator, judged, smoke, tmp_path, monkeypatch
):
    def interrupted(*_):
        raise InterruptedError

    out, given = tmp_path / "metrics", {"second_damsm": second_damsm}
    with monkeypatch.context() as patched:
        patched.setattr(step, "_figures", interrupted)
        with pytest.raises(InterruptedError):
            evaluate(dataset, damsm, generator, out, smoke, **given)
    (kept,) = tmp_path.glob("metrics.state/*/generated-0000000.safetensors")
    name = f"damsm-{artifacts.sha256_of(second_damsm / 'image_encoder.safetensors')[:8]}"
    columns = safetensors.torch.load_file(kept)
    assert columns[name].shape == columns["second sentence"].shape == (24, 12)
    with monkeypatch.context() as patched:
        patched.setattr(row_store, "_in_batches", lambda *_: pytest.fail("made again"))
        assert evaluate(dataset, damsm, generator, out, smoke, **given) == artifacts.check(judged, "metrics")["figures"]
    evaluate(dataset, damsm, generator, out, smoke)  # without it: other rows
    assert SECOND not in artifacts.check(out, "metrics")["figures"]
