"""Local places, and both cloud storages, against emulators over real HTTP."""

import concurrent.futures
import errno
import fcntl
import json
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attngan import cli
from attngan.config import settings
from attngan.data.sources.source_files import Unreadable
from attngan.data.toy import drawn_birds
from attngan.errors import Changed, InputError
from attngan.runtime import exit_status
from attngan.steps import preprocess
from attngan.storage import artifacts, cloud, delivery, folder_lock, places, s3_storage, uris
from attngan.storage.result_folder import result

pytest.importorskip("google.cloud.storage")

from attngan.storage import google_storage


def result_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "numbers.bin").write_bytes(bytes(range(256)) * 1000)
    (folder / "words.txt").write_text("a red bird", encoding="utf-8")
    (folder / "left-over.part").write_text("not part of the result", encoding="utf-8")
    artifacts.finish(folder, "dataset", ["deep/er/numbers.bin", "words.txt"])
    return folder


def test_a_delivered_folder_comes_back_byte_for_byte(cloud_bucket, tmp_path):
    folder = result_folder(tmp_path / "dataset")
    delivery.deliver(folder, f"{cloud_bucket.uri}/runs/one")
    back = places.fetch(f"{cloud_bucket.uri}/runs/one", tmp_path / "back")
    assert back == tmp_path / "back" / "one"
    artifacts.check(back, "dataset", contents=True)
    assert (back / "deep" / "er" / "numbers.bin").read_bytes() == bytes(range(256)) * 1000


def test_only_the_files_of_the_manifest_are_delivered(cloud_bucket, tmp_path):
    delivery.deliver(result_folder(tmp_path / "dataset"), f"{cloud_bucket.uri}/one/")
    assert cloud_bucket.names() == {"one/deep/er/numbers.bin", "one/words.txt", "one/manifest.json"}


def test_the_manifest_is_the_last_to_arrive_and_an_old_one_the_first_to_go(cloud_bucket, tmp_path):
    cloud_bucket.put("one/manifest.json", b"{}")
    cloud_bucket.proxy.requests.clear()
    delivery.deliver(result_folder(tmp_path / "dataset"), f"{cloud_bucket.uri}/one")
    methods = [method for method, path in cloud_bucket.proxy.requests if ".attngan-" not in path]
    # A note whose files these are; the old manifest; two files; the manifest; the note.
    put = "PUT" if cloud_bucket.uri.startswith("s3") else "POST"
    assert [each for each in methods if each not in ("GET", "HEAD")] == [put, "DELETE", put, put, put, "DELETE"]
    assert cloud_bucket.updated("one/manifest.json") >= max(
        cloud_bucket.updated(f"one/{name}") for name in ("words.txt", "deep/er/numbers.bin")
    )


def test_a_single_object_is_fetched_as_a_file(cloud_bucket, tmp_path):
    cloud_bucket.put("archives/birds.tgz", b"not really an archive")
    assert places.fetch(f"{cloud_bucket.uri}/archives/birds.tgz", tmp_path).read_bytes() == b"not really an archive"


def test_a_prefix_does_not_take_its_longer_namesake(cloud_bucket, tmp_path):
    cloud_bucket.put("one/a.txt", b"a")
    cloud_bucket.put("one-more/b.txt", b"b")
    folder = places.fetch(f"{cloud_bucket.uri}/one", tmp_path)
    assert [path.name for path in folder.iterdir()] == ["a.txt"]


def test_a_local_input_is_given_as_it_is_and_none_stays_none(tmp_path):
    with places.local_input(str(tmp_path)) as path, places.local_input(None) as nothing:
        assert (path, nothing) == (tmp_path, None)


@pytest.mark.parametrize("uri", ["lists", "lists/", "birds.tgz"])
def test_a_mistake_in_a_remote_input_is_told_with_its_uri(cloud_bucket, uri):
    cloud_bucket.put("lists/captions.jsonl", b"x" * (2**20 + 1))
    cloud_bucket.put("birds.tgz", b"no archive")
    with pytest.raises(InputError) as caught, places.local_input(f"{cloud_bucket.uri}/{uri}") as path:
        preprocess.look(path, settings.load())
    where = (
        f"{cloud_bucket.uri}/lists/captions.jsonl: line 1: " if "lists" in uri else f"{cloud_bucket.uri}/birds.tgz: "
    )
    assert str(caught.value).startswith(where) and "scratch" not in str(caught.value)
    assert isinstance(caught.value, Unreadable) == ("lists" in uri)


