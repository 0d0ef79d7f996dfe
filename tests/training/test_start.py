"""Trainings that begin with the weights of a model: known words keep their embedding, sizes must fit."""

import shutil
import tempfile

import drawn_things
import pytest
import torch
from typer.testing import CliRunner

from attngan import cli
from attngan.data.captions import END, Vocabulary
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.inference.text_to_image import TextToImage
from attngan.models import image_encoder
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.steps.train_generator import train_generator
from attngan.storage import artifacts
from attngan.training import damsm_features, start, trunk_features
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun

CPU = torch.device("cpu")


@pytest.fixture
def run(dataset, smoke):
    return DamsmRun(smoke, Dataset.open(dataset, "train"), CPU, None)


def changed(config, section, **settings):
    return config.model_copy(update={section: getattr(config, section).model_copy(update=settings)})


def test_words_that_both_know_keep_their_embedding_and_new_ones_start_fresh(run, damsm):
    theirs = Vocabulary.load(damsm / "vocabulary.json")
    count = len(run.text_encoder.embedding.weight)
    ours = Vocabulary([END, "zebra", *theirs.words[1 : count - 1][::-1]])
    before = run.text_encoder.embedding.weight.detach().clone()
    made = start.encoders_from(damsm, run, ours)
    assert made == artifacts.check(damsm, "damsm")["fingerprint"]
    weights = torch_weights(damsm / "text_encoder.safetensors")
    now = run.text_encoder.embedding.weight.detach()
    assert torch.equal(now[1], before[1])
    for word in theirs.words[1:5]:
        assert torch.equal(now[ours.words.index(word)], weights["embedding.weight"][theirs.words.index(word)])
    assert torch.equal(run.text_encoder.lstm.weight_ih_l0, weights["lstm.weight_ih_l0"])
    images = torch_weights(damsm / "image_encoder.safetensors")
    assert all(torch.equal(tensor, images[name]) for name, tensor in run.image_encoder.state_dict().items())


@pytest.mark.parametrize("features_kept_before", [False, True])
def test_the_trunk_of_a_model_comes_with_it_and_stays_as_it_is(
    features_kept_before, dataset, smoke, imagenet, tmp_path, capsys, monkeypatch
):
    """Whatever weights are given beside it, and whatever another run has left of what its own trunk saw."""
    monkeypatch.setattr(image_encoder, "MOBILENET_SIDE", 64)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = changed(changed(smoke, "image_encoder", kind="mobilenet_v2"), "damsm", trunk_views=1, steps=2)
    given = imagenet["mobilenet_v2"]
    pretrain_damsm(dataset, tmp_path / "before", config, inception_weights=given)
    model, shifted = tmp_path / "before" / "image_encoder.safetensors", tmp_path / "shifted.pth"
    torch.save({name: tensor + 1 for name, tensor in torch.load(given, weights_only=True).items()}, shifted)
    if features_kept_before:
        monkeypatch.setattr(trunk_features, "forget", lambda names: None)
        pretrain_damsm(dataset, tmp_path / "shifted", config, inception_weights=shifted)
    capsys.readouterr()
    seen = []
    monkeypatch.setattr(DamsmRun, "load_best", lambda run: seen.append(run))
    weights = {"inception_weights": shifted} if features_kept_before else {}
    pretrain_damsm(dataset, tmp_path / "after", config, start_from=tmp_path / "before", **weights)
    said = capsys.readouterr().out
    assert "starts at random" not in said and ("--inception-weights are not used" in said) == features_kept_before
    trunk = {name: tensor for name, tensor in torch_weights(model).items() if name.startswith("trunk.")}
    made = torch_weights(tmp_path / "after" / "image_encoder.safetensors")
    assert all(torch.equal(made[name], tensor) for name, tensor in trunk.items())
    assert not torch.equal(made["project_image.weight"], torch_weights(model)["project_image.weight"])
    (run,) = seen
    train = Dataset.open(dataset, "train")
    some = range(min(trunk_features.BATCH_SIZE, len(train)))  # as many as it is asked about at once
    records, _ = trunk_features.extract(run.image_encoder, damsm_features._cut(run, train, some, 0))
    assert torch.equal(run.trunk.records[list(some), 0], records)


def torch_weights(path):
    import safetensors.torch

    return safetensors.torch.load_file(path)


def test_a_bundle_has_no_image_encoder_and_that_is_said(run, bundle, dataset, capsys):
    before = {name: tensor.clone() for name, tensor in run.image_encoder.state_dict().items()}
    start.encoders_from(bundle, run, Dataset.open(dataset, "train").vocabulary)
    assert "there is no image encoder in" in capsys.readouterr().out
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.image_encoder.state_dict().items())


