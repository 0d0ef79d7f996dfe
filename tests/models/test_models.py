"""The networks: the paper's sizes, shapes, and what must not depend on what."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms import functional as transforms

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.inference.weights import build_discriminators, build_generator, build_text_encoder
from attngan.models.discriminator import Discriminator
from attngan.models.ema import averaged_copy, update_average_
from attngan.models.generator import ConditioningAugmentation, Generator
from attngan.models.image_encoder import ImageEncoder, MobileNetImageEncoder, SmallImageEncoder, load_trunk
from attngan.models.text_encoder import TextEncoder, read_packed, read_turned


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def test_the_default_config_has_the_papers_parameter_counts():
    config = Config()
    with torch.device("meta"):  # sizes alone
        assert num_parameters(build_generator(config)) == 7_084_592
        assert [num_parameters(each) for each in build_discriminators(config)] == [6_313_730, 19_424_002, 71_858_946]
        assert num_parameters(build_text_encoder(config, 5450)) == 2_075_320


def test_attn_dcgan_has_one_layer_to_an_image_and_one_discriminator_without_its_unconditional_layer():
    config = configs.load("{generator: {finest_only: true}, discriminator: {unconditional: false}}")
    with torch.device("meta"):
        assert num_parameters(build_generator(config)) == 7_084_592 - 2 * (32 * 3 * 3 * 3)
        assert [num_parameters(each) for each in build_discriminators(config)] == [71_858_946 - (8 * 64 * 4 * 4 + 1)]


def small_generator(**changes) -> Generator:
    sizes = {"text_dim": 6, "resolutions": [16, 32, 64], "channels": 4, "noise_dim": 5, "condition_dim": 3}
    return Generator(**(sizes | changes))


def draw(generator: Generator, lengths: list[int], longest: int = 4):
    rng = torch.Generator().manual_seed(1)
    count = len(lengths)
    words = torch.randn(count, 6, longest, generator=rng)
    is_padding = torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]
    noise, sentence = torch.randn(count, 5, generator=rng), torch.randn(count, 6, generator=rng)
    return generator(noise, sentence, words, is_padding, epsilon=torch.zeros(count, 3))


def test_the_generator_draws_at_every_resolution_and_attends_before_each_refinement():
    drawn = draw(small_generator(), [4, 2])
    assert [tuple(images.shape) for images in drawn.images] == [(2, 3, 16, 16), (2, 3, 32, 32), (2, 3, 64, 64)]
    assert [tuple(each.shape) for each in drawn.attention] == [(2, 4, 16, 16), (2, 4, 32, 32)]
    assert all(images.abs().max() <= 1 for images in drawn.images)
    assert (drawn.attention[1][1, 2:] == 0).all()


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_generator_has_one_to_three_stages(stages):
    drawn = draw(small_generator(resolutions=[16 * 2**stage for stage in range(stages)]), [4, 2])
    assert len(drawn.images) == stages and len(drawn.attention) == stages - 1


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_stages_that_draw_nothing_change_nothing_in_the_finest_picture(stages):
    sides = [16 * 2**stage for stage in range(stages)]
    every, finest = small_generator(resolutions=sides), small_generator(resolutions=sides[-1:], num_stages=stages)
    own = every.state_dict()
    shared = {name: own[name.replace("to_image.0", f"to_image.{stages - 1}")] for name in finest.state_dict()}
    assert len(own) - len(shared) == stages - 1
    finest.load_state_dict(shared)
    one, many = draw(finest, [4, 2]), draw(every, [4, 2])
    assert [tuple(images.shape) for images in one.images] == [(2, 3, sides[-1], sides[-1])]
    assert torch.equal(one.images[0], many.images[-1])
    assert len(one.attention) == stages - 1
    assert all(torch.equal(*both) for both in zip(one.attention, many.attention, strict=True))


def test_a_refinement_without_residual_blocks_enlarges_hidden_features_beside_words():
    drawn = draw(small_generator(num_residual_blocks=0), [4, 2])
    assert [images.shape[-1] for images in drawn.images] == [16, 32, 64]


def test_one_caption_alone_is_drawn_as_in_a_batch_in_evaluation_mode():
    generator = small_generator().eval()
    together = draw(generator, [3, 3]).images[-1][:1]
    rng = torch.Generator().manual_seed(1)
    words = torch.randn(2, 6, 4, generator=rng)[:1]
    noise, sentence = torch.randn(2, 5, generator=rng)[:1], torch.randn(2, 6, generator=rng)[:1]
    is_padding = torch.tensor([[False, False, False, True]])
    alone = generator(noise, sentence, words, is_padding, epsilon=torch.zeros(1, 3)).images[-1]
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_the_condition_is_the_mean_where_epsilon_is_zero():
    augment = ConditioningAugmentation(text_dim=6, condition_dim=3)
    condition, mean, log_variance = augment(torch.randn(4, 6), torch.zeros(4, 3))
    assert torch.equal(condition, mean)
    shifted, _, _ = augment(torch.zeros(4, 6), torch.ones(4, 3))
    _, mean, log_variance = augment(torch.zeros(4, 6), torch.ones(4, 3))
    torch.testing.assert_close(shifted - mean, (0.5 * log_variance).exp())


def test_the_text_encoder_takes_captions_in_any_order_and_ignores_padding():
    encoder = TextEncoder(vocabulary_size=20, embedding_dim=8, feature_dim=6).eval()
    word_ids = torch.tensor([[3, 4, 0, 0], [5, 6, 7, 8], [9, 0, 0, 0]])
    words, sentence = encoder(word_ids, torch.tensor([2, 4, 1]))
    assert words.shape == (3, 6, 4) and sentence.shape == (3, 6)
    assert (words[0, :, 2:] == 0).all() and (words[2, :, 1:] == 0).all()
    alone_words, alone_sentence = encoder(torch.tensor([[3, 4]]), torch.tensor([2]))
    torch.testing.assert_close(alone_words[0], words[0, :, :2])
    torch.testing.assert_close(alone_sentence[0], sentence[0])


def test_the_sentence_feature_is_the_last_state_of_each_direction():
    encoder = TextEncoder(vocabulary_size=20, embedding_dim=8, feature_dim=6).eval()
    words, sentence = encoder(torch.tensor([[3, 4, 5, 0]]), torch.tensor([3]))
    torch.testing.assert_close(sentence[0, :3], words[0, :3, 2])
    torch.testing.assert_close(sentence[0, 3:], words[0, 3:, 0])


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_both_ways_to_read_captions_agree_in_states_and_gradients(is_training, precision, tolerance):
    lstm = TextEncoder(vocabulary_size=9, embedding_dim=8, feature_dim=6).to(precision).train(is_training).lstm
    found = []
    for read in (read_packed, read_turned):
        embedded = torch.randn(5, 7, 8, dtype=precision, generator=torch.Generator().manual_seed(0)).requires_grad_()
        lstm.zero_grad()
        states, last = read(lstm, embedded, torch.tensor([3, 7, 1, 7, 5]))
        assert (states[0, 3:] == 0).all() and (states[2, 1:] == 0).all()
        (states.square().sum() + last.sin().sum()).backward()
        found.append([states, last, embedded.grad, *(each.grad.clone() for each in lstm.parameters())])
    torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("side", [32, 64])
def test_the_small_image_encoder_gives_8_by_8_regions(side):
    regions, image = SmallImageEncoder(feature_dim=6, channels=4)(torch.randn(2, 3, side, side))
    assert regions.shape == (2, 6, 8, 8) and image.shape == (2, 6)


@pytest.fixture(scope="module")
def inception() -> ImageEncoder:
    return ImageEncoder(feature_dim=8).eval()


def test_inception_gives_17_by_17_regions_of_any_picture_and_its_trunk_is_frozen(inception):
    with torch.no_grad():
        regions, image = inception(torch.zeros(1, 3, 64, 64))
    assert regions.shape == (1, 8, 17, 17) and image.shape == (1, 8)
    assert num_parameters(inception) == 768 * 8 + 2048 * 8 + 8


def test_inception_weights_are_read_by_torchvisions_names(inception):
    weights = {name: torch.full_like(tensor, 0.5) for name, tensor in inception.trunk.state_dict().items()}
    weights |= {"fc.weight": torch.zeros(1000, 2048), "AuxLogits.fc.bias": torch.zeros(1000)}
    encoder = ImageEncoder(feature_dim=8)
    load_trunk(encoder, weights)
    assert (encoder.trunk["Mixed_7c"].branch1x1.conv.weight == 0.5).all()
    del weights["Mixed_5b.branch1x1.conv.weight"]
    with pytest.raises(ValueError, match=r"1 tensors missing, the first is Mixed_5b\.branch1x1\.conv\.weight"):
        load_trunk(encoder, weights)


@pytest.fixture(scope="module")
def torchvisions() -> nn.Module:
    """MobileNetV2 with random weights; its batch norms have seen pictures, so something comes out at its end."""
    torch.manual_seed(5)
    network = torchvision.models.mobilenet_v2(weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 96, 96))
    return network.eval()


@pytest.fixture(scope="module")
def mobilenet(torchvisions) -> MobileNetImageEncoder:
    encoder = MobileNetImageEncoder(feature_dim=8)
    load_trunk(encoder, torchvisions.state_dict())
    return encoder.eval()


def coloured(side: int) -> torch.Tensor:
    """Return two pictures in [-1, 1] of a side in pixels."""
    return 2 * torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(side)) - 1


@pytest.mark.parametrize("side", [32, 64, 224, 256])
def test_mobilenet_gives_14_by_14_regions_of_any_picture_and_its_trunk_is_frozen(side, mobilenet):
    with torch.no_grad():
        (seen, pooled), (regions, image) = mobilenet.extract(coloured(side)), mobilenet(coloured(side))
    assert seen.shape == (2, 96, 14, 14) and pooled.shape == (2, 1280)
    assert regions.shape == (2, 8, 14, 14) and image.shape == (2, 8)
    assert num_parameters(mobilenet) == 96 * 8 + 1280 * 8 + 8


@pytest.mark.parametrize("side", [224, 256])
def test_mobilenet_sees_what_torchvisions_sees_in_the_same_picture(side, mobilenet, torchvisions):
    images = transforms.resize((coloured(side) + 1) / 2, [224, 224], antialias=True)
    images = transforms.normalize(images, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    with torch.no_grad():
        regions, pooled = mobilenet.extract(coloured(side))
        assert regions.std() > 0.1 and pooled.std() > 0.1
        torch.testing.assert_close(regions, torchvisions.features[:14](images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torchvisions.classifier(pooled), torchvisions(images), rtol=1e-4, atol=1e-4)


def test_mobilenets_batch_norms_learn_of_pictures_only_where_its_trunk_is_trained(torchvisions):
    encoder = MobileNetImageEncoder(feature_dim=8)
    load_trunk(encoder, torchvisions.state_dict())
    for is_trained in (False, True):
        encoder.trunk.requires_grad_(is_trained)
        before = {name: tensor.clone() for name, tensor in encoder.trunk.state_dict().items()}
        encoder.train()(coloured(32))
        after = encoder.trunk.state_dict()
        assert encoder.training and encoder.trunk.training == is_trained
        assert all(torch.equal(before[name], after[name]) for name in after if "running" in name) != is_trained


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", [64, 512])
def test_mobilenet_tells_every_pixel_how_to_change_and_changes_nothing_itself(side, precision, mobilenet):
    before = {name: tensor.clone() for name, tensor in mobilenet.state_dict().items()}
    images = coloured(side).to(precision).requires_grad_()
    regions, image = mobilenet(images)
    (regions.square().sum() + image.square().sum()).backward()
    assert images.grad.isfinite().all() and (images.grad != 0).float().mean() > 0.99
    assert all(parameter.grad is None for parameter in mobilenet.trunk.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in mobilenet.state_dict().items())


def test_the_files_of_other_networks_are_told_apart_by_name(inception, torchvisions):
    encoder, theirs = MobileNetImageEncoder(feature_dim=8), torchvisions.state_dict()
    with pytest.raises(ValueError, match=r"expected the weights of MobileNetV2, found those of Inception-v3"):
        load_trunk(encoder, inception.trunk.state_dict())
    with pytest.raises(ValueError, match=r"expected the weights of Inception-v3, found those of MobileNetV2"):
        load_trunk(ImageEncoder(feature_dim=8), theirs)
    with pytest.raises(ValueError, match=r"not the weights of MobileNetV2: 1 tensors missing, .*features\.18\.1\.bias"):
        load_trunk(encoder, {name: each for name, each in theirs.items() if name != "features.18.1.bias"})
    with pytest.raises(ValueError, match=r"features\.18\.1\.bias: expected shape \(1280,\), found \(640,\)"):
        load_trunk(encoder, {**theirs, "features.18.1.bias": torch.zeros(640)})
    with pytest.raises(ValueError, match=r"features\.18\.1\.bias holds values that are not finite"):
        load_trunk(encoder, {**theirs, "features.18.1.bias": torch.full((1280,), torch.nan)})


@pytest.mark.parametrize("resolution", [16, 32, 64, 128])
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_discriminator_gives_a_logit_a_picture_with_and_without_its_sentence(resolution, spectral_norm):
    discriminator = Discriminator(resolution=resolution, text_dim=6, channels=2, spectral_norm=spectral_norm)
    images = torch.randn(3, 3, resolution, resolution)
    unconditional, conditional = discriminator(images, torch.randn(3, 6))
    assert unconditional.shape == conditional.shape == (3,)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_discriminator_without_its_unconditional_output_has_no_weights_of_it(spectral_norm):
    sizes = {"resolution": 32, "text_dim": 6, "channels": 2, "spectral_norm": spectral_norm}
    whole, discriminator = Discriminator(**sizes), Discriminator(**sizes, unconditional=False)
    left_out = whole.state_dict().keys() - discriminator.state_dict().keys()
    assert left_out == {"unconditional.weight", "unconditional.bias"}
    unconditional, conditional = discriminator(torch.randn(3, 3, 32, 32), torch.randn(3, 6))
    assert unconditional is None and conditional.shape == (3,)


def test_the_average_moves_by_one_minus_decay_in_weights_and_batch_norm_statistics():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = averaged_copy(network)
    before = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)
    update_average_(average, network, decay=0.9)
    after = average.state_dict()
    for name in ("0.weight", "1.bias", "1.running_mean", "1.running_var"):
        torch.testing.assert_close(after[name], before[name] + 0.1)
    assert after["1.num_batches_tracked"] == 1
    assert not average.training and not any(each.requires_grad for each in average.parameters())