def test_a_remote_input_is_gone_after_the_block(cloud_bucket):
    cloud_bucket.put("one/a.txt", b"a")
    with places.local_input(f"{cloud_bucket.uri}/one") as folder:
        assert (folder / "a.txt").read_text(encoding="utf-8") == "a"
    assert not folder.exists()


def test_a_remote_output_is_delivered_only_if_the_step_succeeded(cloud_bucket):
    def fail():
        with delivery.output(f"{cloud_bucket.uri}/failed", kind="dataset", inputs=[]) as folder:
            result_folder(folder)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with delivery.output(f"{cloud_bucket.uri}/good", kind="dataset", inputs=[]) as folder:
        result_folder(folder)
    assert {name.partition("/")[0] for name in cloud_bucket.names()} == {"good"}


def test_an_object_that_is_damaged_where_it_lies_is_refused(cloud_bucket, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"what was stored")
    places.copy([(tmp_path / "a.txt", "a.txt")], f"{cloud_bucket.uri}/one")
    cloud_bucket.damage("one/a.txt", b"what was st0red")
    with pytest.raises(InputError, match=r"what arrived is not what was sent \((crc32c|checksum)\)"):
        places.fetch(f"{cloud_bucket.uri}/one", tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pictures/nowhere", "nothing is there"),
        ("no-such-bucket/one", "check the bucket's name"),
        ("", "expected (gs|s3)://BUCKET/NAME"),
        ("{bucket}/one", "cannot be a bucket's name"),
        ("pictures/../one", r"found \. or \.\. between slashes"),
        ("pictures/one\n", "of characters that print"),
    ],
)
def test_what_is_missing_is_named(cloud_bucket, tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        places.fetch(f"{cloud_bucket.uri.removesuffix('pictures')}{name}", tmp_path)


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/etc/evil", "a//b"])
def test_an_object_name_that_leads_out_of_the_folder_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="leads out of its folder"):
        cloud.placed([(name, None)], "gs://pictures/one", tmp_path)


def test_a_server_that_does_not_answer_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr(google_storage, "DEADLINE_SECONDS", 0.5)
    with pytest.raises(InputError, match="cloud storage does not answer"):
        places.fetch("gs://pictures/one", tmp_path)


def test_missing_credentials_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(InputError, match=r"no valid credentials .*gcloud auth application-default login"):
        places.fetch("gs://pictures/one", tmp_path)


def test_a_missing_package_is_a_sentence(tmp_path, monkeypatch):
    import attngan.storage

    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    monkeypatch.delitem(sys.modules, "attngan.storage.google_storage")
    monkeypatch.delattr(attngan.storage, "google_storage")
    with pytest.raises(InputError, match="install the gcs extra"):
        places.fetch("gs://pictures/one", tmp_path)


def test_a_folder_without_manifest_is_delivered_whole(cloud_bucket, tmp_path):
    def draw(content, name="1.png"):
        with delivery.output(f"{cloud_bucket.uri}/drawn", kind=None, inputs=[]) as folder:
            folder.mkdir()
            (folder / name).write_bytes(content)

    draw(b"png")
    assert cloud_bucket.names() == {"drawn/1.png"}
    draw(b"more", "2.png")
    draw(b"png")
    assert cloud_bucket.names() == {"drawn/1.png", "drawn/2.png"}
    with pytest.raises(InputError, match=rf"{cloud_bucket.uri}/drawn/1\.png: is there already, with other content"):
        draw(b"another")
    assert cloud_bucket.content("drawn/1.png") == b"png"


