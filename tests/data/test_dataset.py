import re

import numpy as np
import pytest
import torch
from small_sources import CAPTIONS, WORDS, declare_complete, write_dataset

from attngan.data import dataset_files
from attngan.data.dataset import Batch, Dataset
from attngan.data.dataset_files import read_captions
from attngan.errors import InputError
from attngan.storage import artifacts

ALL = {"resolutions": [8, 16], "max_words": 18}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def folder(tmp_path):
    return write_dataset(tmp_path / "dataset")


@pytest.fixture
def dataset(folder):
    return Dataset.open(folder, "train")


def pixels_of(images):
    """(B, 3, H, W) in [-1, 1] -> whole numbers from 0 to 255."""
    return ((images + 1) * 127.5).round().long()


def test_an_opened_dataset_knows_its_counts_words_and_records(dataset):
    assert len(dataset) == 3
    assert dataset.num_captions == 6
    assert [dataset.captions_per_image(index) for index in range(3)] == [2, 1, 3]
    assert dataset.vocabulary.words == WORDS
    assert dataset.class_ids.tolist() == [7, 5, 7]
    assert dataset.info["resolution"] == 16
    assert dataset.manifest["kind"] == "dataset"
    assert dataset.records[2] == {
        "name": "2.jpg",
        "class_name": "class 2",
        "class_id": 7,
        "captions": ["caption 0", "caption 1", "caption 2"],
        "attributes": None,
    }


def test_a_batch_has_the_shapes_it_promises(dataset):
    batch = dataset.training_batch([0, 1, 2, 0], rng=seeded(), **ALL)
    assert [tuple(images.shape) for images in batch.images] == [(4, 3, 8, 8), (4, 3, 16, 16)]
    assert all(images.dtype == torch.float32 and images.abs().max() <= 1 for images in batch.images)
    assert batch.word_ids.shape == (4, int(batch.lengths.max()))
    assert batch.word_ids.dtype == batch.lengths.dtype == batch.class_ids.dtype == torch.int64
    assert torch.equal((~batch.is_padding).sum(dim=1), batch.lengths)
    assert batch.class_ids.tolist() == [7, 5, 7, 7]


def test_a_batch_is_a_function_of_the_generators_state_alone(dataset):
    first, again = (dataset.training_batch([0, 1, 2], rng=seeded(3), **ALL) for _ in range(2))
    other = dataset.training_batch([0, 1, 2], rng=seeded(4), **ALL)
    assert all(torch.equal(a, b) for a, b in zip(first.images, again.images, strict=True))
    assert torch.equal(first.word_ids, again.word_ids)
    assert not torch.equal(first.images[-1], other.images[-1])


def test_training_cuts_every_place_and_mirrors_half_of_the_pictures(dataset):
    batch = dataset.training_batch([1] * 3000, rng=seeded(), **ALL)
    pixels = pixels_of(batch.images[-1])
    assert (pixels[:, 2] == 100).all()
    tops, left_edge, right_edge = pixels[:, 0, 0, 0], pixels[:, 1, 0, 0], pixels[:, 1, 0, -1]
    assert set(tops.tolist()) == set(range(19 - 16 + 1))
    is_mirrored = left_edge > right_edge
    assert abs(is_mirrored.double().mean() - 0.5) < 0.04  # four standard deviations
    lefts = torch.where(is_mirrored, right_edge, left_edge)
    assert set(lefts.tolist()) == set(range(30 - 16 + 1))
    assert ((left_edge - right_edge).abs() == 15).all()


def assert_same(first, second):
    assert all(torch.equal(a, b) for a, b in zip(first.images, second.images, strict=True))
    assert torch.equal(first.word_ids, second.word_ids)
    assert torch.equal(first.caption_numbers, second.caption_numbers)


@pytest.mark.parametrize("part", [slice(None), slice(5, 20), slice(20, None)])
def test_pictures_that_a_device_holds_give_the_same_batches(dataset, folder, part, monkeypatch):
    monkeypatch.setattr(dataset_files, "PIECE", 1000)  # bytes, of 4,959
    holding = Dataset.open(folder, "train")
    assert holding.pixels.hold(torch.device("cpu"), free=10**6)
    indices = [0, 1, 2] * 10
    first, second = (each.training_batch(indices, rng=seeded(), part=part, **ALL) for each in (dataset, holding))
    assert_same(first, second)
    assert len(first.images[0]) == len(indices[part])
    assert_same(*(each.evaluation_batch([0, 1, 2], [0, 0, 0], **ALL) for each in (dataset, holding)))


