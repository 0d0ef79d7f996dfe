"""A training that goes wrong says so and goes back; the best snapshot is the result; all of it survives kills."""

import json
import os
import shutil

import buckets
import pytest
import saved_states
import torch
from PIL import Image

from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.inference import weights
from attngan.steps import pretrain_damsm as encoders_step
from attngan.steps import train_generator as step
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.steps.train_generator import train_generator
from attngan.storage import artifacts, places, uris
from attngan.training import damsm_step, gan_step
from attngan.training import gan_watcher as watcher
from attngan.training.gan_step import training_step

pytestmark = pytest.mark.usefixtures("few_pictures")

INTERVAL = 4  # steps between snapshots: a third of an epoch of 12
FATAL = 10  # the step that goes wrong


@pytest.fixture
def config(smoke):
    return watched(smoke)


def watched(smoke, **settings):
    watch = smoke.watch.model_copy(update={"every_epochs": INTERVAL / 12, **settings})
    return smoke.model_copy(update={"watch": watch})


def weights_of(folder):
    return artifacts.check(folder, "generator", contents=True)["files"]["generator.safetensors"]["sha256"]


def delete(folder):
    """Delete a folder in which a state may just be being written, beside the training."""
    while os.path.exists(folder):
        shutil.rmtree(folder, ignore_errors=True)


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def spoil(monkeypatch, *, attempts=1, at=FATAL):
    """Make a weight of the generator NaN in step `at`, in the first so many attempts; return the steps taken."""
    taken = []

    def spoilt_step(run, batch):
        taken.append(run.step)
        losses = training_step(run, batch)
        if run.step == at and run.attempt < attempts:
            with torch.no_grad():
                next(run.generator.parameters()).fill_(torch.nan)
        return losses

    monkeypatch.setattr(gan_step, "training_step", spoilt_step)
    return taken


def test_a_weight_that_becomes_nan_costs_at_most_a_snapshot_interval(
    dataset, damsm, config, tmp_path, monkeypatch, capsys
):
    taken = spoil(monkeypatch)
    train_generator(dataset, damsm, tmp_path / "out", config)
    said = capsys.readouterr().out
    assert "step 12: the loss discriminator is nan; back from step 12 to 8, with 0.5 of the learning rate." in said
    assert taken == [*range(12), *range(8, 24)]
    state = saved_states.newest(f"{tmp_path / 'out'}.state")
    assert state["attempt"] == 1 and state["step"] == 24
    rates = [group["lr"] for group in state["generator's optimizer"]["param_groups"]]
    assert rates == [config.training.generator_learning_rate / 2]
    assert [row["step"] for row in rows_of(tmp_path / "out")] == list(range(2, 25, 2))
    assert "back from step 12 to 8" in (tmp_path / "out" / "progress.html").read_text()
    for network in ("generator", "generator_ema", "discriminators"):
        assert all(tensor.isfinite().all() for tensor in state[network].values())


def test_a_nan_before_the_first_snapshot_goes_back_to_the_start(dataset, damsm, config, tmp_path, monkeypatch):
    taken = spoil(monkeypatch, at=0)
    train_generator(dataset, damsm, tmp_path / "out", config)
    assert taken == [0, 1, *range(24)]


@pytest.mark.parametrize(
    "stop_at", [pytest.param(9, marks=pytest.mark.slow), 11, pytest.param(14, marks=pytest.mark.slow)]
)
def test_a_run_that_goes_back_and_is_killed_ends_as_one_that_was_not_killed(
    stop_at, dataset, damsm, config, tmp_path, monkeypatch
):
    spoil(monkeypatch)
    train_generator(dataset, damsm, tmp_path / "whole", config)
    eager = config.model_copy(update={"training": config.training.model_copy(update={"checkpoint_every_seconds": 0.0})})
    spoilt = gan_step.training_step
    deaths = [stop_at]

    def dying_step(run, batch):
        if deaths and run.step == deaths[0] and (run.attempt or stop_at < 12):
            deaths.clear()
            raise RuntimeError("the machine is gone")
        return spoilt(run, batch)

    monkeypatch.setattr(gan_step, "training_step", dying_step)
    with pytest.raises(RuntimeError):
        train_generator(dataset, damsm, tmp_path / "killed", eager)
    train_generator(dataset, damsm, tmp_path / "killed", eager)
    assert weights_of(tmp_path / "killed") == weights_of(tmp_path / "whole")