def test_of_files_that_hold_results_the_manifests_are_the_last_to_arrive(cloud_bucket, monkeypatch):
    copy, sent = places.copy, []
    monkeypatch.setattr(places, "copy", lambda files, uri: (sent.append([name for _, name in files]), copy(files, uri)))
    with delivery.output(f"{cloud_bucket.uri}/all", kind=None, inputs=[]) as folder:
        result_folder(folder / "one")
        (folder / "z.txt").write_text("z", encoding="utf-8")
    others = ["one/deep/er/numbers.bin", "one/left-over.part", "one/words.txt", "z.txt"]
    assert sent == [others, ["one/manifest.json"]]


def test_what_others_keep_in_the_cloud_is_not_replaced(cloud_bucket, tmp_path):
    folder = result_folder(tmp_path / "dataset")
    cloud_bucket.put("one/notes.txt", b"mine")
    with delivery.output(
        f"{cloud_bucket.uri}/one", kind="dataset", inputs=[f"{cloud_bucket.uri}/two", "gs://other/one"]
    ) as out:
        shutil.copytree(folder, out)
    assert cloud_bucket.content("one/notes.txt") == b"mine"
    refused = [
        ("one", "metrics", [], "found a complete dataset folder"),
        ("one", "dataset", [f"{cloud_bucket.uri}/one/"], "is the input"),
        ("one/deeper", "dataset", [f"{cloud_bucket.uri}/one"], "lies inside the input"),
        ("one", "dataset", [f"{cloud_bucket.uri}/one/deeper/birds.tgz"], "holds the input"),
        ("two", "dataset", [], f"{cloud_bucket.uri}/two/config.yaml: stands in the way"),
        ("three", "dataset", [], f"{cloud_bucket.uri}/three/manifest.json: stands in the way"),
    ]
    cloud_bucket.put("two/config.yaml", b"mine")
    cloud_bucket.put("three/manifest.json", b'{"name": "an app"}')
    before = places.fingerprint(cloud_bucket.uri)
    for name, kind, inputs, said in refused:
        with (
            pytest.raises(InputError, match=said),
            delivery.output(f"{cloud_bucket.uri}/{name}", kind=kind, inputs=inputs),
        ):
            pytest.fail("nothing is made")
    assert places.fingerprint(cloud_bucket.uri) == before


def test_a_step_reads_an_archive_from_the_cloud_and_leaves_its_result_there(cloud_bucket, tmp_path):
    drawn_birds.draw(tmp_path / "birds", count=len(drawn_birds.bird_classes()), seed=1)
    with tarfile.open(tmp_path / "birds.tgz", "w:gz") as archive:
        archive.add(tmp_path / "birds", "birds")
    cloud_bucket.put("birds.tgz", (tmp_path / "birds.tgz").read_bytes())
    flags = [
        "--source",
        f"{cloud_bucket.uri}/birds.tgz",
        "--out",
        f"{cloud_bucket.uri}/run/dataset",
        "--set",
        "data.resolution=64",
    ]
    result = CliRunner().invoke(cli.app, ["preprocess", *flags])
    assert result.exit_code == 0, result.output
    back = places.fetch(f"{cloud_bucket.uri}/run/dataset", tmp_path / "back")
    assert artifacts.check(back, "dataset", contents=True)["kind"] == "dataset"


def test_a_pointer_is_written_only_over_the_one_that_was_read(root):
    uri = uris.join(root, "latest.json")
    assert places.read(uri) == (b"", 0)
    first = places.write(uri, b"first", generation=0)
    assert places.read(uri) == (b"first", first)
    second = places.write(uri, b"second", generation=first)
    for stale in (0, first):
        with pytest.raises(Changed):
            places.write(uri, b"third", generation=stale)
    assert places.read(uri) == (b"second", second)


def test_of_many_that_write_a_pointer_at_once_one_wins_each_round(root):
    uri = uris.join(root, "latest.json")

    def increase(_):
        while True:
            content, generation = places.read(uri)
            try:
                return places.write(uri, str(int(content or b"0") + 1).encode(), generation=generation)
            except Changed:
                continue

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(increase, range(12)))
    assert places.read(uri)[0] == b"12"


