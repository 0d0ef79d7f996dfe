"""Cloud storage that stumbles: nothing is lost, nothing is silently wrong, and what cannot be done is said in time."""

import itertools
import random
import shutil
import signal
import threading
import time

import pytest

from attngan.errors import InputError
from attngan.storage import artifacts, cloud, delivery, places

pytest.importorskip("google.cloud.storage")
pytest.importorskip("boto3")

from botocore.retries import standard

from attngan.storage import google_storage, s3_storage

SLOW = pytest.param("slow", marks=pytest.mark.slow)  # an answer that comes too late, and is waited for
PASSING = ["503", "503 after", "reset", "reset after", "truncated", SLOW]  # gone when tried again


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch):
    """Try again at once, not after a second and two and four."""
    hurried = google_storage.DEFAULT_RETRY.with_delay(initial=0.005, maximum=0.02, multiplier=1.5)
    monkeypatch.setattr(google_storage, "DEFAULT_RETRY", hurried)
    monkeypatch.setattr(google_storage, "DEADLINE_SECONDS", 20.0)
    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda self, context: 0.01)
    monkeypatch.setattr(s3_storage, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(s3_storage, "DEADLINE_SECONDS", 5.0)
    monkeypatch.setattr(cloud, "ATTEMPT_SECONDS", 0.5)


def folder_of(path, count, seed=0):
    numbers = random.Random(seed)
    path.mkdir(parents=True, exist_ok=True)
    names = [f"{number % 3}/{number}.bin" for number in range(count)]
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(numbers.randbytes(numbers.randrange(1, 20_000)))
    artifacts.finish(path, "dataset", names)
    return path


def is_download(method, path):
    return method == "GET" and "list-type" not in path and ("alt=media" in path or "/storage/v1/" not in path)


def is_upload(method, path):
    return method in ("POST", "PUT")


def is_note(path):
    return "ifGenerationMatch" in path or "/unfinished/" in path or ".attngan-" in path


def damaged(method, path, number):
    return "damaged" if is_download(method, path) else None


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
def test_a_folder_passes_both_ways_where_every_request_stumbles_once(fault, cloud_bucket, tmp_path):
    folder = folder_of(tmp_path / "dataset", 3)
    cloud_bucket.proxy.choose_fault = first_of_each(fault)
    delivery.deliver(folder, f"{cloud_bucket.uri}/one")
    back = places.fetch(f"{cloud_bucket.uri}/one", tmp_path / "back")
    artifacts.check(back, "dataset", contents=True)


def test_a_folder_passes_both_ways_where_a_third_of_the_requests_stumble(cloud_bucket, tmp_path):
    folder = folder_of(tmp_path / "dataset", 40)
    dice = random.Random(1)
    stumbled = []

    def choose(method, path, number):
        fault = dice.choice(["503", "503 after", "reset", "reset after", "truncated"]) if dice.random() < 0.33 else None
        stumbled.append(fault)
        return fault

    cloud_bucket.proxy.choose_fault = choose
    delivery.deliver(folder, f"{cloud_bucket.uri}/one")
    back = places.fetch(f"{cloud_bucket.uri}/one", tmp_path / "back")
    artifacts.check(back, "dataset", contents=True)
    assert sum(fault is not None for fault in stumbled) > 20


def test_what_is_damaged_on_its_way_is_refused_not_kept(cloud_bucket, tmp_path):
    delivery.deliver(folder_of(tmp_path / "dataset", 2), f"{cloud_bucket.uri}/one")
    cloud_bucket.proxy.choose_fault = damaged
    with pytest.raises(InputError, match="what arrived is not what was sent"):
        places.fetch(f"{cloud_bucket.uri}/one", tmp_path / "back")


@pytest.mark.parametrize("fault", ["503", "reset", SLOW])
def test_storage_that_stays_away_is_a_sentence_in_time_and_nothing_looks_complete(
    fault, cloud_bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(google_storage, "DEADLINE_SECONDS", 1.0)
    monkeypatch.setattr(s3_storage, "ATTEMPTS", 3)
    folder = folder_of(tmp_path / "dataset", 2)
    delivery.deliver(folder, f"{cloud_bucket.uri}/one")
    for is_said, is_there in ((True, False), (False, True)):  # whether the note of what comes can be written
        cloud_bucket.proxy.choose_fault = lambda method, path, number, is_said=is_said: (
            fault if is_upload(method, path) and not (is_said and is_note(path)) else None
        )
        start = time.monotonic()
        with pytest.raises(InputError, match="does not answer"):
            delivery.deliver(folder, f"{cloud_bucket.uri}/one")
        assert time.monotonic() - start < 15
        cloud_bucket.proxy.choose_fault = lambda method, path, number: None
        assert ("manifest.json" in places.names(f"{cloud_bucket.uri}/one")) == is_there
        with delivery.output(f"{cloud_bucket.uri}/one", kind="dataset", inputs=[]) as again:  # what is there is ours
            shutil.copytree(folder, again)
        assert sorted(places.names(f"{cloud_bucket.uri}/one")) == ["0/0.bin", "1/1.bin", "manifest.json"]


@pytest.mark.parametrize("is_interrupted", [False, True])
@pytest.mark.parametrize("way", ["fetch", "fetch in parts", "deliver"])
def test_of_many_transfers_none_begins_after_the_network_is_gone(way, is_interrupted, gs_bucket, tmp_path, monkeypatch):
    """Each would be tried for seconds, and there are five times as many as workers."""
    monkeypatch.setattr(google_storage, "DEADLINE_SECONDS", 30.0 if is_interrupted else 2.0)
    folder, is_transfer = folder_of(tmp_path / "dataset", 40), is_upload if way == "deliver" else is_download
    if way == "fetch in parts":
        gs_bucket.put("one", random.Random(4).randbytes(400_000))
        monkeypatch.setattr(cloud, "CHUNK_BYTES", 10_000)
    elif way == "fetch":
        delivery.deliver(folder, f"{gs_bucket.uri}/one")
    transfers = itertools.count()

    def choose(method, path, number):
        if not is_transfer(method, path) or is_note(path) or (count := next(transfers)) < 10:
            return None
        if is_interrupted and count == 10:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # Ctrl-C
        return "reset"

    gs_bucket.proxy.choose_fault = choose
    uri, start = f"{gs_bucket.uri}/one", time.monotonic()
    with pytest.raises(KeyboardInterrupt if is_interrupted else InputError) as ended:
        delivery.deliver(folder, uri) if way == "deliver" else places.fetch(uri, tmp_path / "back")
    assert time.monotonic() - start < 6
    assert is_interrupted or "cloud storage does not answer" in str(ended.value)


def test_a_request_that_fails_is_waited_for_from_its_own_beginning(gs_bucket, tmp_path, monkeypatch, capsys):
    """The last of many that pass stumbles once, long after the first began."""
    monkeypatch.setattr(cloud, "_TOLD", set())
    monkeypatch.setattr(cloud, "NUM_WORKERS", 1)
    monkeypatch.setattr(cloud, "PATIENCE_SECONDS", 0.4)
    for number in range(4):
        gs_bucket.put(f"one/{number}.txt", b"a")
    stumble = first_of_each("reset")

    def choose(method, path, number):
        if is_download(method, path):
            time.sleep(0.2)
            return stumble(method, path, number) if "3.txt" in path else None
        return None

    gs_bucket.proxy.choose_fault = choose
    places.fetch(f"{gs_bucket.uri}/one", tmp_path / "back")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("fault", ["503", "reset", SLOW])
def test_storage_that_is_waited_for_is_named_once_and_only_after_a_while(
    fault, cloud_bucket, tmp_path, monkeypatch, capsys
):
    host = cloud_bucket.proxy.url.removeprefix("http://")
    monkeypatch.setattr(cloud, "_TOLD", set())
    cloud_bucket.put("one/a.txt", b"a")
    cloud_bucket.proxy.choose_fault = first_of_each(fault)
    places.fetch(f"{cloud_bucket.uri}/one", tmp_path / "quick")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cloud, "PATIENCE_SECONDS", 0.0)
    cloud_bucket.proxy.choose_fault = first_of_each(fault)
    places.fetch(f"{cloud_bucket.uri}/one", tmp_path / "slow")
    said = "does not answer; trying again, for about 5 minutes at most ..."
    assert capsys.readouterr().err == f"{host} {said}\n"


@pytest.mark.parametrize("fault", ["503 after", "reset after", "truncated"])
def test_a_pointer_that_arrived_while_its_answer_was_lost_is_ours(fault, cloud_bucket):
    first = places.write(f"{cloud_bucket.uri}/latest.json", b"first", generation=0)
    cloud_bucket.proxy.choose_fault = first_of_each(fault)
    second = places.write(f"{cloud_bucket.uri}/latest.json", b"second", generation=first)
    assert places.read(f"{cloud_bucket.uri}/latest.json") == (b"second", second)


@pytest.mark.parametrize("fault", [None, "503", "truncated", "reset"])
def test_a_large_object_is_fetched_in_parts_and_checked(fault, cloud_bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(cloud, "CHUNK_BYTES", 100_000)
    content = random.Random(2).randbytes(1_050_000)
    cloud_bucket.put("large.bin", content)
    if fault:
        cloud_bucket.proxy.choose_fault = first_of_each(fault)
    cloud_bucket.proxy.requests.clear()
    assert places.fetch(f"{cloud_bucket.uri}/large.bin", tmp_path).read_bytes() == content
    assert sum(is_download(*request) for request in cloud_bucket.proxy.requests) >= 11


def test_a_large_object_that_is_damaged_on_its_way_is_refused(cloud_bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(cloud, "CHUNK_BYTES", 100_000)
    cloud_bucket.put("large.bin", random.Random(3).randbytes(450_000))
    cloud_bucket.proxy.choose_fault = damaged
    with pytest.raises(InputError, match="what arrived is not what was sent"):
        places.fetch(f"{cloud_bucket.uri}/large.bin", tmp_path)