def test_generator_and_average_begin_with_the_bundles(dataset, damsm, generator, bundle, smoke):
    other = changed(smoke, "training", epochs=3).model_copy(update={"seed": 7})
    run = GanRun(other, Dataset.open(dataset, "train"), damsm, CPU)
    start.generator_from(bundle, run)
    weights = torch_weights(generator / "generator.safetensors")
    for network in (run.generator, run.generator_ema):
        assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("section", "setting", "value", "words"),
    [
        ("text_encoder", "feature_dim", 32, "text_encoder.feature_dim is 16 there and 32 here"),
        ("image_encoder", "channels", 8, "image_encoder.channels is 4 there and 8 here"),
    ],
)
def test_other_sizes_are_refused_with_both(section, setting, value, words, dataset, damsm, smoke, tmp_path):
    with pytest.raises(InputError, match=words):
        pretrain_damsm(dataset, tmp_path / "out", changed(smoke, section, **{setting: value}), start_from=damsm)


def test_every_size_of_the_generator_that_differs_is_named(dataset, damsm, bundle, smoke, tmp_path):
    config = changed(smoke, "generator", channels=8, noise_dim=9)
    with pytest.raises(InputError, match=r"channels is 4 there and 8 here; generator.noise_dim is 8 there and 9 here"):
        train_generator(dataset, damsm, tmp_path / "out", config, start_from=bundle)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("finest_only", True, "False there and True here"),
        ("upsampling", "bilinear", "nearest there and bilinear here"),
    ],
)
def test_a_generator_that_draws_otherwise_is_refused_by_the_setting(
    setting, value, said, dataset, damsm, bundle, smoke, tmp_path
):
    config = changed(smoke, "generator", **{setting: value})
    with pytest.raises(InputError, match=rf"generator\.{setting} is {said}"):
        train_generator(dataset, damsm, tmp_path / "out", config, start_from=bundle)


@pytest.mark.parametrize("what", ["nothing", "a dataset"])
def test_what_is_no_model_is_one_sentence(what, dataset, run, tmp_path):
    with pytest.raises(InputError, match="expected a result of kind damsm, bundle, generator, found none"):
        start.encoders_from(tmp_path if what == "nothing" else dataset, run, Vocabulary([END]))


def test_the_result_says_where_it_began_and_another_beginning_is_another_run(dataset, damsm, bundle, smoke, tmp_path):
    config = changed(smoke, "training", steps=2)
    for name, begin in (("begun", bundle), ("fresh", None)):
        train_generator(dataset, damsm, tmp_path / name, config, start_from=begin, state=str(tmp_path / "state"))
    said = {name: artifacts.check(tmp_path / name, "generator").get("start_from") for name in ("begun", "fresh")}
    assert said == {"begun": artifacts.check(bundle, "bundle")["fingerprint"], "fresh": None}
    assert len(list((tmp_path / "state").glob("train_generator-*"))) == 2
    shutil.rmtree(tmp_path / "begun")
    more = changed(smoke, "training", steps=3)
    train_generator(dataset, damsm, tmp_path / "begun", more, start_from=bundle, state=str(tmp_path / "state"))
    assert artifacts.check(tmp_path / "begun", "generator")["steps"] == 3
    assert len(list((tmp_path / "state").glob("train_generator-*"))) == 2  # it went on


@pytest.mark.slow
def test_one_command_goes_on_from_a_run_on_other_pictures_with_networks_of_its_sizes(
    damsm, generator, bundle, tmp_path
):
    before = tmp_path / "before"
    for folder in (damsm, generator, bundle):
        shutil.copytree(folder, before / folder.name)
    drawn_things.draw(tmp_path / "things", 24)
    flags = ["--start-from", str(before), "--config", "tiny", "--set", "damsm.steps=2", "--set", "training.steps=2"]
    flags += ["--set", "damsm.batch_size=8", "--set", "evaluate.num_images=20", "--set", "device=cpu"]
    ended = CliRunner().invoke(cli.app, ["train", str(tmp_path / "things"), "--out", str(tmp_path / "run"), *flags])
    assert ended.exit_code == 0, ended.output
    assert "DAMSM: starts from" in ended.output and "generator: starts from" in ended.output
    assert TextToImage.open(tmp_path / "run" / "bundle", kind="bundle").config.generator.channels == 4
    (before / "generator" / "more.txt").write_text("another model, whatever its encoders are")
    again = CliRunner().invoke(cli.app, ["train", str(tmp_path / "things"), "--out", str(tmp_path / "run"), *flags])
    assert again.exit_code == 0, again.output
    assert "step 3 of 6: train the generator: done before" not in again.output
