"""The adversarial training: what it writes, and that whatever ends it, the same command goes on to the same weights."""

import json
import math
import os
import signal
import time
from pathlib import Path

import pytest
import saved_states
import torch
from dying_steps import dying_at
from forked import Command
from PIL import Image, ImageChops, ImageStat

from attngan.config import settings as configs
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.losses.damsm import DAMSM_LOSSES
from attngan.models import image_encoder
from attngan.pages import pictures
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.steps.train_generator import train_generator
from attngan.storage import artifacts, json_text
from attngan.training import gan_step
from attngan.training.gan_run import GanRun
from attngan.training.gan_step import training_step
from attngan.training.states import StateStore

pytestmark = pytest.mark.usefixtures("few_pictures")


def weights_of(folder):
    return artifacts.check(folder, "generator", contents=True)["files"]["generator.safetensors"]["sha256"]


def changed(smoke, **settings):
    return smoke.model_copy(update={"training": smoke.training.model_copy(update=settings)})


def test_the_folder_holds_all_that_drawing_needs_and_what_was_seen_on_the_way(generator):
    files = set(artifacts.check(generator, "generator", contents=True)["files"])
    assert {
        "generator.safetensors",
        "text_encoder.safetensors",
        "vocabulary.json",
        "config.yaml",
        "progress.html",
        "film.webp",
    } <= files
    assert any(name.startswith("samples/step-") for name in files)
    rows = [json.loads(line) for line in (generator / "metrics.jsonl").read_text().splitlines()]
    assert all({"discriminator", "adversarial", "kl", *DAMSM_LOSSES} <= row.keys() for row in rows)


def test_the_film_shows_the_captions_over_the_training(dataset, damsm, smoke, tmp_path):
    watch = smoke.watch.model_copy(update={"every_epochs": 0.25})
    config = changed(smoke, price_per_hour=3600.0).model_copy(update={"watch": watch})
    train_generator(dataset, damsm, tmp_path / "out", config)
    grids = sorted((tmp_path / "out" / "samples").glob("*.png"))
    with Image.open(tmp_path / "out" / "film.webp") as film, Image.open(grids[-1]) as last:
        assert film.n_frames == len(grids) and film.size == (last.width, last.height + pictures.TITLE_HEIGHT)
        film.seek(film.n_frames - 1)
        title, shown = film.convert("RGB").crop((0, 0, last.width, pictures.TITLE_HEIGHT)), film.convert("RGB")
        shown = shown.crop((0, pictures.TITLE_HEIGHT, *film.size))
        assert ImageStat.Stat(ImageChops.difference(shown, last.convert("RGB"))).mean[0] < 12
        assert ImageStat.Stat(title).extrema[0][0] < 100  # the step stands there
    page = (tmp_path / "out" / "progress.html").read_text()
    assert page.count('src="data:image/webp;base64,') == 1 and "http-equiv" not in page
    assert " images/s. At 3600 an hour: " in page and "where it looks for the word" in page


def test_the_progress_page_needs_no_network(generator):
    page = (generator / "progress.html").read_text()
    assert "data:image/png;base64," in page and "http://" not in page and "https://" not in page


def test_a_step_changes_every_network_and_the_encoders_not(dataset, damsm, smoke):
    train = Dataset.open(dataset, "train")
    run = GanRun(smoke, train, damsm, torch.device("cpu"))
    networks = {
        "G": run.generator,
        "EMA": run.generator_ema,
        "D": run.discriminators,
        "T": run.text_encoder,
        "I": run.image_encoder,
    }
    before = {name: [each.clone() for each in network.parameters()] for name, network in networks.items()}
    batch = train.training_batch(
        range(8), resolutions=smoke.resolutions, max_words=18, rng=torch.Generator().manual_seed(0)
    )
    losses = training_step(run, batch)
    moved = {
        name: [not torch.equal(old, new) for old, new in zip(before[name], network.parameters())]
        for name, network in networks.items()
    }
    assert all(moved["G"]) and all(moved["EMA"]) and all(moved["D"])
    assert not any(moved["T"]) and not any(moved["I"])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.slow
