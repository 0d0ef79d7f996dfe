"""The authors' files: what is read is what was written, at any size, and a file can neither run code nor surprise."""

import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from authors_files import (
    WORDS,
    generator,
    of_discriminator,
    of_generator,
    of_image_encoder,
    of_text_encoder,
    text_encoder,
    vary,
    write_vocabulary,
)

from attngan.errors import InputError
from attngan.inference import released
from attngan.models.discriminator import Discriminator
from attngan.models.image_encoder import ImageEncoder


def assert_same(network, original):
    ours, theirs = network.state_dict(), original.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not network.training


def saved(tensors, path, **options):
    torch.save(tensors, path, **options)
    return path


@pytest.mark.parametrize("sizes", [{}, {"vocabulary_size": 21, "embedding_dim": 6, "feature_dim": 4}])
def test_text_encoders_of_any_size_come_back(tmp_path, sizes):
    original = text_encoder(**sizes)
    encoder = released.load_text_encoder(saved(of_text_encoder(original), tmp_path / "text_encoder.pth"))
    assert_same(encoder, original)
    ids, lengths = torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1])
    torch.testing.assert_close(encoder(ids, lengths)[1], original.eval()(ids, lengths)[1], rtol=0, atol=0)


def test_the_image_encoder_comes_back_with_its_trunk_frozen(tmp_path):
    original = vary(ImageEncoder(feature_dim=12))
    encoder = released.load_image_encoder(saved(of_image_encoder(original), tmp_path / "image_encoder.pth"))
    assert_same(encoder, original)
    trained = {name.split(".")[0] for name, each in encoder.named_parameters() if each.requires_grad}
    assert trained == {"project_regions", "project_image"}


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"channels": 3, "num_residual_blocks": 3, "text_dim": 8},  # COCO has three residual blocks
        {"resolutions": [64, 128], "noise_dim": 7},
        {"resolutions": [64]},
        {"resolutions": [32, 64], "condition_dim": 9},
        {"resolutions": [256], "num_stages": 3, "num_residual_blocks": 0},  # attn-DCGAN
        {"resolutions": [128], "num_stages": 2},
    ],
)
def test_generators_of_any_size_come_back(tmp_path, sizes):
    original = vary(generator(**sizes))
    assert_same(released.load_generator(saved(of_generator(original), tmp_path / "netG.pth")), original)


@pytest.mark.parametrize("resolution", [64, 128, 256])
@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("unconditional", [True, False])
def test_discriminators_of_any_size_come_back(tmp_path, resolution, channels, unconditional):
    sizes = {"resolution": resolution, "channels": channels, "unconditional": unconditional}
    original = vary(Discriminator(text_dim=6, **sizes))
    path = saved(of_discriminator(original, resolution), tmp_path / "netD.pth")
    assert_same(released.load_discriminator(path), original)


def test_the_file_of_attn_dcgan_has_its_names_and_draws_one_picture(tmp_path):
    original = vary(generator(resolutions=[256], num_stages=3, num_residual_blocks=0))
    tensors = of_generator(original)
    assert {name.split(".")[0] for name in tensors} == {"ca_net", "h_net1", "h_net2", "h_net3", "img_net"}
    network = released.load_generator(saved(tensors, tmp_path / "netG.pth"))
    noise, sentence, words = torch.randn(2, 5), torch.randn(2, 12), torch.randn(2, 12, 4)
    given = noise, sentence, words, torch.zeros(2, 4, dtype=torch.bool)
    drawn, expected = (each(*given, epsilon=torch.zeros(2, 3)) for each in (network, original.eval()))
    assert [images.shape[-1] for images in drawn.images] == network.resolutions == [256]
    assert torch.equal(drawn.images[0], expected.images[0])