def test_a_run_that_goes_wrong_again_and_again_stops_and_keeps_its_last_good_state(
    dataset, damsm, smoke, tmp_path, monkeypatch
):
    taken = spoil(monkeypatch, attempts=9)
    with pytest.raises(InputError, match=r"step 12: the loss .* is nan; the run stopped after going back 2 times"):
        train_generator(dataset, damsm, tmp_path / "out", watched(smoke, max_roll_backs=2))
    assert taken == [*range(12), *range(8, 12), *range(8, 12)]
    state = saved_states.newest(f"{tmp_path / 'out'}.state")
    assert state["step"] == 8 and all(tensor.isfinite().all() for tensor in state["generator"].values())


def test_a_run_that_goes_wrong_after_its_states_were_deleted_says_both(dataset, damsm, config, tmp_path, monkeypatch):
    spoil(monkeypatch)
    spoilt = gan_step.training_step

    def deleting_step(run, batch):
        if run.step == 9:
            delete(f"{tmp_path / 'out'}.state")
        return spoilt(run, batch)

    monkeypatch.setattr(gan_step, "training_step", deleting_step)
    with pytest.raises(
        InputError, match=r"step 12: the loss .* is nan; the run cannot go back: .*: no good checkpoint is there to go"
    ):
        train_generator(dataset, damsm, tmp_path / "out", config)


def test_a_training_whose_states_are_deleted_ends_as_one_whose_were_not(
    dataset, damsm, generator, smoke, tmp_path, monkeypatch, capsys
):
    def deleting_step(run, batch):
        if run.step == 9:
            delete(f"{tmp_path / 'out'}.state")
        return training_step(run, batch)

    monkeypatch.setattr(gan_step, "training_step", deleting_step)
    train_generator(dataset, damsm, tmp_path / "out", smoke)
    assert capsys.readouterr().out.count("was deleted while the run went on; made anew with the state after step") == 1
    assert weights_of(tmp_path / "out") == weights_of(generator)
    assert saved_states.newest(f"{tmp_path / 'out'}.state")["step"] == 24


@pytest.mark.parametrize("setting", ["stop", "ignore"])
def test_nan_is_never_ignored(setting, dataset, damsm, smoke, tmp_path, monkeypatch):
    spoil(monkeypatch)
    with pytest.raises(InputError, match=r"step 12: the loss .* is nan; the run stopped. Its last good state is kept"):
        train_generator(dataset, damsm, tmp_path / "out", watched(smoke, on_trouble=setting))


def test_trouble_that_can_be_ignored_is_told_and_answered_as_the_setting_says(
    dataset, damsm, smoke, tmp_path, monkeypatch, capsys
):
    """The discriminators of the first attempt are called saturated from step 8 on."""

    def saturated(rows, _):
        return "they always win" if rows[-1]["step"] == 8 and not went_back else None

    went_back = []
    monkeypatch.setattr(watcher.watchdog, "saturated", saturated)
    with pytest.raises(InputError, match=r"step 8: they always win; .* or set watch.on_trouble=ignore, and run again"):
        train_generator(dataset, damsm, tmp_path / "out", watched(smoke, on_trouble="stop"))
    train_generator(dataset, damsm, tmp_path / "out", watched(smoke, on_trouble="ignore"))
    assert "step 8: they always win; ignored" in capsys.readouterr().out
    assert artifacts.check(tmp_path / "out", "generator")["steps"] == 24

    monkeypatch.setattr(step.GanRun, "go_back", lambda run, store: (went_back.append(run.step), go_back(run, store)))
    train_generator(dataset, damsm, tmp_path / "other", watched(smoke))
    assert went_back == [8]
    assert "step 8: they always win; back from step 8 to 4" in capsys.readouterr().out


go_back = step.GanRun.go_back