@pytest.mark.parametrize("has_room", [True, False])
def test_a_device_holds_the_pictures_where_they_take_less_than_a_share_of_its_memory(dataset, folder, has_room):
    path = folder / "train" / "pixels.bin"
    enough = int(path.stat().st_size / dataset_files.HELD_SHARE) + 1
    assert dataset.pixels.hold(torch.device("cpu"), free=enough if has_room else enough - 1) == has_room
    with path.open("r+b") as handle:  # shows where they are read
        handle.write(bytes(path.stat().st_size))
    batch = dataset.training_batch([1, 2], rng=seeded(), **ALL)
    assert bool((batch.images[-1] == -1).all()) != has_room


def test_a_cuda_device_is_asked_once_whether_it_has_the_room(dataset, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (10_000, 20_000))
    device, places = torch.device("cuda", 1), torch.zeros(1, 2)
    for _ in range(2):
        squares = dataset.pixels.squares([2], places, 16, torch.tensor([False]), device)
        assert squares.device.type == "cpu"  # from the mapped file: 4,959 bytes are too many
    assert asked == [device]


def test_training_chooses_each_caption_of_a_picture_equally_often(dataset):
    batch = dataset.training_batch([2] * 3000, rng=seeded(), **ALL)
    firsts = torch.bincount(batch.word_ids[:, 0], minlength=13)
    assert (firsts[[2, 3, 12]] - 1000).abs().max() < 110  # four standard deviations
    assert firsts.sum() == firsts[[2, 3, 12]].sum()


def test_captions_that_are_too_long_lose_random_words_and_keep_their_order(dataset):
    batch = dataset.training_batch([1] * 500, resolutions=[16], max_words=5, rng=seeded())
    assert (batch.lengths == 5).all()
    assert (batch.word_ids.diff(dim=1) > 0).all()  # the caption's ids rise
    counts = torch.bincount(batch.word_ids.flatten(), minlength=13)[5:]
    assert (counts - 500 * 5 / 8).abs().max() < 45  # four standard deviations


def test_a_single_picture_is_a_batch(dataset):
    batch = dataset.training_batch(torch.tensor([0]), rng=seeded(), **ALL)
    assert [images.shape[0] for images in batch.images] == [1, 1]
    assert batch.word_ids.ndim == 2


def test_evaluation_takes_the_centre_square_unmirrored_and_the_named_captions(dataset):
    batch = dataset.evaluation_batch([0, 1, 2], [1, 0, 2], **ALL)
    pixels = pixels_of(batch.images[-1])
    assert pixels[:, 0, 0, 0].tolist() == [2, 2, 11]  # of 4, 4 and 23 places
    assert pixels[:, 1, 0, 0].tolist() == [2, 7, 2]
    assert pixels[:, 1, 0, -1].tolist() == [17, 22, 17]
    assert batch.word_ids[0].tolist() == [4] + [0] * 7
    assert batch.word_ids[1].tolist() == CAPTIONS[1][0]
    assert batch.word_ids[2, :2].tolist() == [12, 1]
    assert batch.lengths.tolist() == [1, 8, 2]


def test_evaluation_keeps_the_first_words_of_a_long_caption(dataset):
    batch = dataset.evaluation_batch([1], [0], resolutions=[16], max_words=3)
    assert batch.word_ids.tolist() == [[5, 6, 7]]


@pytest.mark.parametrize("caption", [-1, 1])
def test_a_caption_that_a_picture_does_not_have_is_an_error(dataset, caption):
    with pytest.raises(IndexError, match="picture 1 has no caption"):
        dataset.evaluation_batch([1], [caption], **ALL)


def test_a_coarse_resolution_alone_is_that_of_the_pyramid(dataset):
    coarse, _ = dataset.evaluation_batch([0], [0], **ALL).images
    (alone,) = dataset.evaluation_batch([0], [0], resolutions=[8], max_words=18).images
    assert torch.equal(coarse, alone)


def test_a_finer_resolution_than_was_stored_is_refused(dataset):
    with pytest.raises(AssertionError):  # the steps say it, before time is spent
        dataset.evaluation_batch([0], [0], resolutions=[8, 24], max_words=18)


