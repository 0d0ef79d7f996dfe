"""Weights on disk: what is read is what was written, and what does not fit is named."""

import resource
import shutil

import pytest
import safetensors.torch
import torch
import yaml

from attngan.config import settings as configs
from attngan.data.captions import Vocabulary
from attngan.errors import InputError, is_lasting
from attngan.inference import trained_encoders, weights
from attngan.inference.text_to_image import TextToImage
from attngan.models.text_encoder import TextEncoder, read_packed
from attngan.runtime import acceleration, machine
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.steps.train_generator import train_generator
from attngan.storage import artifacts


def encoder(**changes) -> TextEncoder:
    return TextEncoder(**({"vocabulary_size": 9, "embedding_dim": 4, "feature_dim": 6} | changes))


def test_weights_come_back_as_they_were(tmp_path):
    original, copy = encoder(), encoder()
    weights.save_weights(tmp_path / "w.safetensors", original)
    weights.load_weights(tmp_path / "w.safetensors", copy)
    assert all(torch.equal(a, b) for a, b in zip(original.state_dict().values(), copy.state_dict().values()))


def test_weights_of_other_shapes_other_networks_and_cut_off_files_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save_weights(path, encoder())
    with pytest.raises(InputError, match=r"embedding\.weight has shape \(9, 4\), this TextEncoder needs \(12, 4\)"):
        weights.load_weights(path, encoder(vocabulary_size=12))
    with pytest.raises(InputError, match=r"weight is missing, .*embedding\.weight is extra"):
        weights.load_weights(path, torch.nn.Linear(2, 2))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        weights.load_weights(path, encoder())
    with pytest.raises(InputError, match="no such file"):
        weights.load_weights(tmp_path / "absent", encoder())


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="device: 'cuda:7' cannot be used here"):
        acceleration.set_up_device(configs.load("device: 'cuda:7'"))
    for name in ("gpu", "meta", "cuda:", "cuda:one"):
        with pytest.raises(
            InputError, match=f"^device: expected auto, cpu, cuda or cuda:N, found '{name}'.$"
        ) as caught:
            acceleration.set_up_device(configs.load(f"device: '{name}'"))
        assert is_lasting(caught.value)  # no other node knows it either


@pytest.mark.parametrize(("asked", "current", "expected"), [("auto", 2, 2), ("cuda", 1, 1), ("cuda:3", 0, 3)])
def test_a_cuda_device_has_its_number_and_is_the_current_one(monkeypatch, asked, current, expected):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)  # which would ask for the device
    assert acceleration.set_up_device(configs.load(f"device: '{asked}'")) == torch.device("cuda", expected)
    assert taken == [torch.device("cuda", expected)]


def test_encoders_of_another_config_are_refused(damsm, smoke):
    other = smoke.model_copy(update={"text_encoder": smoke.text_encoder.model_copy(update={"embedding_dim": 8})})
    with pytest.raises(InputError, match=f"its text_encoder was trained as .*: --config {damsm / 'config.yaml'}"):
        trained_encoders.load(damsm, other, 50, torch.device("cpu"))


def test_encoders_with_a_trunk_come_back_as_they_were_and_not_as_another_kind(smoke, tmp_path):
    def seeing(kind):
        return smoke.model_copy(update={"image_encoder": configs.ImageEncoder(kind=kind)})

    config, words, cpu = seeing("mobilenet_v2"), Vocabulary(["<end>", "a", "bird"]), torch.device("cpu")
    originals = weights.build_text_encoder(config, len(words)), weights.build_image_encoder(config).eval()
    artifacts.finish(tmp_path, "damsm", trained_encoders.save(tmp_path, *originals, words, config))
    read = trained_encoders.load(tmp_path, config, len(words), cpu)[1]
    assert not read.training and not any(each.requires_grad for each in read.parameters())
    images = torch.rand(2, 3, 32, 32)
    for ours, theirs in zip(read(images), originals[1](images)):
        assert torch.equal(ours, theirs)
    for kind in ("inception_v3", "small"):
        with pytest.raises(
            InputError, match=rf"trained as kind='mobilenet_v2'.* asks for kind='{kind}'.*; use the config"
        ):
            trained_encoders.load(tmp_path, seeing(kind), len(words), cpu)


def test_a_network_built_without_memory_gets_it_with_its_weights(tmp_path):
    original = encoder().requires_grad_(False)
    weights.save_weights(tmp_path / "w.safetensors", original)
    with torch.device("meta"):
        copy = encoder().requires_grad_(False).eval()
    state = torch.get_rng_state()
    weights.load_weights(tmp_path / "w.safetensors", copy)
    assert torch.equal(state, torch.get_rng_state())
    assert not copy.training and not any(each.requires_grad for each in copy.parameters())
    ids, lengths = torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1])
    for ours, theirs in zip(copy(ids, lengths), original.eval()(ids, lengths)):
        assert torch.equal(ours, theirs)
    packed = [read_packed(each.lstm, each.embedding(ids), lengths)[0] for each in (copy, original)]
    assert torch.equal(*packed)  # cuDNN's way reads another list of the same weights


