"""What the frozen trunk sees is computed once: the same numbers, however often a run was killed."""

import dataclasses
import errno
import os
import shutil

import pytest
import torch

from attngan import seeding
from attngan.config import settings as configs
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.models import image_encoder
from attngan.models.image_encoder import ImageEncoder
from attngan.runtime import scratch
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.storage import artifacts
from attngan.training import damsm_step, trunk_features
from attngan.training.damsm_features import kept_features
from attngan.training.damsm_run import DamsmRun

KEY = ["pictures", {"test": 1}]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Give the folder that features are kept in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(trunk_features.tempfile, "gettempdir", lambda: str(folder))
    return folder


class Trunk(ImageEncoder):
    """Sees a few numbers of a picture, and counts the pictures."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.num_seen = 0

    def extract(self, images):
        assert not self.training
        self.num_seen += len(images)
        return images[:, :, :2, :2], images.mean(dim=(2, 3))


def pictures(numbers, view):
    return torch.stack([torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(7 * n + view)) for n in numbers])


def test_every_view_of_every_picture_is_kept_in_bfloat16():
    found = trunk_features.compute(Trunk(), pictures, (37, 3), KEY, CPU)
    numbers, views = torch.tensor([36, 0, 17]), torch.tensor([2, 0, 1])
    regions, pooled = found.take(numbers, views, CPU, torch.float32)
    for row, (number, view) in enumerate(zip(numbers.tolist(), views.tolist())):
        image = pictures([number], view)[0]
        assert torch.equal(regions[row], image[:, :2, :2].bfloat16().float())
        assert torch.equal(pooled[row], image.mean(dim=(1, 2)).bfloat16().float())


def test_what_was_computed_before_a_kill_is_not_computed_again(temporary):
    whole = trunk_features.compute(Trunk(), pictures, (37, 2), ["other"], CPU).records.clone()

    def dying(numbers, view):
        if view == 1:
            raise KeyboardInterrupt
        return pictures(numbers, view)

    with pytest.raises(KeyboardInterrupt):
        trunk_features.compute(Trunk(), dying, (37, 2), KEY, CPU)
    trunk = Trunk()
    assert torch.equal(trunk_features.compute(trunk, pictures, (37, 2), KEY, CPU).records, whole)
    assert trunk.num_seen == 37 + 1  # the second view; one to see how large a record is
    trunk_features.forget(KEY)
    trunk_features.forget(["other"])
    assert list(temporary.iterdir()) == []


def test_records_that_somebody_removed_are_computed_again(temporary):
    whole = trunk_features.compute(Trunk(), pictures, (37, 2), KEY, CPU).records.clone()
    for records in temporary.glob("*/records.bin"):
        records.unlink()
    assert torch.equal(trunk_features.compute(Trunk(), pictures, (37, 2), KEY, CPU).records, whole)


def test_a_note_of_what_is_done_is_not_written_before_the_records_are_on_the_disk(temporary, monkeypatch):
    happened = []
    write_text = artifacts.write_text
    monkeypatch.setattr(scratch, "write_through", lambda path: happened.append(path.name))
    monkeypatch.setattr(artifacts, "write_text", lambda path, text: (happened.append(text), write_text(path, text)))
    trunk_features.compute(Trunk(), pictures, (150, 1), KEY, CPU)
    assert happened == ["records.bin", "8", "records.bin", "10"]


def test_a_disk_that_is_too_small_is_told_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(InputError, match=r"need 0.0 GB, found 0.0 GB free; set TMPDIR .* or lower damsm.trunk_views"):
        trunk_features.compute(Trunk(), pictures, (37, 2), KEY, CPU)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_disk_that_fills_up_meanwhile_is_told_and_no_part_of_a_file_stays(temporary, monkeypatch, is_there):
    if is_there:  # of an earlier run
        trunk_features.compute(Trunk(), pictures, (37, 2), KEY, CPU)
    before = [path.read_bytes() for path in temporary.glob("*/records.bin")]

    def full(descriptor, start, size):
        os.ftruncate(descriptor, size // 2 if not is_there else size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch.os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"features-.*need .*no space left on device; .* or lower damsm.trunk_views"):
        trunk_features.compute(Trunk(), pictures, (37, 2), KEY, CPU)
    assert [path.read_bytes() for path in temporary.glob("*/records.bin")] == before


def test_a_file_with_holes_gets_its_room_and_keeps_what_it_holds(temporary):
    whole = trunk_features.compute(Trunk(), pictures, (3700, 2), KEY, CPU).records.clone()
    (path,) = temporary.glob("*/records.bin")
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.truncate(size // 2)
        file.truncate(size)
    assert path.stat().st_blocks * 512 < size
    found = trunk_features.compute(Trunk(), pictures, (3700, 2), KEY, CPU).records
    assert path.stat().st_blocks * 512 >= size
    assert torch.equal(found.flatten()[: size // 4 - 1], whole.flatten()[: size // 4 - 1])


@pytest.mark.parametrize("note", ["", "[" * 3000, "9" * 5000, "true", "-1", "99", '"3"', "NaN"])
def test_a_damaged_note_counts_for_nothing(temporary, note):
    whole = trunk_features.compute(Trunk(), pictures, (37, 2), KEY, CPU).records.clone()
    (path,) = temporary.glob("*/done-*.json")
    path.write_text(note)
    trunk = Trunk()
    assert torch.equal(trunk_features.compute(trunk, pictures, (37, 2), KEY, CPU).records, whole)
    assert trunk.num_seen == 2 * 37 + 1


@pytest.fixture(params=[pytest.param("inception_v3", marks=pytest.mark.slow), "mobilenet_v2"])
def kind(request, monkeypatch):
    """Give each kind of trunk; a MobileNetV2 that looks at fewer pixels, a tenth of the work."""
    monkeypatch.setattr(image_encoder, "MOBILENET_SIDE", 64)
    return request.param


def full(smoke, kind, **damsm):
    encoder = smoke.image_encoder.model_copy(update={"kind": kind})
    return smoke.model_copy(update={"image_encoder": encoder, "damsm": smoke.damsm.model_copy(update=damsm)})


def test_a_record_of_mobilenet_holds_its_14_by_14_regions_and_the_picture(dataset, smoke, imagenet):
    run = DamsmRun(full(smoke, "mobilenet_v2"), Dataset.open(dataset, "train"), CPU, imagenet["mobilenet_v2"])
    records, shape = trunk_features.extract(run.image_encoder, torch.zeros(2, 3, 32, 32))
    assert shape == (14, 14, 96) and records.shape == (2, 14 * 14 * 96 + 1280)


def test_a_step_on_kept_features_is_the_step_on_the_same_pictures(kind, dataset, smoke, imagenet):
    """The trunk in evaluation mode; what it sees is rounded to bfloat16 in both, so all that is left is exact."""
    config = full(smoke, kind, trunk_views=1)
    train, test = Dataset.open(dataset, "train"), Dataset.open(dataset, "test")
    kept, plain = (DamsmRun(config, train, CPU, imagenet[kind]) for _ in range(2))
    with kept_features(kept, train, test, dict.fromkeys(("dataset", "inception"), "")):
        batch = damsm_step.batch_for(kept, train, 0, config.seed)
        assert len(batch.images[-1]) == 0  # no picture was read
        views = [
            train.training_batch(
                range(start, min(start + trunk_features.BATCH_SIZE, len(train))),
                resolutions=[config.data.resolution],
                max_words=1,
                rng=seeding.rng_for(config.seed, "view", 0, start),
            ).images[-1]
            for start in range(0, len(train), trunk_features.BATCH_SIZE)
        ]
        images = torch.cat(views)[batch.indices]

        def extract(images):
            plain.image_encoder.eval()
            with torch.no_grad():
                seen = type(plain.image_encoder).extract(plain.image_encoder, images)
            return tuple(each.bfloat16().float() for each in seen)

        plain.image_encoder.extract = extract
        damsm_step.training_step(kept, batch)
        damsm_step.training_step(plain, dataclasses.replace(batch, images=[images]))
    torch.testing.assert_close(kept.loss_sums, plain.loss_sums, rtol=1e-4, atol=1e-5)
    for name, network in kept.networks().items():
        theirs = plain.networks()[name].state_dict()
        for key, tensor in network.state_dict().items():
            assert torch.allclose(tensor.double(), theirs[key].double(), rtol=1e-3, atol=2e-4), (name, key)


def test_having_gone_back_the_encoders_meet_other_noise(dataset, smoke):
    train, losses = Dataset.open(dataset, "train"), []
    for attempt in (0, 0, 1):
        run = DamsmRun(smoke, train, CPU, None)
        batch = damsm_step.batch_for(run, train, 0, 0)
        run.attempt = attempt
        damsm_step.training_step(run, batch)
        losses.append(run.loss_sums.tolist())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("views", [0, 2])
def test_the_encoders_train_both_ways(views, kind, dataset, smoke, imagenet, tmp_path, temporary, monkeypatch):
    monkeypatch.setattr(image_encoder, "INCEPTION_SIDE", 107)  # a tenth of the work too
    config = full(smoke, kind, trunk_views=views, epochs=1, batch_size=32)
    best = pretrain_damsm(dataset, tmp_path / "out", config, inception_weights=imagenet[kind])
    assert 0 <= best["recall_at_1"] <= best["recall_at_5"] <= 1
    artifacts.check(tmp_path / "out", "damsm", contents=True)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("kind", ["inception_v3", "mobilenet_v2"])
def test_features_are_not_kept_where_they_change(kind, dataset, smoke, imagenet):
    train, path = Dataset.open(dataset, "train"), imagenet[kind]
    assert DamsmRun(full(smoke, kind), train, CPU, path).can_keep_features()
    assert not DamsmRun(smoke, train, CPU, None).can_keep_features()  # a small encoder is trained
    assert not DamsmRun(full(smoke, kind), train, CPU, None).can_keep_features()  # so is a trunk that starts at random
    assert not DamsmRun(full(smoke, kind, trunk_views=0), train, CPU, path).can_keep_features()
    noisy = full(smoke, kind).model_copy(update={"image_encoder": configs.ImageEncoder(kind=kind, noise=0.1)})
    assert not DamsmRun(noisy, train, CPU, path).can_keep_features()