def test_both_trainings_see_through_mobilenet(dataset, smoke, imagenet, tmp_path, monkeypatch):
    """Looking at fewer pixels than its weights would like, which costs a tenth."""
    monkeypatch.setattr(image_encoder, "MOBILENET_SIDE", 64)
    overrides = ["image_encoder.kind=mobilenet_v2", "damsm.epochs=1", "training.epochs=1", "device=cpu"]
    config = configs.load_file(Path("smoke"), overrides=overrides)
    damsm = tmp_path / "damsm"
    found = pretrain_damsm(dataset, damsm, config, inception_weights=imagenet["mobilenet_v2"])
    assert 0 <= found["recall_at_1"] <= found["recall_at_5"] <= 1
    train_generator(dataset, damsm, tmp_path / "generator", config)
    rows = [json.loads(line) for line in (tmp_path / "generator" / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(row[name]) for row in rows for name in DAMSM_LOSSES)

    train = Dataset.open(dataset, "train")
    run = GanRun(config, train, damsm, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in run.image_encoder.state_dict().items()}
    losses = training_step(run, gan_step.batch_for(run, train, 0, 0))
    assert all(loss.isfinite() for loss in losses.values())
    after = run.image_encoder.state_dict()
    assert not run.image_encoder.training and all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("stop_at", [pytest.param(1, marks=pytest.mark.slow), 5, 9])
def test_a_run_that_dies_goes_on_to_the_same_weights_bit_for_bit(stop_at, dataset, damsm, generator, smoke, tmp_path):
    eager = changed(smoke, checkpoint_every_seconds=0.0)
    with dying_at(stop_at):
        train_generator(dataset, damsm, tmp_path / "generator", eager)
    train_generator(dataset, damsm, tmp_path / "generator", eager)
    assert weights_of(tmp_path / "generator") == weights_of(generator)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_a_command_that_is_stopped_goes_on_when_run_again(
    number, status, dataset, damsm, generator, smoke, tmp_path, monkeypatch
):
    (tmp_path / "config.yaml").write_text(configs.dump(changed(smoke, checkpoint_every_seconds=0.0)))
    out = tmp_path / "generator"
    command = ["train-generator", "--dataset", str(dataset), "--damsm", str(damsm)]
    command += ["--out", str(out), "--config", str(tmp_path / "config.yaml")]
    process = Command(command, tmp_path / "said")
    state = Path(f"{out}.state")
    deadline = time.monotonic() + 120
    while not list(state.glob("*/latest.json")) and process.status is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait() == status, process.said
    assert "Traceback" not in process.said
    monkeypatch.setenv("ATTNGAN_REVISION", "edited")  # a comment, say: the state serves all the same
    again = Command(command, tmp_path / "said again")
    assert again.wait() == 0, again.said
    assert "goes on after step" in again.said and "saved by another revision of attngan" in again.said
    assert weights_of(out) == weights_of(generator)


def test_a_run_that_is_stopped_says_that_its_state_could_not_be_sent(
    dataset, damsm, smoke, tmp_path, bucket, monkeypatch
):
    from attngan.storage import google_storage

    def stopped_step(run, batch):
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return training_step(run, batch)

    def fail(*_):
        raise InputError("the cloud is gone")

    monkeypatch.setattr(gan_step, "training_step", stopped_step)
    monkeypatch.setattr(google_storage, "upload", fail)
    with pytest.raises(InputError, match="the cloud is gone"):
        train_generator(dataset, damsm, tmp_path / "generator", smoke, state="gs://pictures/state")


def test_a_state_that_is_cut_off_costs_the_steps_since_the_one_before(dataset, damsm, generator, smoke, tmp_path):
    eager = changed(smoke, checkpoint_every_seconds=0.0)
    train_generator(dataset, damsm, tmp_path / "generator", eager)
    newest = saved_states.newest_file(f"{tmp_path / 'generator'}.state")
    newest.write_bytes(newest.read_bytes()[:1000])
    train_generator(dataset, damsm, tmp_path / "generator", eager)
    assert weights_of(tmp_path / "generator") == weights_of(generator)


def test_a_state_of_other_shapes_is_refused(dataset, damsm, smoke, tmp_path):
    state = tmp_path / "state"
    train_generator(dataset, damsm, tmp_path / "generator", smoke, state=str(state))
    saved = saved_states.newest(state)
    saved["generator"] = {name: tensor[:1] for name, tensor in saved["generator"].items() if tensor.ndim}
    saved_states.replace(state, saved)
    with pytest.raises(InputError, match="the checkpoint's generator does not fit this run"):
        train_generator(dataset, damsm, tmp_path / "generator", smoke, state=str(state))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_state(dataset, damsm, smoke, tmp_path, monkeypatch):
    def broken_step(run, batch):
        losses = training_step(run, batch)
        return {name: loss * float("nan") for name, loss in losses.items()} if run.step >= 3 else losses

    monkeypatch.setattr(gan_step, "training_step", broken_step)
    with pytest.raises(InputError, match="step 4: the loss discriminator is nan"):
        train_generator(dataset, damsm, tmp_path / "generator", smoke)


def test_a_damsm_of_another_vocabulary_is_refused(dataset, damsm, smoke, tmp_path):
    import shutil

    other = tmp_path / "damsm"
    shutil.copytree(damsm, other)
    words = json_text.read(other / "vocabulary.json")
    artifacts.write_json(other / "vocabulary.json", [*words[:-1], "zebra"])
    manifest = json_text.read(other / "manifest.json")
    artifacts.finish(other, "damsm", list(manifest["files"]))
    with pytest.raises(InputError, match="its vocabulary is not the dataset's"):
        train_generator(dataset, other, tmp_path / "generator", smoke)


@pytest.mark.slow
def test_one_step_of_the_papers_networks_at_256_pixels(birds, tmp_path):
    """Full size: Inception-v3 with random weights, three stages, three discriminators, batch of two."""
    from attngan.steps.preprocess import preprocess
    from attngan.training.damsm_run import DamsmRun
    from attngan.training.damsm_step import training_step as damsm_training_step

    config = configs.load("damsm: {batch_size: 2}\ntraining: {batch_size: 2}")
    preprocess(birds, tmp_path / "dataset", config)
    train = Dataset.open(tmp_path / "dataset", "train")
    batch = train.training_batch([0, 1], resolutions=[256], max_words=18, rng=torch.Generator().manual_seed(0))
    damsm = DamsmRun(config, train, torch.device("cpu"), None)
    damsm_training_step(damsm, batch)
    assert damsm.loss_sums.isfinite().all()

    run = _full_size_run(config, train, damsm, tmp_path)
    batch = train.training_batch([0, 1], resolutions=[64, 128, 256], max_words=18, rng=torch.Generator().manual_seed(0))
    assert all(loss.isfinite() for loss in training_step(run, batch).values())


def _full_size_run(config, train, damsm_run, folder):
    from attngan.inference import weights

    out = folder / "damsm"
    out.mkdir(parents=True, exist_ok=True)
    for name, network in damsm_run.networks().items():
        weights.save_weights(out / f"{name}.safetensors", network)
    train.vocabulary.save(out / "vocabulary.json")
    artifacts.write_text(out / "config.yaml", configs.dump(config))
    artifacts.finish(
        out, "damsm", ["text_encoder.safetensors", "image_encoder.safetensors", "vocabulary.json", "config.yaml"]
    )
    return GanRun(config, train, out, torch.device("cpu"))


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, list(range(13))), (1e9, [0, 12])])
def test_states_are_saved_by_time_and_at_snapshots(seconds, expected, dataset, damsm, smoke, tmp_path, monkeypatch):
    saved, save = [], StateStore.save
    monkeypatch.setattr(
        StateStore, "save", lambda store, step, state, **how: (saved.append(step), save(store, step, state, **how))
    )
    config = changed(smoke, checkpoint_every_seconds=seconds, epochs=1)
    train_generator(dataset, damsm, tmp_path / "generator", config)
    assert saved == expected


def test_the_newest_state_is_that_of_the_last_step(generator):
    state = saved_states.newest(f"{generator}.state")
    manifest = artifacts.check(generator, "generator")
    assert state["step"] == manifest["steps"]


def test_more_epochs_go_on_from_what_is_there(dataset, damsm, generator, smoke, tmp_path):
    state = tmp_path / "state"
    train_generator(dataset, damsm, tmp_path / "generator", changed(smoke, epochs=1), state=str(state))
    train_generator(dataset, damsm, tmp_path / "generator", smoke, state=str(state))
    assert weights_of(tmp_path / "generator") == weights_of(generator)