def test_a_batch_moves_to_a_device_but_for_what_is_wanted_on_the_cpu(dataset):
    moved = dataset.evaluation_batch([0, 1], [0, 0], **ALL).to("meta")
    assert isinstance(moved, Batch)
    assert {tensor.device.type for tensor in (*moved.images, moved.word_ids, moved.class_ids)} == {"meta"}
    assert {tensor.device.type for tensor in (moved.lengths, moved.caption_numbers, moved.is_cut)} == {"cpu"}


def test_a_folder_that_is_not_complete_is_refused(folder):
    (folder / "manifest.json").unlink()
    sentence = f"{folder}: no manifest.json, so it is no finished dataset; give the folder that preprocess wrote, or"
    with pytest.raises(InputError, match=sentence):
        Dataset.open(folder, "train")


def test_another_format_version_is_refused_with_both_versions(folder):
    artifacts.write_json(folder / "dataset.json", {"format_version": 2, "resolution": 16})
    declare_complete(folder)
    with pytest.raises(InputError, match="format version is 2, this attngan reads 1"):
        Dataset.open(folder, "train")


def test_a_file_that_is_cut_off_is_refused(folder):
    path = folder / "train" / "pixels.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"expected [0-9,]+ bytes, found"):
        Dataset.open(folder, "train")


@pytest.mark.parametrize(
    "index",
    [
        np.array([[0, 19, 20]]).repeat(3, axis=0) + [[10**6, 0, 0]] * 3,
        np.array([[-1, 19, 19]]).repeat(3, axis=0),
        np.array([[0, 15, 19]]).repeat(3, axis=0),
        np.array([[0, 2**31, 2**31]]).repeat(3, axis=0),
        np.zeros((3, 2), dtype=np.int64),
        np.zeros((3, 3)),
        np.array([[None] * 3] * 3),
    ],
)
def test_an_index_that_does_not_fit_the_pixels_is_refused(folder, index):
    np.save(folder / "train" / "images.npy", index, allow_pickle=True)
    declare_complete(folder)
    with pytest.raises(InputError, match=re.escape("images.npy: its content does not fit")):
        Dataset.open(folder, "train")


@pytest.mark.parametrize(
    "change",
    [
        {"word_ids": np.array([1] * 17 + [13], dtype=np.int32)},  # beyond the vocabulary
        {"word_ids": np.array([1] * 17 + [0], dtype=np.int32)},  # padding inside a caption
        {"word_ids": np.array([1] * 17, dtype=np.int32)},
        {"class_ids": np.array([1, 2])},
        {"caption_offsets": np.array([0, 2, 2, 6])},  # a picture without captions
        {"caption_offsets": np.array([0, 2, 3, 7])},
        {"word_offsets": np.array([0, 3, 4, 12, 14, 13, 18])},
        {"surplus": np.array([1])},
    ],
)
def test_captions_that_do_not_fit_are_refused(folder, change):
    path = folder / "train" / "captions.npz"
    np.savez(path, **{**np.load(path), **change})
    declare_complete(folder)
    with pytest.raises(InputError, match=re.escape("captions.npz: its content does not fit")):
        Dataset.open(folder, "train")


def test_captions_that_are_no_archive_of_arrays_are_refused(folder):
    (folder / "train" / "captions.npz").write_bytes(b"PK\x03\x04garbage")
    declare_complete(folder)
    with pytest.raises(InputError, match=re.escape("captions.npz: its content does not fit")):
        Dataset.open(folder, "train")


def test_captions_that_unpack_to_more_than_they_are_are_not_unpacked(folder):
    path = folder / "train" / "captions.npz"
    arrays = {**np.load(path), "word_ids": np.ones(10**6, dtype=np.int32)}
    arrays["word_offsets"] = np.array([0, 3, 4, 12, 14, 17, 10**6])  # they fit one another
    np.savez(path, **arrays)
    declare_complete(folder)
    assert Dataset.open(folder, "train").longest_caption == 10**6 - 17
    np.savez_compressed(path, **arrays)
    declare_complete(folder)
    with pytest.raises(InputError, match=re.escape("captions.npz: its content does not fit")):
        Dataset.open(folder, "train")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_changed_byte_anywhere_is_no_traceback(tmp_path, write):
    """Of zip, zlib and numpy each has its own errors for garbage; what can still be read lacks the other arrays."""
    path = tmp_path / "captions.npz"
    write(path, word_ids=np.arange(3))
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        with pytest.raises(InputError, match=re.escape("captions.npz: its content does not fit")):
            read_captions(tmp_path, 1, 5)
