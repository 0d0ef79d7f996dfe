"""Extractors: named after their weights, which are checked and cannot run code."""

import pickle

import pytest
import torch
import torchvision

from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.evaluation import extractors
from attngan.evaluation.extractors import inception_extractors
from attngan.storage import artifacts


def opened(setting, path, sha256=""):
    given = configs.Evaluate(**{setting: configs.WeightsFile(uri=str(path), sha256=sha256)})
    with inception_extractors(given, torch.device("cpu")) as (extractor,):
        return extractor


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A file such as torchvision's, with random weights."""
    torch.manual_seed(0)
    network = torchvision.models.inception_v3(weights=None, init_weights=False)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path, network.eval()


@pytest.fixture(scope="module")
def fid_weights(tmp_path_factory):
    """A file such as torch-fidelity's, with random weights."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    made = {}

    class Fresh(theirs.FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict):
            made.update({name: tensor.clone() for name, tensor in self.state_dict().items()})

    folder = tmp_path_factory.mktemp("weights")
    torch.save({}, folder / "empty.pth")
    torch.manual_seed(1)
    Fresh("fid", ["2048"], feature_extractor_weights_path=str(folder / "empty.pth"))
    torch.save(made, folder / "fid.pth")
    return folder / "fid.pth"


def test_the_imagenet_inception_gives_its_own_features_and_logits(imagenet):
    path, network = imagenet
    images = torch.rand(2, 3, 299, 299) * 2 - 1
    extractor = opened("inception_imagenet", path)
    with torch.no_grad():
        seen, logits = extractor.extract(images)
        assert torch.allclose(logits, network(images), atol=1e-4)
    assert seen.shape == (2, 2048)
    sha256 = artifacts.sha256_of(path)
    assert extractor.name == f"inception-imagenet-{sha256[:8]}"
    assert extractor.conditions["sha256"] == sha256 and "299" in extractor.conditions["resize"]


def test_the_inception_of_the_fid_is_torch_fidelitys(fid_weights):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    bytes_ = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(fid_weights))
    extractor = opened("inception_fid", fid_weights)
    seen, logits = extractor.extract(bytes_ / 127.5 - 1)
    assert torch.allclose(seen, theirs(bytes_)[0], atol=1e-5) and logits.shape == (2, 1008)
    assert extractor.name.startswith("inception-fid-")


def test_two_files_never_share_a_name(imagenet, tmp_path):
    path, network = imagenet
    changed = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    changed["fc.bias"][0] += 1e-6
    torch.save(changed, tmp_path / "other.pth")
    names = set()
    for each in (path, tmp_path / "other.pth"):
        names.add(opened("inception_imagenet", each).name)
    assert len(names) == 2


def test_weights_with_another_checksum_are_refused(imagenet):
    path, _ = imagenet
    with pytest.raises(InputError, match=r"evaluate\.inception_imagenet: .*expected sha256 0cc3c7bd, found"):
        opened("inception_imagenet", path, "0cc3c7bd")


class Harmful:
    def __reduce__(self):
        return print, ("code has run",)


@pytest.mark.parametrize("setting", ["inception_fid", "inception_imagenet"])
def test_weights_that_carry_code_are_refused_and_do_not_run(setting, tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"Conv2d_1a_3x3": Harmful()}, path)
    with pytest.raises(InputError, match="not readable as a state dict"):
        opened(setting, path)
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(InputError, match="not readable as a state dict"):
        opened(setting, path)
    assert "code has run" not in capsys.readouterr().out


@pytest.mark.parametrize("setting", ["inception_fid", "inception_imagenet"])
def test_other_tensors_are_refused_in_a_sentence(setting, tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="found other tensors"):
        opened(setting, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="no such file"):
        opened(setting, tmp_path / "nowhere")


def test_the_damsm_is_named_after_its_weights(damsm):
    extractor = extractors.damsm_extractor(damsm, lambda images: (None, images.mean(dim=(2, 3))))
    sha256 = artifacts.sha256_of(damsm / "image_encoder.safetensors")
    assert extractor.name == f"damsm-{sha256[:8]}" and extractor.conditions["sha256"] == sha256
    assert extractor.extract(torch.ones(2, 3, 4, 4))[0].shape == (2, 3)