def measured(monkeypatch, figures):
    """Give snapshots these R-precisions, one after the other."""
    remaining = iter(figures)
    monkeypatch.setattr(step.SnapshotMetrics, "measure", lambda self: {**measure(self), "r_precision": next(remaining)})


measure = step.SnapshotMetrics.measure


def test_the_best_snapshot_is_the_result(dataset, damsm, smoke, tmp_path, monkeypatch):
    seen = {}

    def draw(self):
        drawn(self)
        seen[self.run.step] = {name: tensor.clone() for name, tensor in self.run.generator_ema.state_dict().items()}

    drawn = step.Snapshots.draw
    monkeypatch.setattr(step.Snapshots, "draw", draw)
    figures = [0.1, 0.2, 0.5, 0.4, 0.5, 0.3]
    for result, expected in (("best", 20), ("last", 24)):  # of equals the later one
        measured(monkeypatch, figures)
        out = tmp_path / result
        train_generator(dataset, damsm, out, watched(smoke, metric="r_precision", result=result))
        network = weights.build_generator(smoke)
        weights.load_weights(out / "generator.safetensors", network)
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, seen[expected][name], rtol=0, atol=0)
        assert artifacts.check(out, "generator")["best"]["step"] == 20
        assert "Best snapshot: step 20" in (out / "progress.html").read_text()


def test_settings_that_only_judge_go_on_from_the_state_and_the_best_so_far_is_judged_anew(
    dataset, damsm, smoke, tmp_path, monkeypatch, capsys
):
    """Snapshots at 4, 8 and 12 are judged by KID, then the best and those at 16, 20 and 24 by captions."""
    kids, precisions, seen = iter([3.0, 2.0, 1.0, 9.0, 9.0, 9.0, 9.0]), iter([0.1, 0.9, 0.5, 0.1, 0.2, 0.6, 0.3]), []

    def figures_of(self):
        seen.append({name: tensor.clone() for name, tensor in self.pictures.model.generator.state_dict().items()})
        return {**measure(self), f"kid_{self.extractor.name}": next(kids), "r_precision": next(precisions)}

    def dying_step(run, batch):
        if run.step == 13:
            raise RuntimeError("the machine is gone")
        return training_step(run, batch)

    few, more = watched(smoke), watched(smoke, metric="r_precision", num_images=24)
    more = more.model_copy(update={"evaluate": smoke.evaluate.model_copy(update={"num_candidates": 6})})
    out = tmp_path / "out"
    monkeypatch.setattr(step.SnapshotMetrics, "measure", figures_of)
    monkeypatch.setattr(gan_step, "training_step", dying_step)
    with pytest.raises(RuntimeError):
        train_generator(dataset, damsm, out, few)
    monkeypatch.setattr(gan_step, "training_step", training_step)
    capsys.readouterr()
    train_generator(dataset, damsm, out, more)
    said = capsys.readouterr().out
    assert "goes on after step 12" in said
    assert "-> r_precision, num_images 20 -> 24, num_candidates 8 -> 6): the best so far, that of step 12, is" in said
    assert all(torch.equal(seen[2][name], tensor) for name, tensor in seen[3].items())  # that of step 12, once more
    best, state = artifacts.check(out, "generator")["best"], saved_states.newest(f"{out}.state")
    assert (best["step"], best["r_precision"], state["num_since_best"]) == (20, 0.6, 1)
    assert all(torch.equal(seen[5][name], tensor) for name, tensor in state["best_weights"].items())

    monkeypatch.setattr(step.SnapshotMetrics, "measure", measure)
    train_generator(dataset, damsm, tmp_path / "whole", few)
    whole = saved_states.newest(f"{tmp_path / 'whole'}.state")
    for network in ("generator", "generator_ema", "discriminators"):
        assert all(torch.equal(whole[network][name], tensor) for name, tensor in state[network].items())


