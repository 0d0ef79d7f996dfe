"""Weights on disk: what is read is what was written, and what does not fit is named."""

import pytest
import torch

from attngan import config as configs
from attngan import weights
from attngan.errors import InputError
from attngan.models.text_encoder import TextEncoder


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
        weights.choose_device(configs.load("device: 'cuda:7'"))
    with pytest.raises(InputError, match="device: 'gpu' cannot be used here"):
        weights.choose_device(configs.load("device: gpu"))
    with pytest.raises(InputError, match=r"device: 'meta' cannot be used here \(expected one of cpu, cuda\)"):
        weights.choose_device(configs.load("device: meta"))


@pytest.mark.parametrize(("asked", "current", "expected"), [("auto", 2, 2), ("cuda", 1, 1), ("cuda:3", 0, 3)])
def test_a_cuda_device_has_its_number_and_is_the_current_one(monkeypatch, asked, current, expected):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)  # which would ask for the device
    assert weights.choose_device(configs.load(f"device: '{asked}'")) == torch.device("cuda", expected)
    assert taken == [torch.device("cuda", expected)]


def test_encoders_of_another_config_are_refused(damsm, smoke):
    other = smoke.model_copy(update={"text_encoder": smoke.text_encoder.model_copy(update={"embedding_dim": 8})})
    with pytest.raises(InputError, match="its text_encoder was trained as"):
        weights.load_damsm(damsm, other, 50, torch.device("cpu"))