def test_pointers_on_this_machine_leave_one_lock_in_their_folder_and_none_of_a_runs(tmp_path):
    with folder_lock.held(tmp_path / "run"):
        for number in range(3):
            places.write(str(tmp_path / "run" / f"{number}.json"), b"{}", generation=0)
    assert places.names(str(tmp_path / "run")) == [
        ".attngan-write.lock",
        folder_lock.LOCK,
        "0.json",
        "1.json",
        "2.json",
    ]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_takes_runs_and_pointers(tmp_path, monkeypatch, number):
    def flock(handle, how):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with folder_lock.held(tmp_path / "run"):
        first = places.write(str(tmp_path / "run" / "latest.json"), b"{}", generation=0)
    assert places.read(str(tmp_path / "run" / "latest.json")) == (b"{}", first)


def test_a_run_that_opened_the_lock_of_a_folder_that_is_then_removed_holds_the_new_one(tmp_path, monkeypatch):
    folder, flock, others = tmp_path / "run", fcntl.flock, []

    def overtaken(handle, how):
        if not others:  # the one that held it ends, and removes the folder
            others.append(handle)
            (folder / folder_lock.LOCK).unlink()
            folder.rmdir()
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    second = folder_lock.held(folder)
    with folder_lock.held(folder), pytest.raises(InputError, match="another run is at work there"):
        second.__enter__()
    assert not folder.exists()


def test_the_lock_of_a_folder_that_is_removed_is_held_until_it_is_gone(tmp_path, monkeypatch):
    unlink, asked = Path.unlink, []

    def unlinked(path, **options):
        with path.open() as again, pytest.raises(BlockingIOError):
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        asked.append(path)
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", unlinked)
    with folder_lock.held(tmp_path / "run"):
        pass
    assert asked == [tmp_path / "run" / folder_lock.LOCK] and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "uri", ["gs:/bucket/x", "GS://bucket/x", "file:///bucket/x", "https://host/x", Path("gs://bucket/x")]
)
def test_a_uri_of_an_unknown_kind_is_neither_local_nor_remote(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"expected a local path, gs://BUCKET/NAME, .*; put ./ before a local one"):
        uris.is_remote(uri)
    with pytest.raises(InputError), result(Path(uri), "dataset", inputs=[]):
        pass
    assert list(tmp_path.iterdir()) == [] and not uris.is_remote("./gs:/x") and not uris.is_remote("a:b/c")