@pytest.mark.slow
def test_a_finished_training_that_is_judged_in_another_way_keeps_its_best_snapshot(
    dataset, damsm, smoke, tmp_path, monkeypatch
):
    measured(monkeypatch, [0.1, 0.9, 0.5, 0.4, 0.2, 0.2, 0.7])
    train_generator(dataset, damsm, tmp_path / "out", watched(smoke, metric="r_precision"))
    before = weights_of(tmp_path / "out")
    train_generator(dataset, damsm, tmp_path / "out", watched(smoke, metric="r_precision", num_images=24))
    best = artifacts.check(tmp_path / "out", "generator")["best"]
    assert (best["step"], best["r_precision"]) == (8, 0.7) and weights_of(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("setting", "goes_on"),
    [
        ("evaluate.num_candidates=50", True),
        ("watch.num_images=50", True),
        ("watch.metric=r_precision", True),
        ("watch.features=inception_fid", True),
        ("watch.patience=3", True),
        ("damsm.epochs=7", True),
        ("data.max_rejected_share=0.5", True),
        ("damsm.gamma2=3.0", False),
        ("data.max_words=7", False),
        ("watch.every_epochs=7.0", False),
        ("watch.learning_rate_factor=0.1", False),
        ("training.batch_size=7", False),
        ("seed=7", False),
    ],
)
def test_only_what_changes_a_state_is_part_of_its_key(setting, goes_on):
    before, after = configs.load(), configs.load(overrides=[setting])
    assert (step._shaping(before) == step._shaping(after)) == goes_on
    if not setting.startswith(("damsm.", "training.")):
        assert (encoders_step._shaping(before) == encoders_step._shaping(after)) == goes_on


