"""The evaluate step: figures with controls, intervals, conditions; it goes on after a kill; the report opens alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torchvision

from attngan.config import settings as configs
from attngan.data.captions import COLOURS
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.evaluation import evaluation_report, extractors, row_store
from attngan.evaluation.drawn_colours import colour_figures
from attngan.evaluation.measures import MetricMaker
from attngan.evaluation.picture_sets import EvaluationPictures
from attngan.inference.text_to_image import TextToImage
from attngan.metrics.distribution import Rows
from attngan.models.efficientnet_lite import EfficientNetLite0
from attngan.pages import pictures, report
from attngan.steps import evaluate as step
from attngan.steps.evaluate import evaluate
from attngan.steps.preprocess import preprocess
from attngan.storage import artifacts


def with_settings(config, **changes):
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update=changes)})


@pytest.fixture(scope="module")
def judge(damsm):
    return f"damsm-{artifacts.sha256_of(damsm / 'image_encoder.safetensors')[:8]}"


@pytest.fixture(scope="module")
def subject(dataset, generator, smoke):
    model = TextToImage.open(generator, kind="generator")
    test, train = Dataset.open(dataset, "test"), Dataset.open(dataset, "train")
    return EvaluationPictures(model, test, train, smoke.seed, num_images=24, num_pairs=6)


def test_every_figure_has_its_interval_its_conditions_and_its_controls(metrics, judge):
    measured = json.loads((metrics / "metrics.json").read_text())
    figures, details = measured["figures"], measured["details"]
    assert artifacts.check(metrics, "metrics", contents=True)["figures"] == figures
    assert figures.keys() == details.keys()
    for name, each in details.items():
        assert each["low"] <= each["value"] == figures[name] <= each["high"], name
        assert each["generated"] > 0
        assert each["features"] in ("", "pixels") or each["features"] in measured["conditions"]
    kinds = ["kid", "fid", "precision", "recall"]
    expected = {f"{kind}_{judge}{whose}" for kind in kinds for whose in ("", "_real", "_noise", "_blurred")}
    expected |= {f"r_precision{whose}" for whose in ("", "_real", "_noise", "_blurred", "_shuffled")}
    expected |= {f"{part}_colour{whose}" for part in ("body", "wing") for whose in ("", "_real", "_shuffled")}
    for features in (judge, "pixels"):
        expected |= {f"diversity_{features}", f"diversity_{features}_held", f"swap_{features}"}
        expected |= {f"swap_{features}_held", f"swap_{features}_other_caption"}
    expected |= {
        f"{kind}_pixels{whose}"
        for kind in ("near_copies", "nearest_distance")
        for whose in ("", "_real", "_blurred", "_copies")
    }
    expected |= {f"contrast_pixels{whose}" for whose in ("", "_real", "_blurred")}
    assert figures.keys() == expected
    assert measured["conditions"][judge]["sha256"].startswith(judge.removeprefix("damsm-"))


def test_a_generator_that_draws_more_pixels_than_the_dataset_has_is_refused(birds, damsm, generator, smoke, tmp_path):
    small = smoke.model_copy(update={"data": smoke.data.model_copy(update={"resolution": 16})})
    preprocess(birds, tmp_path / "dataset", small)
    with pytest.raises(InputError, match=r"stored for 16 pixels, .*generator draws 32; evaluate it on its own dataset"):
        evaluate(tmp_path / "dataset", damsm, generator, tmp_path / "metrics", smoke)


def test_the_controls_land_where_they_must(metrics, judge):
    figures = artifacts.check(metrics, "metrics")["figures"]
    assert figures["body_colour_real"] >= 0.9 and figures["wing_colour_real"] >= 0.9
    assert figures["body_colour_shuffled"] <= 0.5 and figures["wing_colour_shuffled"] <= 0.5
    assert figures[f"kid_{judge}_real"] < figures[f"kid_{judge}_noise"]
    assert figures["swap_pixels_held"] == 0 and figures["near_copies_pixels_copies"] == 1
    assert figures["swap_pixels"] > 0 and figures["diversity_pixels"] > 0


def test_the_same_seed_measures_the_same_and_leaves_no_state(dataset, damsm, generator, metrics, smoke, tmp_path):
    again = evaluate(dataset, damsm, generator, tmp_path / "metrics", smoke)
    assert again == artifacts.check(metrics, "metrics")["figures"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics"]


@pytest.mark.parametrize(
    "attributes",
    [None, {}, {"named": []}, {"body": "red", "wing": "blue"}, {"named": [["body", "wing"]] * 10, "body": "mauve"}],
    ids=str,
)
def test_colours_are_not_read_where_nothing_says_what_captions_name(attributes, subject, smoke, monkeypatch, capsys):
    records = [{**record, "attributes": attributes} for record in subject.test.records]
    monkeypatch.setitem(subject.test.__dict__, "records", records)
    assert colour_figures(subject, SimpleNamespace(settings=smoke.evaluate), {"red": [255, 0, 0]}) == ({}, [])
    assert "no test caption names the colours of body and wing" in capsys.readouterr().out


def test_other_sizes_of_batches_draw_the_same_pictures(subject):
    queries = subject.queries
    together = subject.generated(queries[:6], 0)
    apart = torch.cat([subject.generated(queries[:2], 0), subject.generated(queries[2:6], 2)])
    assert torch.allclose(together, apart, atol=1e-5)
    assert not torch.allclose(together[:1], subject.generated(queries[:1], 1), atol=1e-2)


def test_one_colour_word_is_swapped_and_nothing_else(subject):
    numbers = range(len(subject.pairs))
    before = subject.word_ids(subject.pairs)[0]
    after = subject.swap_colours(before, numbers)
    assert ((before != after).sum(dim=1) == 1).all()
    words = subject.model.vocabulary.words
    changed = before != after
    for ids in (before[changed], after[changed]):
        assert {words[index] for index in ids.tolist()} <= set(COLOURS)
    drawn = subject.pair(numbers)
    assert torch.equal(drawn["first"], drawn["again"])
    assert all((drawn[name] - drawn["first"]).abs().max() > 1e-3 for name in ("noise", "swapped", "caption"))


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(dataset, damsm, generator, metrics, smoke, tmp_path):
    script = f"""