def test_a_full_disk_is_that_of_the_folder_that_is_fetched_into(cloud_bucket, tmp_path, monkeypatch):
    places.write(f"{cloud_bucket.uri}/one", b"x", generation=0)

    def download(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(google_storage, "_download", download)
    monkeypatch.setattr(s3_storage, "_download", download)
    with pytest.raises(OSError, match="No space") as caught:
        places.fetch(f"{cloud_bucket.uri}/one", tmp_path)
    assert exit_status.explain(caught.value, "out").startswith(f"{tmp_path}: the disk is full")


def test_files_are_moved_listed_and_removed(root, tmp_path):
    (tmp_path / "one.bin").write_bytes(b"1")
    Path(root).mkdir(exist_ok=True) if not uris.is_remote(root) else None
    places.send(tmp_path / "one.bin", uris.join(root, "a.bin"))
    assert not (tmp_path / "one.bin").exists()
    assert places.names(root) == ["a.bin"]
    places.remove(uris.join(root, "a.bin"))
    places.remove(uris.join(root, "a.bin"))
    assert places.names(root) == []


def test_the_fingerprint_follows_names_and_contents(root, tmp_path):
    folder = result_folder(tmp_path / "dataset")

    def copy():
        places.copy([(folder / name, name) for name in places.names(str(folder))], root)

    copy()
    first = places.fingerprint(root, "")
    copy()
    assert places.fingerprint(root, "") == first
    assert places.fingerprint("", root) != first
    (folder / "words.txt").write_text("a blue bird", encoding="utf-8")
    artifacts.finish(folder, "dataset", ["deep/er/numbers.bin", "words.txt"])
    copy()
    assert places.fingerprint(root, "") != first


def test_the_fingerprint_follows_what_lies_behind_links(tmp_path):
    real, source = tmp_path / "real", tmp_path / "source"
    (real / "deep").mkdir(parents=True)
    (real / "deep" / "1.png").write_bytes(b"red")
    source.mkdir()
    (source / "images").symlink_to(real)
    (source / "again").symlink_to(real)
    (real / "deep" / "up").symlink_to(source)
    (real / "loop").symlink_to("loop")
    (source / "captions.jsonl").symlink_to(real / "deep" / "1.png")
    assert places.names(str(source)) == ["again/deep/1.png", "captions.jsonl"]
    before = places.fingerprint(str(source))
    (real / "deep" / "1.png").write_bytes(b"blue")
    assert places.fingerprint(str(source)) != before


def test_folders_that_link_to_each_other_are_read_once_each(tmp_path):
    folders = [tmp_path / f"{number:02d}" for number in range(12)]
    for folder in folders:
        folder.mkdir()
        (folder / "1.png").touch()
        for other in folders:
            if other != folder:
                (folder / f"to-{other.name}").symlink_to(other)
    assert len(places.names(str(tmp_path))) == len(folders)


def test_the_fingerprint_of_what_is_not_there_is_refused(root):
    with pytest.raises(InputError, match=r"no such file|nothing is there|not found"):
        places.fingerprint(root)


def test_a_pointer_that_is_replaced_while_it_is_read_is_read_again(bucket, monkeypatch):
    from google.api_core.exceptions import NotFound
    from google.cloud.storage import Blob

    places.write("gs://pictures/latest.json", b"first", generation=0)
    download, refused = Blob.download_as_bytes, []

    def replaced(blob, **options):
        if not refused:
            refused.append(blob.generation)
            places.write("gs://pictures/latest.json", b"second", generation=blob.generation)
            raise NotFound("no such generation")
        return download(blob, **options)

    monkeypatch.setattr(Blob, "download_as_bytes", replaced)
    assert places.read("gs://pictures/latest.json")[0] == b"second" and refused


def test_what_is_said_of_an_upload_does_not_hold_its_key():
    error = RuntimeError("PUT https://storage.googleapis.com/upload?uploadType=resumable&upload_id=SECRET: 503")
    assert cloud.first_line(error) == "PUT https://storage.googleapis.com/upload 503"
    error = RuntimeError('Could not connect to "http://me:SECRET@store:9000/pictures?X-Amz-Signature=SECRET"')
    assert cloud.first_line(error) == 'Could not connect to "http://store:9000/pictures'


def test_of_two_deliveries_at_once_the_one_whose_note_is_gone_says_so(cloud_bucket, tmp_path, monkeypatch):
    folder, copy = result_folder(tmp_path / "dataset"), places.copy

    def copied(files, uri):
        files = list(files)
        if any(name == "words.txt" for _, name in files):  # another delivery begins meanwhile
            note = uris.join(uri, delivery.NOTE)
            places.write(note, b"{}", generation=places.read(note)[1])
        copy(files, uri)

    monkeypatch.setattr(places, "copy", copied)
    with pytest.raises(InputError, match="another run delivers a result there at the same time"):
        delivery.deliver(folder, f"{cloud_bucket.uri}/one")
    assert "one/manifest.json" not in cloud_bucket.names()


def test_a_manifest_that_others_made_up_costs_none_of_their_files(cloud_bucket, tmp_path):
    folder = result_folder(tmp_path / "dataset")
    manifest = artifacts.read_manifest(folder)
    manifest["files"]["precious.txt"] = {"bytes": 1, "sha256": "0" * 64}
    cloud_bucket.put(f"one/{delivery.NOTE}", json.dumps(manifest).encode())
    cloud_bucket.put("one/precious.txt", b"x")
    delivery.deliver(folder, f"{cloud_bucket.uri}/one")
    assert cloud_bucket.content("one/precious.txt") == b"x"


def test_a_pointer_that_is_far_too_large_is_not_read(root, tmp_path, monkeypatch):
    monkeypatch.setattr(cloud, "MAX_READ", 10)
    places.write(uris.join(root, "small"), b"0123456789", generation=0)
    places.write(uris.join(root, "large"), b"0123456789x", generation=0)
    assert places.read(uris.join(root, "small"))[0] == b"0123456789"
    with pytest.raises(InputError, match="expected at most 10 bytes, found 11"):
        places.read(uris.join(root, "large"))
