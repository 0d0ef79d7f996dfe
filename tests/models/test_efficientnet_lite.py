"""EfficientNet-Lite0: the published file's names, TensorFlow's padding, and a network that stays as it is."""

import copy

import frozen_network
import pytest
import torch
from frozen_network import coloured
from torch import nn
from torchvision.models import mobilenetv2

from attngan.models.efficientnet_lite import STAGE_CHANNELS, EfficientNetLite0, InvertedResidual, SameConv2d


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return frozen_network.random_network()


def test_its_tensors_have_the_names_of_the_published_file(network):
    names = list(network.state_dict())
    assert len(names) == 296 and sum(each.numel() for each in network.parameters()) == 4_652_008
    assert names[:2] == ["_conv_stem.weight", "_bn0.weight"] and names[-2:] == ["_fc.weight", "_fc.bias"]
    assert [name for name in names if name.startswith("_blocks.1.") and name.endswith("weight")] == [
        f"_blocks.1.{part}.weight"
        for part in ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    ]
    assert "_blocks.0._expand_conv.weight" not in names and "_blocks.16._bn1.weight" not in names


@pytest.mark.parametrize(
    ("side", "kernel", "before", "after"),
    [(6, 3, 0, 1), (7, 3, 1, 1), (6, 5, 1, 2), (7, 5, 2, 2), (1, 3, 1, 1), (2, 5, 1, 2)],
)
def test_a_stride_of_two_pads_as_tensorflow_does(side, kernel, before, after):
    convolution = SameConv2d(1, 1, kernel, stride=2)
    rows = torch.arange(1.0, side + 1).view(1, 1, side, 1).expand(1, 1, side, side)
    nn.init.zeros_(convolution.weight)
    convolution.weight.data[0, 0, 0, kernel // 2] = 1  # what the first row of the kernel meets
    made = convolution(rows)[0, 0, :, 0]
    padded = [0.0] * before + list(range(1, side + 1)) + [0.0] * after
    assert made.tolist() == [padded[row] for row in range(0, len(padded) - kernel + 1, 2)]
    assert len(made) == (side + 1) // 2


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_is_torchvisions_where_both_pad_alike(stride):
    torch.manual_seed(7)
    theirs = mobilenetv2.InvertedResidual(6, 6, stride, expand_ratio=4).train()
    theirs(torch.randn(4, 6, 9, 9))
    ours = InvertedResidual(6, 6, 3, stride, 4).eval()
    assert ours.is_residual == (stride == 1)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    for module in theirs.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.001
    features = torch.randn(2, 6, 9, 9)
    torch.testing.assert_close(ours(features), theirs(features))


@pytest.mark.parametrize("side", [32, 65, 224])
def test_stages_are_the_last_features_of_each_stride(side, network):
    images = coloured(2, side)
    stages = network.stages(images)
    sides = [-(-side // stride) for stride in (4, 8, 16, 32)]
    assert [each.shape for each in stages] == [
        (2, channels, side, side) for channels, side in zip(STAGE_CHANNELS, sides, strict=True)
    ]
    features = nn.functional.relu6(network._bn0(network._conv_stem(images)))
    for number, block in enumerate(network._blocks):
        features = block(features)
        if number in (2, 4, 10, 15):
            assert torch.equal(stages[(2, 4, 10, 15).index(number)], features)
    seen = network.features(images)
    assert seen.shape == (2, 1280) and seen.std() > 0.01 and network.logits(seen).shape == (2, 1000)


def test_it_stays_as_it_is_and_tells_every_pixel_how_to_change(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = coloured(2, 64).requires_grad_()
    network.train()
    assert not any(module.training for module in network.modules())
    network.features(images).square().sum().backward()
    assert images.grad.isfinite().all() and (images.grad != 0).float().mean() > 0.99
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("side", [32, 65])
def test_fused_it_computes_the_same_to_rounding_and_stays_frozen(side, network):
    network = copy.deepcopy(network).double()
    fused = copy.deepcopy(network).fuse_()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert not any(module.training for module in fused.modules())
    images = coloured(2, side).double()
    theirs, ours = images.clone().requires_grad_(), images.clone().requires_grad_()
    expected, found = network.stages(theirs), fused.stages(ours)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(fused.features(images), network.features(images))
    for stages in (expected, found):
        sum(stage.square().mean() for stage in stages).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_it_computes_what_timm_computes(network):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), network.state_dict().values(), strict=True)))
    for side in (64, 65):
        with torch.no_grad():
            seen = network.logits(network.features(coloured(2, side)))
            torch.testing.assert_close(seen, theirs(coloured(2, side)))
