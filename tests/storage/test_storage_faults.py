"""Cloud storage that stumbles: nothing is lost, nothing is silently wrong, and what cannot be done is said in time."""

import random
import shutil
import time

import pytest

from attngan.errors import InputError
from attngan.storage import artifacts, places

pytest.importorskip("google.cloud.storage")

from attngan.storage import google_storage

PASSING = ["503", "503 after", "reset", "reset after", "truncated", "slow"]  # gone when tried again


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch):
    """Try again at once, not after a second and two and four."""
    hurried = google_storage.DEFAULT_RETRY.with_delay(initial=0.005, maximum=0.02, multiplier=1.5)
    monkeypatch.setattr(google_storage, "DEFAULT_RETRY", hurried)
    monkeypatch.setattr(google_storage, "ATTEMPT_SECONDS", 0.5)
    monkeypatch.setattr(google_storage, "DEADLINE_SECONDS", 20.0)


def folder_of(path, count, seed=0):
    numbers = random.Random(seed)
    path.mkdir(parents=True, exist_ok=True)
    names = [f"{number % 3}/{number}.bin" for number in range(count)]
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(numbers.randbytes(numbers.randrange(1, 20_000)))
    artifacts.finish(path, "dataset", names)
    return path


def first_of_each(fault):
    """Return a choice that lets every request stumble once."""
    seen = set()

    def choose(method, path, number):
        if (method, path) in seen:
            return None
        seen.add((method, path))
        return fault

    return choose


@pytest.mark.parametrize("fault", PASSING)
def test_a_folder_passes_both_ways_where_every_request_stumbles_once(fault, storage_server, bucket, tmp_path):
    folder = folder_of(tmp_path / "dataset", 3)
    storage_server.choose_fault = first_of_each(fault)
    places.deliver(folder, "gs://pictures/one")
    back = places.fetch("gs://pictures/one", tmp_path / "back")
    artifacts.check(back, "dataset", contents=True)


def test_a_folder_passes_both_ways_where_a_third_of_the_requests_stumble(storage_server, bucket, tmp_path):
    folder = folder_of(tmp_path / "dataset", 40)
    dice = random.Random(1)
    stumbled = []

    def choose(method, path, number):
        fault = dice.choice(["503", "503 after", "reset", "reset after", "truncated"]) if dice.random() < 0.33 else None
        stumbled.append(fault)
        return fault

    storage_server.choose_fault = choose
    places.deliver(folder, "gs://pictures/one")
    back = places.fetch("gs://pictures/one", tmp_path / "back")
    artifacts.check(back, "dataset", contents=True)
    assert sum(fault is not None for fault in stumbled) > 20


def test_what_is_damaged_on_its_way_is_refused_not_kept(storage_server, bucket, tmp_path):
    places.deliver(folder_of(tmp_path / "dataset", 2), "gs://pictures/one")
    storage_server.choose_fault = lambda method, path, number: "damaged" if "alt=media" in path else None
    with pytest.raises(InputError, match="crc32c"):
        places.fetch("gs://pictures/one", tmp_path / "back")


@pytest.mark.parametrize("fault", ["503", "reset", "slow"])
def test_storage_that_stays_away_is_a_sentence_in_time_and_nothing_looks_complete(
    fault, storage_server, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(google_storage, "DEADLINE_SECONDS", 1.0)
    folder = folder_of(tmp_path / "dataset", 2)
    places.deliver(folder, "gs://pictures/one")
    for is_said, is_there in ((True, False), (False, True)):  # whether the note of what comes can be written
        storage_server.choose_fault = lambda method, path, number, is_said=is_said: (
            fault if method == "POST" and not (is_said and "ifGenerationMatch" in path) else None
        )
        start = time.monotonic()
        with pytest.raises(InputError, match="does not answer"):
            places.deliver(folder, "gs://pictures/one")
        assert time.monotonic() - start < 15
        storage_server.choose_fault = lambda method, path, number: None
        assert ("manifest.json" in places.names("gs://pictures/one")) == is_there
        with places.output("gs://pictures/one", kind="dataset", inputs=[]) as again:  # what is there is ours
            shutil.copytree(folder, again)
        assert sorted(places.names("gs://pictures/one")) == ["0/0.bin", "1/1.bin", "manifest.json"]


@pytest.mark.parametrize("fault", ["503 after", "reset after", "truncated"])
def test_a_pointer_that_arrived_while_its_answer_was_lost_is_ours(fault, storage_server, bucket):
    first = places.write("gs://pictures/latest.json", b"first", generation=0)
    storage_server.choose_fault = first_of_each(fault)
    second = places.write("gs://pictures/latest.json", b"second", generation=first)
    assert places.read("gs://pictures/latest.json") == (b"second", second)


@pytest.mark.parametrize("fault", [None, "503", "truncated", "reset"])
def test_a_large_object_is_fetched_in_parts_and_checked(fault, storage_server, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(google_storage, "CHUNK_BYTES", 100_000)
    content = random.Random(2).randbytes(1_050_000)
    bucket.blob("large.bin").upload_from_string(content)
    if fault:
        storage_server.choose_fault = first_of_each(fault)
    storage_server.requests.clear()
    assert places.fetch("gs://pictures/large.bin", tmp_path).read_bytes() == content
    assert sum("alt=media" in path for _, path in storage_server.requests) >= 11


def test_a_large_object_that_is_damaged_on_its_way_is_refused(storage_server, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(google_storage, "CHUNK_BYTES", 100_000)
    bucket.blob("large.bin").upload_from_string(random.Random(3).randbytes(450_000))
    storage_server.choose_fault = lambda method, path, number: "damaged" if "alt=media" in path else None
    with pytest.raises(InputError, match="crc32c"):
        places.fetch("gs://pictures/large.bin", tmp_path)
