"""Extractors: named after their weights, which are checked and cannot run code."""

import pickle

import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms import functional as transforms

from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.evaluation import extractors
from attngan.evaluation.extractors import pretrained_extractors
from attngan.inference import published
from attngan.models.efficientnet_lite import EfficientNetLite0
from attngan.storage import artifacts, places


def opened(setting, path, sha256=""):
    given = configs.Evaluate(**{setting: configs.WeightsFile(uri=str(path), sha256=sha256)})
    (extractor,) = pretrained_extractors(given, torch.device("cpu"))
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


def stirred(network, tmp_path_factory):
    """Give a network with random weights, whose batch norms have seen pictures, and its file."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.Module.train(module)
            module.momentum = 1.0
    with torch.no_grad():
        network.logits(network.features(coloured(64))) if hasattr(network, "logits") else network(coloured(64))
    path = tmp_path_factory.mktemp("weights") / f"{type(network).__name__}.pth"
    torch.save(network.state_dict(), path)
    return path, network.eval()


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    torch.manual_seed(2)
    return stirred(torchvision.models.mobilenet_v2(weights=None), tmp_path_factory)


@pytest.fixture(scope="module")
def efficientnet(tmp_path_factory):
    torch.manual_seed(3)
    return stirred(EfficientNetLite0(), tmp_path_factory)


def coloured(side):
    """Return four pictures in [-1, 1] of a side in pixels."""
    return 2 * torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(side)) - 1


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


@pytest.mark.parametrize("side", [64, 224, 256])
def test_the_eyes_of_mobilenet_are_torchvisions(side, mobilenet):
    path, network = mobilenet
    images = transforms.resize((coloured(side) + 1) / 2, [224, 224], antialias=True)
    images = transforms.normalize(images, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    extractor = opened("mobilenet_v2", path)
    with torch.no_grad():
        seen, logits = extractor.extract(coloured(side))
        torch.testing.assert_close(seen, network.features(images).mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, network(images), rtol=1e-4, atol=1e-4)
    assert seen.shape == (4, 1280) and seen.std() > 0.1
    assert extractor.name == f"mobilenet-v2-{artifacts.sha256_of(path)[:8]}"
    assert extractor.conditions["resize"] == "bilinear to 224 x 224 with antialiasing"


@pytest.mark.parametrize("side", [64, 256])
def test_the_eyes_of_efficientnet_are_the_networks_at_224_pixels(side, efficientnet):
    path, network = efficientnet
    extractor = opened("efficientnet_lite0", path)
    with torch.no_grad():
        seen, logits = extractor.extract(coloured(side))
        theirs = network.features(transforms.resize(coloured(side), [224, 224], antialias=True))
        torch.testing.assert_close(seen, theirs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, network.logits(theirs), rtol=1e-4, atol=1e-4)
    assert seen.std() > 0.01
    assert extractor.name == f"efficientnet-lite0-{artifacts.sha256_of(path)[:8]}"
    assert "224 x 224" in extractor.conditions["resize"]


def test_eyes_that_are_not_given_see_nothing(mobilenet, efficientnet):
    given = {
        "efficientnet_lite0": configs.WeightsFile(uri=str(efficientnet[0])),
        "mobilenet_v2": configs.WeightsFile(uri=str(mobilenet[0])),
    }
    for settings in ({}, given):
        found = pretrained_extractors(configs.Evaluate(**settings), torch.device("cpu"))
        kinds = [extractor.name.rpartition("-")[0] for extractor in found]
        assert kinds == (["mobilenet-v2", "efficientnet-lite0"] if settings else [])


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("mobilenet_v2", "torchvision's mobilenet_v2 ImageNet file"),
        ("efficientnet_lite0", "the weights of EfficientNet-Lite0, efficientnet-lite0-57934424.pth"),
    ],
)
def test_the_file_of_another_network_is_refused_with_the_one_that_was_expected(
    setting, expected, mobilenet, efficientnet
):
    wrong = {"mobilenet_v2": efficientnet[0], "efficientnet_lite0": mobilenet[0]}[setting]
    with pytest.raises(InputError) as refused:
        opened(setting, wrong)
    assert str(refused.value).startswith(f"{wrong}: expected {expected}, found other tensors (")
    assert "Missing key(s)" in str(refused.value)


def test_a_frozen_network_is_read_whole_or_not_at_all(efficientnet, tmp_path):
    path, network = efficientnet
    tensors = network.state_dict()
    loaded = published.efficientnet_lite0(path)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in loaded.state_dict().items())
    for changed, said in (
        (torch.zeros(7), r"size mismatch for _bn1\.bias"),
        (torch.full((1280,), torch.nan), r"_bn1\.bias holds values that are not finite"),
    ):
        torch.save({**tensors, "_bn1.bias": changed}, tmp_path / "weights.pth")
        with pytest.raises(InputError, match=said):
            published.efficientnet_lite0(tmp_path / "weights.pth")


def test_two_files_never_share_a_name(imagenet, tmp_path):
    path, network = imagenet
    changed = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    changed["fc.bias"][0] += 1e-6
    torch.save(changed, tmp_path / "other.pth")
    names = set()
    for each in (path, tmp_path / "other.pth"):
        names.add(opened("inception_imagenet", each).name)
    assert len(names) == 2


@pytest.mark.parametrize("setting", ["inception_imagenet", "mobilenet_v2", "efficientnet_lite0"])
def test_weights_with_another_checksum_are_refused(setting, imagenet):
    path, _ = imagenet
    with pytest.raises(InputError, match=rf"evaluate\.{setting}: .*expected sha256 0cc3c7bd, found"):
        opened(setting, path, "0cc3c7bd")


def test_weights_in_a_bucket_are_fetched_by_one_process_of_a_node(mobilenet, monkeypatch):
    """What the second of two processes does: it reads the file that the first has fetched."""

    def exchange(told, mine):
        told[:] = [("0", str(mobilenet[0])), mine]

    monkeypatch.setattr(places.distributed, "world_size", lambda: 2)
    monkeypatch.setattr(places.dist, "all_gather_object", exchange)
    monkeypatch.setattr(places, "local_input", lambda uri: pytest.fail("fetched once more"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    extractor = opened("mobilenet_v2", "gs://pictures/weights/mobilenet.pth")
    assert extractor.name == f"mobilenet-v2-{artifacts.sha256_of(mobilenet[0])[:8]}"


class Harmful:
    def __reduce__(self):
        return print, ("code has run",)


@pytest.mark.parametrize("setting", extractors.PRETRAINED)
def test_weights_that_carry_code_are_refused_and_do_not_run(setting, tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"Conv2d_1a_3x3": Harmful()}, path)
    with pytest.raises(InputError, match="not readable as a state dict"):
        opened(setting, path)
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(InputError, match="not readable as a state dict"):
        opened(setting, path)
    assert "code has run" not in capsys.readouterr().out


@pytest.mark.parametrize("setting", extractors.PRETRAINED)
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


@pytest.mark.parametrize(
    ("kind", "frozen", "names"),
    [
        ("small", None, []),
        ("small", "57934424", ["efficientnet-lite0-57934424"]),
        ("mobilenet_v2", None, ["mobilenet-v2-b0353104"]),
        ("mobilenet_v2", "57934424", ["mobilenet-v2-b0353104", "efficientnet-lite0-57934424"]),
        ("inception_v3", None, ["inception-imagenet-0cc3c7bd"]),
    ],
)
def test_networks_that_a_training_looked_through_are_known(kind, frozen, names, tmp_path):
    """The FID's Inception is another one than torchvision's, which the paper's image encoder has."""
    artifacts.finish(tmp_path, "generator", [], **({"frozen": frozen} if frozen else {}))
    shas = {"inception-fid": "6726825d", "inception-imagenet": "0cc3c7bd", "mobilenet-v2": "b0353104"}
    shas["efficientnet-lite0"] = "57934424"
    of_others = [
        extractors.Extractor(f"{eyes}-{sha256}", {"sha256": sha256}, lambda images: (images, None))
        for eyes, sha256 in shas.items()
    ]
    config = configs.load(f"image_encoder: {{kind: {kind}}}")
    assert extractors.trained_against(of_others, tmp_path, config) == names