def test_training_ends_where_patience_does_and_goes_on_with_more(dataset, damsm, smoke, tmp_path, monkeypatch, capsys):
    measured(monkeypatch, [0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
    impatient = watched(smoke, metric="r_precision", patience=2)
    train_generator(dataset, damsm, tmp_path / "out", impatient)
    assert "the last 2 snapshots are no better than that of step 8; training ends after step 16" in (
        capsys.readouterr().out
    )
    assert artifacts.check(tmp_path / "out", "generator")["steps"] == 16
    train_generator(dataset, damsm, tmp_path / "out", impatient)
    assert artifacts.check(tmp_path / "out", "generator")["steps"] == 16
    train_generator(dataset, damsm, tmp_path / "out", watched(smoke, metric="r_precision"))
    assert artifacts.check(tmp_path / "out", "generator")["steps"] == 24


@buckets.slow_in_clouds
def test_a_run_that_goes_on_elsewhere_shows_the_snapshots_from_before(
    dataset, damsm, config, tmp_path, root, monkeypatch
):
    """As a retry on a cluster does: the state is kept, the folder is new. While it runs, the page lies by the state."""

    def dying_step(run, batch):
        if run.step == 13:
            raise RuntimeError("the machine is gone")
        return training_step(run, batch)

    monkeypatch.setattr(gan_step, "training_step", dying_step)
    with pytest.raises(RuntimeError):
        train_generator(dataset, damsm, tmp_path / "first", config, state=root)
    (page,) = (name for name in places.names(root) if name.endswith("progress.html"))
    assert b"After 12 of 24 steps" in places.read(uris.join(root, page))[0]

    monkeypatch.setattr(gan_step, "training_step", training_step)
    left = tmp_path / "second" / "unfinished"  # by a run that was killed
    (left / "samples").mkdir(parents=True)
    (left / ".attngan").touch()
    (left / "samples" / "step-0000001.png").write_bytes(b"of another run")
    train_generator(dataset, damsm, tmp_path / "second", config, state=root)
    grids = sorted((tmp_path / "second" / "samples").iterdir())
    assert [path.name for path in grids] == [f"step-{number:07d}.png" for number in range(4, 25, 4)]
    with Image.open(tmp_path / "second" / "film.webp") as film:
        assert film.n_frames > 2
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "second" / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert [image.step for image in events.Images("samples")] == list(range(4, 25, 4))


def test_figures_of_a_snapshot_tell_good_pictures_from_bad_ones(dataset, damsm, smoke, monkeypatch):
    """In the place of the generator: real pictures of the captions, and noise."""
    from attngan.data.dataset import Dataset
    from attngan.training.gan_run import GanRun
    from attngan.training.snapshot_metrics import SnapshotMetrics

    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    figures = SnapshotMetrics(GanRun(smoke, train, damsm, torch.device("cpu")), train, test, damsm)
    drawn = figures.measure()
    assert drawn == figures.measure() and set(drawn) == {figures.metric, "r_precision", "variety"}
    monkeypatch.setattr(
        figures.pictures, "generated", lambda queries, first: figures.pictures.real([query.image for query in queries])
    )
    real = figures.measure()
    monkeypatch.setattr(
        figures.pictures, "generated", lambda queries, first: figures.pictures.noise(range(len(queries)))
    )
    noise = figures.measure()
    assert real[figures.metric] < min(drawn[figures.metric], noise[figures.metric])
    assert real["variety"] == pytest.approx(1.0, abs=0.2)
    monkeypatch.setattr(figures.pictures, "generated", lambda queries, first: figures.pictures.real([0] * len(queries)))
    assert figures.measure()["variety"] == 0.0


def test_variety_is_that_of_different_captions_however_often_each_comes(dataset, damsm, smoke, monkeypatch):
    from attngan.data.dataset import Dataset
    from attngan.training.gan_run import GanRun
    from attngan.training.snapshot_metrics import SnapshotMetrics

    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    figures = SnapshotMetrics(GanRun(smoke, train, damsm, torch.device("cpu")), train, test, damsm)
    pictures = figures.pictures
    monkeypatch.setattr(pictures, "queries", 2 * pictures.queries[:10])  # half-way round the list stands the same one
    monkeypatch.setattr(pictures, "generated", lambda queries, first: pictures.real([query.image for query in queries]))
    assert figures.measure()["variety"] > 0.5


@pytest.mark.parametrize("features", ["inception_fid", "inception_imagenet", "mobilenet_v2", "efficientnet_lite0"])
def test_features_without_their_weights_are_refused_before_the_training(features, dataset, damsm, smoke, tmp_path):
    with pytest.raises(InputError, match=f"{features} needs its weights; set evaluate.{features}.uri"):
        train_generator(dataset, damsm, tmp_path / "out", watched(smoke, features=features))


def test_of_the_networks_of_the_evaluation_only_the_one_that_snapshots_see_through_is_opened(
    dataset, damsm, smoke, imagenet, tmp_path
):
    from attngan.data.dataset import Dataset
    from attngan.training.gan_run import GanRun
    from attngan.training.snapshot_metrics import SnapshotMetrics

    given = {"mobilenet_v2": imagenet["mobilenet_v2"], "inception_imagenet": tmp_path / "nowhere.pth"}
    files = {setting: configs.WeightsFile(uri=str(path)) for setting, path in given.items()}
    config = watched(smoke, features="mobilenet_v2").model_copy(
        update={"evaluate": smoke.evaluate.model_copy(update=files)}
    )
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    figures = SnapshotMetrics(GanRun(config, train, damsm, torch.device("cpu")), train, test, damsm)
    assert figures.metric == f"kid_mobilenet-v2-{artifacts.sha256_of(imagenet['mobilenet_v2'])[:8]}"


def test_encoders_that_become_nan_go_back_too(dataset, smoke, tmp_path, monkeypatch, capsys):
    taken = []
    damsm_training_step = damsm_step.training_step

    def spoilt_step(run, batch):
        taken.append(run.step)
        damsm_training_step(run, batch)
        if run.step == 15 and not run.attempt:
            with torch.no_grad():
                next(run.text_encoder.parameters()).fill_(torch.nan)

    monkeypatch.setattr(damsm_step, "training_step", spoilt_step)
    pretrain_damsm(dataset, tmp_path / "out", smoke)
    assert taken == [*range(24), *range(12, 24)]
    assert "back from step 24 to 12, with 0.5 of the learning rate" in capsys.readouterr().out
    state = saved_states.newest(f"{tmp_path / 'out'}.state")
    assert all(tensor.isfinite().all() for tensor in state["text_encoder"].values())
    assert "back from step 24 to 12" in (tmp_path / "out" / "progress.html").read_text()


def test_the_encoders_page_shows_what_pictures_find(damsm):
    page = (damsm / "progress.html").read_text()
    assert page.count('alt="where the word') >= 6 and "Best epoch:" in page
    assert "http://" not in page and "https://" not in page