import os, signal, sys
from attngan.evaluation import evaluation_report, extractors, row_store
row_store.PART = 5
keep = row_store.RowStore._keep
def kept(self, part, made):
    keep(self, part, made)
    if part == "real-0000005.safetensors":
        os.kill(os.getpid(), signal.SIGKILL)
row_store.RowStore._keep = kept
from attngan.cli import main
sys.argv = ["attngan", "evaluate", "--dataset", {str(dataset)!r}, "--damsm", {str(damsm)!r},
            "--generator", {str(generator)!r}, "--out", {str(tmp_path / "metrics")!r}, "--config", "smoke"]
main()
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "metrics" / "manifest.json").exists()
    seen = sorted(path.name for path in tmp_path.glob("metrics.state/*/*.safetensors"))
    assert seen[-2:] == ["real-0000000.safetensors", "real-0000005.safetensors"] and len(seen) > 2
    before, row_store.PART = row_store.PART, 5
    made = []
    original = row_store._in_batches
    try:
        row_store._in_batches = lambda numbers, *others: made.append(numbers) or original(numbers, *others)
        figures = evaluate(dataset, damsm, generator, tmp_path / "metrics", smoke)
    finally:
        row_store.PART, row_store._in_batches = before, original
    assert made[0] == range(10, 15)  # of the real pictures: the generated ones were there
    expected = artifacts.check(metrics, "metrics")["figures"]
    assert figures == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "value", "goes_on"),
    [("num_candidates", 5, True), ("kid_subset_size", 5, True), ("num_resamples", 5, True), ("num_images", 25, False)],
)
def test_settings_that_only_make_figures_go_on_from_what_was_seen(
    name, value, goes_on, dataset, damsm, generator, smoke, tmp_path, monkeypatch
):
    def opened(root, key):
        keys.append(key)
        raise InterruptedError

    keys = []
    monkeypatch.setattr(step, "open_store", opened)
    other = smoke.model_copy(update={"evaluate": smoke.evaluate.model_copy(update={name: value})})
    for config in (smoke, other):
        with pytest.raises(InterruptedError):
            evaluate(dataset, damsm, generator, tmp_path / "metrics", config)
    assert (keys[0] == keys[1]) == goes_on


def test_what_was_seen_through_other_weights_is_not_gone_on_from_and_through_moved_ones_it_is(
    dataset, damsm, generator, smoke, tmp_path, monkeypatch
):
    def key_with(weights):
        config = with_settings(smoke, efficientnet_lite0=configs.WeightsFile(uri=str(weights)))
        with pytest.raises(InterruptedError) as stopped:
            evaluate(dataset, damsm, generator, tmp_path / "metrics", config)
        return stopped.value.args[0]

    def opened(root, key):
        raise InterruptedError(key)

    monkeypatch.setattr(step, "open_store", opened)
    path, moved = tmp_path / "weights.pth", tmp_path / "moved.pth"
    torch.save(EfficientNetLite0().state_dict(), path)
    first = key_with(path)
    shutil.move(path, moved)
    assert key_with(moved) == first
    torch.save({name: each + 1 for name, each in EfficientNetLite0().state_dict().items()}, path)
    assert key_with(path) != first


