"""What makes a step faster leaves what is computed: each against the plain step."""

import threading

import pytest
import torch
from frozen_network import projects
from torch.nn.utils.parametrize import cached
from torch.utils._python_dispatch import TorchDispatchMode

from attngan.config import settings as configs
from attngan.data.dataset import Dataset
from attngan.data.sampling import BatchesAhead, batch_of_step
from attngan.errors import InputError
from attngan.losses import word_regions
from attngan.losses.adversarial import discriminator_loss
from attngan.models import layers
from attngan.models.discriminator import Discriminator
from attngan.models.layers import compute_spectral_norms
from attngan.runtime import acceleration
from attngan.training.caption_features import CaptionFeatures
from attngan.training.damsm_run import DamsmRun
from attngan.training.damsm_step import training_step as damsm_step
from attngan.training.gan_run import GanRun
from attngan.training.gan_step import training_step

CPU = torch.device("cpu")


@pytest.fixture
def bfloat16(monkeypatch):
    """Let this processor have bfloat16: torch computes it everywhere, fast or not."""
    monkeypatch.setattr(acceleration, "has_bfloat16", lambda device: True)


@pytest.mark.parametrize(
    ("setting", "has", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
        ("float32", True, torch.float32),
        ("bfloat16", True, torch.bfloat16),
        ("float16", True, torch.float16),
    ],
)
def test_the_precision_is_what_is_asked_for_or_what_the_device_is_fast_with(setting, has, expected, monkeypatch):
    monkeypatch.setattr(acceleration, "has_bfloat16", lambda device: has)
    monkeypatch.setattr(acceleration, "has_float16", lambda device: True)
    assert acceleration.choose_precision(setting, CPU) == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), torch.float32),
        ((7, 0), torch.float16),  # V100
        ((7, 5), torch.float16),  # T4
        ((8, 0), torch.bfloat16),
        ((9, 0), torch.bfloat16),
    ],
)
def test_a_gpu_computes_in_what_it_multiplies_fast(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert acceleration.choose_precision("auto", torch.device("cuda", 0)) == expected


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_precision_that_the_device_lacks_is_refused(precision, monkeypatch):
    monkeypatch.setattr(acceleration, f"has_{precision}", lambda device: False)
    with pytest.raises(InputError, match=f"precision: cpu has no instructions for {precision}; set precision to auto"):
        acceleration.choose_precision(precision, CPU)


def steps(dataset, damsm, config, count=3, change=lambda run: None):
    """Return the losses of some steps, and the run after them."""
    train = Dataset.open(dataset, "train")
    run = GanRun(config, train, damsm, CPU)
    change(run)
    rows = []
    for run.step in range(count):
        batch = batch_of_step(
            train, run.step, batch_size=8, resolutions=config.resolutions, max_words=18, seed=0, purpose="test"
        )
        rows.append({name: loss.item() for name, loss in training_step(run, batch).items()})
    return rows, run


def contiguous(run):
    for network in (run.generator, run.generator_ema, run.discriminators, run.image_encoder):
        network.to(memory_format=torch.contiguous_format)


def assert_same(first, second, tolerance):
    for name, network in first.networks().items():
        theirs = second.networks()[name].state_dict()
        for key, tensor in network.state_dict().items():
            distance = (tensor.double() - theirs[key].double()).norm()
            assert distance <= tolerance * theirs[key].double().norm() + 1e-6, (name, key, distance)


def test_channels_last_changes_nothing_but_the_layout(dataset, damsm, smoke):
    ours, run = steps(dataset, damsm, smoke)
    plain, other = steps(dataset, damsm, smoke, change=contiguous)
    weight = run.discriminators[0].encode[1][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    for row, expected in zip(ours, plain):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert_same(run, other, 1e-3)


@pytest.mark.parametrize("is_projected", [False, True])
def test_a_step_in_bfloat16_is_near_that_in_float32_and_leaves_float32_behind(
    dataset, damsm, smoke, bfloat16, efficientnet_file, is_projected
):
    wide = smoke.model_copy(
        update={
            "generator": smoke.generator.model_copy(update={"channels": 16}),
            "discriminator": smoke.discriminator.model_copy(update={"channels": 16}),
        }
    )  # a channel that is almost constant in a batch would be blown up by its batch norm
    wide = projects(wide, efficientnet_file, channels=16) if is_projected else wide
    plain, _ = steps(dataset, damsm, wide, count=1)
    ours, run = steps(dataset, damsm, wide.model_copy(update={"precision": "bfloat16"}), count=1)
    assert ours[0] != plain[0]
    assert ours[0] == pytest.approx(plain[0], rel=0.03, abs=0.02)
    for network in run.networks().values():
        assert {each.dtype for each in network.state_dict().values() if each.is_floating_point()} == {torch.float32}
    assert {each.grad.dtype for each in run.generator.parameters()} == {torch.float32}


def test_encoders_train_in_bfloat16_nearly_as_in_float32(dataset, smoke, bfloat16):
    train = Dataset.open(dataset, "train")
    sums = []
    for precision in ("float32", "bfloat16"):
        run = DamsmRun(smoke.model_copy(update={"precision": precision}), train, CPU, None)
        batch = batch_of_step(train, 0, batch_size=8, resolutions=[32], max_words=18, seed=0, purpose="test")
        damsm_step(run, batch)
        sums.append(run.loss_sums)
    assert not torch.equal(*sums)
    torch.testing.assert_close(*sums, rtol=0.01, atol=0.01)


def test_spectral_norms_are_computed_in_float32():
    torch.manual_seed(0)
    discriminator = Discriminator(resolution=16, text_dim=6, channels=4, spectral_norm=True).eval()
    weight = discriminator.encode[1][0].weight.detach().clone()
    with cached():
        compute_spectral_norms(discriminator)
        with acceleration.autocast(CPU, torch.bfloat16):
            kept = discriminator.encode[1][0].weight
    assert kept.dtype == torch.float32 and torch.equal(kept, weight)


OTHER = torch.device("meta")  # any that is not this processor


def test_where_the_processor_trains_no_batch_is_made_ahead():
    made = []
    with BatchesAhead(lambda step, seed: made.append(step), CPU) as batches:
        for step in range(3):
            batches.take(step, 0)
            assert made == list(range(step + 1))


def test_batches_made_ahead_are_those_of_their_step_and_seed():
    made = []

    def make(step, seed):
        made.append((step, seed))
        return step, seed

    with BatchesAhead(make, OTHER) as batches:
        taken = [batches.take(step, 0) for step in (4, 5, 6)]
        taken += [batches.take(step, 1) for step in (4, 5)]  # the run went back
    assert taken == [(4, 0), (5, 0), (6, 0), (4, 1), (5, 1)]
    assert len(made) == len(set(made))  # none twice


def test_batches_are_made_on_the_device_that_trains(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: taken.append((device, threading.current_thread())))
    device = torch.device("cuda", 1)
    with BatchesAhead(lambda step, seed: threading.current_thread(), device) as batches:
        batches.take(0, 0)
        maker = batches.take(1, 0)
    assert taken == [(device, maker)] and maker is not threading.current_thread()


def test_a_batch_that_cannot_be_made_says_so_where_it_is_taken():
    def make(step, seed):
        if step == 1:
            raise InputError("the disk is gone")
        return step

    with BatchesAhead(make, OTHER) as batches:
        assert batches.take(0, 0) == 0
        with pytest.raises(InputError, match="the disk is gone"):
            batches.take(1, 0)


def test_a_batch_that_found_no_memory_beside_a_step_is_made_after_it():
    makers = []

    def make(step, seed):
        makers.append(threading.current_thread() is threading.main_thread())
        if not makers[-1]:
            raise torch.OutOfMemoryError
        return step

    with BatchesAhead(make, OTHER) as batches:
        assert [batches.take(step, 0) for step in range(3)] == [0, 1, 2]
    assert makers.count(True) == 3


@pytest.mark.parametrize("words", [acceleration.OUT_OF_MEMORY[1], acceleration.NO_KERNEL[0]])
def test_what_a_training_can_do_without_makes_room_for_a_snapshot(words):
    freed = []

    def draw():
        if not freed:
            raise RuntimeError(words)
        return "drawn"

    assert acceleration.with_room(draw, lambda: freed.append(1), CPU, "pictures") == "drawn"
    with pytest.raises(InputError, match=r"training\.batch_size: pictures do not fit in the memory of cpu beside"):
        acceleration.with_room(lambda: fail(words), lambda: None, CPU, "pictures")
    with pytest.raises(RuntimeError, match="shapes"):
        acceleration.with_room(lambda: fail("shapes"), lambda: None, CPU, "pictures")


@pytest.fixture
def full_gpu(monkeypatch):
    """A CUDA device of 15 GiB, 0.25 of which are free; this process holds 1."""
    gib = 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (gib // 4, 15 * gib))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: gib)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return torch.device("cuda", 0)


def test_a_gpu_taken_by_others_is_told_from_one_that_is_too_small(full_gpu):
    sentence = r"device: cuda:0 has too little memory to begin with: 0\.2 of 15\.0 GiB are free; wait for the processes"
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(acceleration.OUT_OF_MEMORY[2])):
        with pytest.raises(InputError, match=sentence), acceleration.beginning(full_gpu):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), acceleration.beginning(full_gpu):
        fail("shapes")
    with pytest.raises(RuntimeError, match="alloc"), acceleration.beginning(CPU):
        fail("can't allocate memory")
    others = r"does not fit in the memory of cuda:0 \(other processes hold 13\.8 of its 15\.0 GiB\); one of 4 does"
    with (
        pytest.raises(InputError, match=others),
        acceleration.fitting("training.batch_size", 8, full_gpu, lambda size: None),
    ):
        fail("CUDA error: out of memory")


def test_a_gpu_without_memory_for_anything_is_named(monkeypatch, smoke):
    def ask(*_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch, "empty", lambda *_, device: ask())
    monkeypatch.setattr(torch.cuda, "mem_get_info", ask)
    with pytest.raises(InputError, match="device: cuda:1 has too little memory to begin with: none of its memory is"):
        acceleration.set_up_device(smoke.model_copy(update={"device": "cuda:1"}))


def fail(words):
    raise RuntimeError(words)


def test_the_paper_recipe_takes_the_fast_way_by_itself():
    config = configs.load()
    assert config.precision == "auto" and config.damsm.trunk_views > 0


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 24), (4, 4)])
def test_enlarging_and_convolving_at_once_is_the_same_as_one_after_the_other(height, width):
    torch.manual_seed(0)
    features = torch.randn(2, 5, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    found = layers.upsample_and_convolve(features, weight)
    enlarged = torch.nn.functional.interpolate(features, scale_factor=2, mode="nearest")
    expected = torch.nn.functional.conv2d(enlarged, weight, padding=1)
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(expected)
    gradients = [torch.autograd.grad(each, (features, weight), direction) for each in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_a_block_that_enlarges_takes_either_way(monkeypatch):
    block = layers.UpBlock(4, 3)
    features = torch.randn(2, 4, 16, 16)
    merged = block(features)
    monkeypatch.setattr(layers, "MIN_SIDE_TO_MERGE", 17)
    torch.testing.assert_close(merged, block(features), rtol=1e-4, atol=1e-5)


def test_a_block_that_enlarges_bilinearly_convolves_what_lies_between_the_features():
    """The kernel looks at its own position alone, so what a bilinear picture has there comes out, normed and gated."""
    block = layers.UpBlock(1, 1, upsampling="bilinear").eval()
    torch.nn.init.zeros_(block[1].weight)
    block[1].weight.data[:, :, 1, 1] = 1.0
    for norm in (block[2].weight, block[2].bias):
        torch.nn.init.constant_(norm, float(norm is block[2].weight))
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    enlarged = torch.cat([torch.zeros(1), torch.arange(0.25, 15, 0.5), torch.full((1,), 15.0)])
    expected = (enlarged * enlarged.sigmoid()).expand(1, 1, 32, 32)
    torch.testing.assert_close(block(ramp), expected, rtol=1e-4, atol=1e-4)


def test_without_batch_norm_all_pictures_pass_a_discriminator_at_once(monkeypatch):
    torch.manual_seed(0)
    discriminator = Discriminator(resolution=16, text_dim=6, channels=4, spectral_norm=True).double().eval()
    real, fake = torch.rand(2, 3, 3, 16, 16, dtype=torch.float64) * 2 - 1
    sentences = torch.randn(3, 6, dtype=torch.float64)
    calls = []
    discriminator.encode.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    found = {}
    for one_by_one in (True, False):
        discriminator.has_batch_norm = one_by_one
        discriminator.zero_grad()
        loss, opinions = discriminator_loss(discriminator, real, fake, sentences)
        loss.backward()
        found[one_by_one] = [loss, opinions, *(each.grad for each in discriminator.parameters())]
    assert calls == [3, 3, 6]
    torch.testing.assert_close(found[True], found[False])


def test_with_batch_norm_real_and_drawn_pictures_pass_one_after_the_other():
    discriminator = Discriminator(resolution=16, text_dim=6, channels=4)
    calls = []
    discriminator.encode.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    discriminator_loss(discriminator, torch.rand(3, 3, 16, 16), torch.rand(3, 3, 16, 16), torch.randn(3, 6))
    assert calls == [3, 3]


@pytest.mark.parametrize("max_words", [40, 5])
def test_features_of_captions_that_were_kept_are_those_of_the_encoder(dataset, damsm, smoke, max_words):
    train = Dataset.open(dataset, "train")
    run = GanRun(smoke, train, damsm, CPU)
    settings = {"max_words": max_words, "precision": torch.float32, "device": CPU}
    captions = CaptionFeatures(run.text_encoder, train, **settings)
    asked = []
    run.text_encoder.register_forward_hook(lambda module, inputs, output: asked.append(len(inputs[0])))
    batch = batch_of_step(
        train, 0, batch_size=16, resolutions=smoke.resolutions, max_words=max_words, seed=0, purpose="test"
    )
    words, sentences, is_padding = captions.take(batch)
    num_cut = int(batch.is_cut.sum())
    assert asked == ([num_cut] if num_cut else []) and (num_cut > 0) == (max_words == 5)
    expected = run.text_encoder(batch.word_ids, batch.lengths)
    num_words = batch.word_ids.shape[1]
    found = (words[:, :, :num_words], sentences)
    torch.testing.assert_close(found, tuple(expected), rtol=1e-4, atol=1e-6)
    assert torch.equal(is_padding[:, :num_words], batch.is_padding) and is_padding[:, num_words:].all()
    assert not words.transpose(1, 2)[is_padding].any()


class Synchronisations(TorchDispatchMode):
    """Counts what would make the host wait for a CUDA device: values that it reads, sizes that depend on values."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique_consecutive", "unique_dim", "_unique2")

    def __init__(self, monkeypatch):
        super().__init__()
        self.found = []
        for name in ("tolist", "numpy", "cpu"):  # on a CPU they ask for no value one by one
            method = getattr(torch.Tensor, name)
            monkeypatch.setattr(torch.Tensor, name, self._counting(name, method))

    def _counting(self, name, method):
        def counted(*args, **kwargs):
            self.found.append(name)
            return method(*args, **kwargs)

        return counted

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        masks = args[1] if name in ("index", "index_put_", "index_put") else ()
        counts = name == "repeat_interleave" and len(args) == 1
        if name in self.READS or counts or any(mask is not None and mask.dtype == torch.bool for mask in masks):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "wait",
    [
        *(lambda ones: ones.item(), lambda ones: ones.tolist(), lambda ones: ones.cpu(), lambda ones: ones.unique()),
        *(lambda ones: bool(ones), lambda ones: ones.nonzero(), lambda ones: ones.masked_select(ones > 0)),
        *(lambda ones: ones[ones > 0], lambda ones: ones.__setitem__(ones > 0, ones), torch.unique_consecutive),
        lambda ones: ones.repeat_interleave(ones.long()),
    ],
)
def test_waits_are_seen(wait, monkeypatch):
    with Synchronisations(monkeypatch) as mode:
        wait(torch.ones(1))
    assert mode.found


def test_a_step_waits_for_no_result(dataset, damsm, smoke, monkeypatch):
    monkeypatch.setattr(word_regions.PackedWords, "of", word_regions.PackedWords.padded)  # as not on a CPU
    train = Dataset.open(dataset, "train")
    no_word_is_lost = {"max_words": 40}
    config = smoke.model_copy(update={"data": smoke.data.model_copy(update=no_word_is_lost)})
    run = GanRun(config, train, damsm, CPU)
    settings = {"batch_size": 8, "resolutions": smoke.resolutions, **no_word_is_lost}
    batch = batch_of_step(train, 0, seed=0, purpose="test", **settings)
    training_step(run, batch)  # the optimizers make their state
    with Synchronisations(monkeypatch) as mode:
        run.add(training_step(run, batch))
    assert mode.found == ["nonzero"]  # which captions were cut: asked of a tensor on the CPU
    with Synchronisations(monkeypatch) as mode:
        run.take_mean_losses()
    assert mode.found == ["tolist"]  # of one tensor, when it is time to log


def test_a_larger_batch_has_higher_rates_and_a_faster_average(dataset, damsm, smoke):
    train = Dataset.open(dataset, "train")
    changes = {"batch_size": 8, "rates_for_batch_size": 2, "generator_learning_rate": 0.01}
    config = smoke.model_copy(update={"training": smoke.training.model_copy(update=changes)})
    run = GanRun(config, train, damsm, CPU)
    assert run.generator_learner.optimizer.param_groups[0]["lr"] == pytest.approx(0.02)
    assert run.batch_ratio == 4
    before = {name: tensor.clone() for name, tensor in run.generator_ema.state_dict().items()}
    steps_of_run(run, train)
    name = "to_image.0.0.weight"
    decay = smoke.training.ema_decay**4
    expected = decay * before[name] + (1 - decay) * run.generator.state_dict()[name]
    torch.testing.assert_close(run.generator_ema.state_dict()[name], expected)


def steps_of_run(run, train):
    batch = batch_of_step(
        train, 0, batch_size=8, resolutions=run.config.resolutions, max_words=18, seed=0, purpose="test"
    )
    training_step(run, batch)