def test_files_of_old_torch_and_of_data_parallel_are_read_too(tmp_path):
    original = vary(generator())
    tensors = of_generator(original)
    old = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    path = saved(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same(released.load_generator(path), original)
    path = saved({f"module.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "module.pth")
    assert_same(released.load_generator(path), original)


def broken(change):
    tensors = of_generator(generator())
    change(tensors)
    return tensors


BAD_GENERATORS = {
    "missing": (lambda t: t.pop("img_net2.img.0.weight"), r"1 tensors are missing \(img_net2\.img\.0\.weight\)"),
    "extra": (lambda t: t.update(more=torch.ones(1)), r"1 tensors are extra \(more\)"),
    "of both variants": (
        lambda t: t.update({"img_net.img.0.weight": torch.ones(3, 2, 3, 3)}),
        r"3 tensors are extra \(img_net1\.img\.0\.weight, ",
    ),
    "without a layer to an image": (
        lambda t: [t.pop(f"img_net{stage}.img.0.weight") for stage in (1, 2, 3)],
        r"not the authors' generator: expected img_net1\.img\.0\.weight with 4 dimensions",
    ),
    "half": (lambda t: t.update({k: v.half() for k, v in t.items()}), "holds float16, expected float32"),
    "other shape": (
        lambda t: t.update({"img_net3.img.0.weight": torch.ones(3, 5, 3, 3)}),
        r"img_net3\.img\.0\.weight has shape \(3, 5, 3, 3\), the sizes of the other tensors ask for \(3, 2, 3, 3\)",
    ),
    "not finite": (
        lambda t: t["ca_net.fc.bias"].fill_(torch.nan),
        r"ca_net\.fc\.bias holds values that are not finite",
    ),
    "not tensors": (lambda t: t.update(epoch=3), "a dict of tensors by name, found something else"),
    "huge": (
        lambda t: t.update({"ca_net.fc.weight": torch.ones(1).expand(10**7, 10**5)}),
        r"claims .* bytes of content",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), BAD_GENERATORS.values(), ids=BAD_GENERATORS)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(tmp_path, change, sentence):
    path = saved(broken(change), tmp_path / "netG.pth")
    with pytest.raises(InputError, match=sentence) as error:
        released.load_generator(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_sizes_that_multiply_to_more_than_memory_are_refused(tmp_path):
    tensors = broken(lambda t: t.update({"img_net1.img.0.weight": torch.ones(3, 400_000, 1, 1)}))
    with pytest.raises(InputError, match="ask for"):
        released.load_generator(saved(tensors, tmp_path / "netG.pth"))


@pytest.mark.parametrize(
    "load",
    [
        released.load_text_encoder,
        released.load_image_encoder,
        released.load_generator,
        released.load_discriminator,
    ],
)
def test_other_files_in_place_of_weights_are_refused(tmp_path, load):
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "absent.pth")
    other = saved({"conv.weight": torch.ones(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"not the authors' .*, found conv\.weight"):
        load(other)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(saved(of_generator(generator()), tmp_path / "whole.pth").read_bytes()[:-500])
    with pytest.raises(InputError, match="not a whole PyTorch file"):
        load(cut)
    for content in (b"", b"no weights", bytes(range(255, 0, -1))):
        cut.write_bytes(content)
        with pytest.raises(InputError, match="not a whole PyTorch file"):
            load(cut)
    with pytest.raises(InputError, match="found a folder"):
        load(tmp_path)


def test_a_compressed_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**7))
    with pytest.raises(InputError, match=r"claims 10,000,000 bytes of content in a file of"):
        released.load_generator(path)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("load", [released.load_generator, released.load_vocabulary])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_file_runs_code(tmp_path, load, protocol):
    witness, path = tmp_path / "was run", tmp_path / "captions.pickle"
    path.write_bytes(pickle.dumps([[], [], {}, Malicious(witness)], protocol=protocol))
    with pytest.raises(InputError, match=r"could run code|not a whole"):
        load(path)
    saved({"ca_net.fc.weight": Malicious(witness)}, path)
    with pytest.raises(InputError, match=r"could run code|not a whole"):
        load(path)
    assert not witness.exists()


def test_the_vocabulary_comes_back_from_pickles_of_either_python(tmp_path):
    path = tmp_path / "captions.pickle"
    write_vocabulary(path)
    assert released.load_vocabulary(path).words == WORDS
    # As Python 2 wrote it: byte strings, protocol 2.
    words = b"".join(b"K%cU%c%s" % (index, len(word), word.encode()) for index, word in enumerate(WORDS))
    ids = b"".join(b"U%c%sK%c" % (len(word), word.encode(), index) for index, word in enumerate(WORDS))
    path.write_bytes(b"\x80\x02](]]}(" + words + b"u}(" + ids + b"ue.")
    assert released.load_vocabulary(path).words == WORDS


@pytest.mark.parametrize("number", [np.int64(5), np.int32(-5), np.uint8(5), np.float32(0.5), np.bool_(True), 2**70])
def test_numbers_of_numpy_become_plain_ones(tmp_path, number):
    from attngan.inference import plain_pickle

    for protocol in range(2, 5):
        (tmp_path / "p").write_bytes(pickle.dumps({"n": [number, number]}, protocol=protocol))
        assert plain_pickle.load(tmp_path / "p") == {"n": [number, number]}


BAD_VOCABULARIES = {
    "not four parts": ([[], []], "two lists of captions"),
    "a gap": ([[], [], {0: "<end>", 2: "a"}, {"<end>": 0, "a": 2}], "a word for each id"),
    "tables that contradict": ([[], [], {0: "<end>", 1: "a"}, {"<end>": 0, "a": 2}], "contradict each other"),
    "no <end>": ([[], [], {0: "a"}, {"a": 0}], "expected '<end>' as the first word, found 'a'"),
    "an array": ([np.zeros(3), [], {}, {}], "could run code"),
    "a set": ([{1, 2}, [], {}, {}], "could run code"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD_VOCABULARIES.values(), ids=BAD_VOCABULARIES)
def test_another_pickle_than_the_vocabulary_is_refused(tmp_path, content, sentence):
    (tmp_path / "captions.pickle").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InputError, match=sentence):
        released.load_vocabulary(tmp_path / "captions.pickle")


def test_a_pickle_that_is_cut_off_or_names_a_huge_place_is_refused_without_memory(tmp_path):
    path = tmp_path / "captions.pickle"
    write_vocabulary(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="not a whole pickle"):
        released.load_vocabulary(path)
    path.write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")  # remember the list in place 2,147,483,647
    code = (
        "import resource, sys; from pathlib import Path; from attngan.inference import plain_pickle\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert plain_pickle.load(Path(sys.argv[1])) == []\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