def test_the_report_is_one_page_that_names_its_conditions(metrics, dataset):
    page = (metrics / "report.html").read_text()
    assert artifacts.check(dataset, "dataset")["fingerprint"] in page
    assert "data:image/png;base64," in page and "https://" not in page
    measured = json.loads((metrics / "metrics.json").read_text())
    for sentence in (*measured["broken"], *measured["findings"]):
        assert sentence.split(":")[0] in page
    assert ("All controls came out" in page) == (not measured["broken"])
    assert "these are the most alike, by pixels." in page
    assert "the farthest from every real one, by the encoders: the worst first." in page
    assert page.count(", and the nearest training picture") == page.count(", and the nearest real picture") == 6


def test_the_least_real_pictures_are_those_that_no_real_one_of_either_split_is_near_to(smoke):
    def rows(*numbers):
        return {"eyes": Rows(torch.tensor([[float(number), 0.0] for number in numbers]))}

    tables = {"generated": rows(0, 50, 100, 7), "train": rows(1, 40, 8), "real": rows(0, 103)}
    found = MetricMaker(smoke.evaluate, 0, tables).least_real("eyes", 3)
    assert found == [(1, "train", 1), (2, "real", 1), (3, "train", 2)]


def test_a_pair_of_the_report_is_the_generated_picture_and_the_real_one(subject):
    query = subject.queries[3]
    for split, table in ((subject.train, "train"), (subject.test, "real")):
        (shown,) = evaluation_report.strangest(subject, [(3, table, 5)])
        both = torch.cat([subject.generated([query], 3), subject.real([5], split)])
        assert shown["png"] == report.embedded(pictures.grid([pictures.to_pictures(both)]))
        assert shown["caption"] == subject.texts([query])[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "make", "called"),
    [
        (
            "inception_imagenet",
            lambda: torchvision.models.inception_v3(weights=None, init_weights=False),
            "Inception (of ImageNet)",
        ),
        ("mobilenet_v2", lambda: torchvision.models.mobilenet_v2(weights=None), "MobileNetV2 (of ImageNet)"),
        ("efficientnet_lite0", EfficientNetLite0, "EfficientNet-Lite0 (of ImageNet)"),
    ],
    ids=["inception_imagenet", "mobilenet_v2", "efficientnet_lite0"],
)
def test_weights_of_others_add_their_own_figures(
    setting, make, called, dataset, damsm, generator, smoke, tmp_path, monkeypatch
):
    for side in ("INCEPTION_SIDE", "MOBILENET_SIDE", "EFFICIENTNET_SIDE"):
        monkeypatch.setattr(extractors, side, 107)  # pixels that they look at: a tenth of the work
    torch.manual_seed(0)
    torch.save(make().state_dict(), tmp_path / "weights.pth")
    weights_file = configs.WeightsFile(uri=str(tmp_path / "weights.pth"))
    changed = with_settings(smoke, **{setting: weights_file}, num_resamples=2, num_pairs=2)
    figures = evaluate(dataset, damsm, generator, tmp_path / "metrics", changed)
    name = f"{setting.replace('_', '-')}-{artifacts.sha256_of(tmp_path / 'weights.pth')[:8]}"
    page = (tmp_path / "metrics" / "report.html").read_text()
    assert f"the most alike, by {called}." in page and f"every real one, by {called}: the worst" in page
    kinds = ("kid", "fid", "precision", "recall", "inception_score", "diversity", "swap", "near_copies")
    assert {f"{kind}_{name}" for kind in kinds} <= figures.keys()
    assert figures[f"inception_score_{name}"] > 1 - 1e-9 and "flatter" not in page


def test_a_batch_that_does_not_fit_is_told_with_one_that_does(dataset, damsm, generator, smoke, tmp_path, monkeypatch):
    generated = EvaluationPictures.generated

    def draw(pictures, queries, first, *purpose):
        if len(queries) > 7:
            raise torch.OutOfMemoryError("no room")
        return generated(pictures, queries, first, *purpose)

    monkeypatch.setattr(EvaluationPictures, "generated", draw)
    changed = with_settings(smoke, batch_size=16)
    with pytest.raises(InputError, match=r"evaluate\.batch_size: a batch of 16 pictures does not fit .* one of 4 does"):
        evaluate(dataset, damsm, generator, tmp_path / "metrics", changed)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(dataset, damsm, second_damsm, generator, tmp_path):
    peaks = []
    for count in (500, 10_000):
        script = f"""
from pathlib import Path
from attngan.config import settings as config
from attngan.steps.evaluate import evaluate
settings = config.load_file(Path("smoke"), overrides=["evaluate.num_images={count}"])
folders = [Path(each) for each in {[str(dataset), str(damsm), str(generator)]!r}]
evaluate(*folders, Path({str(tmp_path / str(count))!r}), settings, second_damsm=Path({str(second_damsm)!r}))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
        out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        peaks.append(int(out.split()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 80, peaks  # MiB; ten thousand pictures of 32 pixels would be 117
