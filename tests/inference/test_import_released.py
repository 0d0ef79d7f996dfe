"""Importing the authors' files: folders that draw and that training goes on from; files that do not belong together."""

import json

import pytest
import torch
from authors_files import of_image_encoder, of_text_encoder, text_encoder, write_all, write_vocabulary
from PIL import Image
from typer.testing import CliRunner

from attngan import cli
from attngan.config import settings as configs
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.inference import released, weights
from attngan.inference.released import import_released
from attngan.inference.text_to_image import TextToImage
from attngan.models.image_encoder import ImageEncoder
from attngan.steps.preprocess import preprocess
from attngan.storage import artifacts
from attngan.training.gan_run import GanRun


def call(files, out, *more):
    options = [part for name, path in files.items() for part in (f"--{name.replace('_', '-')}", str(path))]
    return CliRunner().invoke(cli.app, ["import-released", *options, "--out", str(out), *more])


def test_the_bundle_draws_what_the_authors_networks_draw(tmp_path):
    files = write_all(tmp_path / "authors")
    result = call(files, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [f"{tmp_path}/out/generator", f"{tmp_path}/out/bundle"]
    model = TextToImage.open(tmp_path / "out" / "bundle", kind="bundle")
    word_ids, lengths = model.read(["a red bird"])
    noise, epsilon = model.noise(1, seed=1)
    drawn = model.draw(word_ids, lengths, noise, epsilon)
    assert [image.shape[-1] for image in drawn.images] == [64, 128, 256]
    encoder, network = (
        released.load_text_encoder(files["text_encoder"]),
        released.load_generator(files["generator"]),
    )
    with torch.no_grad():
        words, sentence = encoder(word_ids, lengths)
        expected = network(noise, sentence, words, word_ids == 0, epsilon=epsilon)
    assert torch.equal(drawn.images[-1], expected.images[-1])
    provenance = json.loads((tmp_path / "out" / "bundle" / "provenance.json").read_text())
    assert provenance["imported"] == {name: artifacts.sha256_of(path) for name, path in files.items()}
    card = (tmp_path / "out" / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "attngan has not trained them" in card and "| data.resolution | 256 |" in card and "| training." not in card


def test_attn_dcgan_is_imported_with_settings_that_build_it_again(tmp_path):
    sizes = {"resolutions": [256], "num_stages": 3, "num_residual_blocks": 0}
    files = write_all(tmp_path / "authors", **sizes)
    result = call(files, tmp_path / "out")
    assert result.exit_code == 0, result.output
    config = configs.load_file(tmp_path / "out" / "bundle" / "config.yaml")
    assert config.resolutions == [256] and config.generator.num_stages == 3
    assert config.generator.num_residual_blocks == 0 and not config.discriminator.unconditional
    assert [each.unconditional for each in weights.build_discriminators(config)] == [None]
    model, original = TextToImage.open(tmp_path / "out" / "bundle", kind="bundle"), files["generator"]
    theirs = released.load_generator(original).state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.generator.state_dict().items())
    arguments = ["generate", str(tmp_path / "out"), "a small red bird", "--out", str(tmp_path / "pictures")]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    with Image.open(next((tmp_path / "pictures").glob("*.png"))) as picture:
        assert picture.size == (256, 256)


@pytest.mark.parametrize("named", ["out", "out/bundle"])
def test_generate_draws_from_the_imported_bundle(tmp_path, named):
    call(write_all(tmp_path / "authors"), tmp_path / "out")
    arguments = ["generate", str(tmp_path / named), "a small red bird with black wings", "-n", "2"]
    result = CliRunner().invoke(cli.app, [*arguments, "--out", str(tmp_path / "pictures")])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3


def test_training_goes_on_from_the_imported_encoders(tmp_path, birds):
    files = write_all(tmp_path / "authors")
    image_encoder = tmp_path / "authors" / "image_encoder200.pth"
    torch.save(of_image_encoder(ImageEncoder(feature_dim=12)), image_encoder)
    paths = [files[name] for name in ("text_encoder", "generator", "vocabulary")]
    folders = import_released(*paths, tmp_path / "out", image_encoder=image_encoder)
    assert [folder.name for folder in folders] == ["damsm", "generator", "bundle"]
    damsm, dataset = tmp_path / "out" / "damsm", tmp_path / "dataset"
    small = ["data.resolution=64", "generator.num_stages=1", "discriminator.channels=2"]
    settings = configs.load_file(damsm / "config.yaml", overrides=small)
    preprocess(birds, dataset, settings, vocabulary=damsm / "vocabulary.json")
    run = GanRun(settings, Dataset.open(dataset, "train"), damsm, torch.device("cpu"))
    original = released.load_text_encoder(files["text_encoder"])
    assert torch.equal(run.text_encoder.embedding.weight, original.embedding.weight)
    trunk = released.load_image_encoder(image_encoder).trunk.state_dict()
    assert all(torch.equal(tensor, trunk[name]) for name, tensor in run.image_encoder.trunk.state_dict().items())


def test_a_vocabulary_that_does_not_fit_is_refused_with_both_sizes_and_nothing_is_written(tmp_path):
    files = write_all(tmp_path / "authors")
    write_vocabulary(files["vocabulary"], ["<end>", "a", "bird"])
    result = call(files, tmp_path / "out")
    assert result.exit_code == 2
    assert "captions.pickle has 3 words" in result.stderr and "text_encoder200.pth has 8" in result.stderr
    assert not list((tmp_path / "out").glob("*"))


def test_encoders_and_generators_of_different_trainings_are_refused(tmp_path):
    files = write_all(tmp_path / "authors")
    torch.save(of_text_encoder(text_encoder(feature_dim=8)), files["text_encoder"])
    with pytest.raises(InputError, match=r"text_encoder200\.pth has 8 features, .*AttnGAN2\.pth has 12"):
        import_released(files["text_encoder"], files["generator"], files["vocabulary"], tmp_path / "out")


@pytest.mark.parametrize("name", ["text_encoder", "generator", "vocabulary"])
def test_a_damaged_file_ends_with_one_sentence_and_status_2(tmp_path, name):
    files = write_all(tmp_path / "authors")
    files[name].write_bytes(files[name].read_bytes()[: files[name].stat().st_size // 2])
    result = call(files, tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"attngan: {files[name]}: not a whole")
    assert len(result.stderr.splitlines()) == 1