def written(path, **changes):
    tensors = {name: tensor.clone() for name, tensor in encoder().state_dict().items()}
    safetensors.torch.save_file({**tensors, **changes}, path)
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lstm.bias_hh_l0": torch.full((12,), torch.nan)}, "bias_hh_l0 holds values that are not finite"),
        ({"lstm.bias_hh_l0": torch.full((12,), torch.inf)}, "bias_hh_l0 holds values that are not finite"),
        ({"lstm.bias_hh_l0": torch.zeros(12).half()}, "bias_hh_l0 holds F16, this TextEncoder needs F32"),
        ({"lstm.bias_hh_l0": torch.zeros(12, dtype=torch.int64)}, "bias_hh_l0 holds I64, this TextEncoder needs F32"),
        ({"lstm.bias_hh_l0": torch.zeros(12, 1)}, r"has shape \(12, 1\), this TextEncoder needs \(12,\)"),
        ({"x" * 999: torch.zeros(1)}, r"xxx\.\.\. \(999 characters\) is extra"),
    ],
)
def test_weights_that_would_draw_nothing_are_refused(tmp_path, changes, says):
    with pytest.raises(InputError, match=says) as caught:
        weights.load_weights(written(tmp_path / "w.safetensors", **changes), encoder())
    assert len(str(caught.value)) < len(str(tmp_path)) + 300


def claiming(bundle, folder, change, *, words=None):
    """Copy a bundle, change its config and its vocabulary, and put its manifest right."""
    shutil.copytree(bundle, folder)
    manifest = artifacts.read_manifest(folder)
    values = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    for name, value in change.items():
        section, _, setting = name.partition(".")
        values[section][setting] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    if words:
        artifacts.write_json(folder / "vocabulary.json", words)
    artifacts.finish(folder, "bundle", list(manifest["files"]), generator=manifest["generator"])
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"generator.channels": 16384}, "generator.safetensors: .* has shape"),
        ({"generator.noise_dim": 16384, "generator.condition_dim": 16384}, "generator.safetensors: .* has shape"),
        ({"generator.num_residual_blocks": 300}, "generator.safetensors: not the weights of this Generator"),
        ({"data.resolution": 2048}, "generator.safetensors: "),
        ({"text_encoder.feature_dim": 16384}, "text_encoder.safetensors: lstm.* has shape"),
        ({"text_encoder.embedding_dim": 16384}, "text_encoder.safetensors: .* has shape"),
    ],
)
def test_a_bundle_that_claims_terabytes_is_refused_from_the_sizes_of_its_files(bundle, tmp_path, change, says):
    folder = claiming(bundle, tmp_path / "bundle", change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=says):
        TextToImage.open(folder, kind="bundle")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_vocabulary_that_is_not_that_of_the_weights_is_refused(bundle, tmp_path):
    words = ["<end>", *map(str, range(200_000))]
    with pytest.raises(InputError, match=r"embedding\.weight has shape .*; use the config and the vocabulary"):
        TextToImage.open(claiming(bundle, tmp_path / "bundle", {}, words=words), kind="bundle")


@pytest.mark.parametrize(
    ("build", "text", "names"),
    [
        (weights.build_generator, "generator: {channels: 16384}", "generator.channels"),
        (
            weights.build_discriminators,
            "discriminator: {channels: 4096, spectral_norm: true}",
            "discriminator.channels",
        ),
        (weights.build_image_encoder, "image_encoder: {kind: small, channels: 16384}", "image_encoder.channels"),
        (weights.build_text_encoder, "text_encoder: {feature_dim: 16384}", "text_encoder.feature_dim"),
    ],
)
def test_sizes_that_multiply_to_more_than_the_machine_has_are_refused_by_name(monkeypatch, build, text, names):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2**30)
    more = (50,) if build is weights.build_text_encoder else ()
    with pytest.raises(InputError, match=rf"{names}.*: together they ask for .* GiB .*, this machine has 1\.0 GiB"):
        build(configs.load(text), *more)


def test_both_trainings_refuse_networks_that_no_memory_holds(dataset, damsm, smoke, tmp_path):
    huge = smoke.model_copy(update={"generator": smoke.generator.model_copy(update={"channels": 16384})})
    with pytest.raises(InputError, match=r"generator\.channels"):
        train_generator(dataset, damsm, tmp_path / "generator", huge)
    wide = smoke.image_encoder.model_copy(update={"channels": 16384})
    with pytest.raises(InputError, match=r"image_encoder\.channels"):
        pretrain_damsm(dataset, tmp_path / "damsm", smoke.model_copy(update={"image_encoder": wide}))
