"""Training state: the newest whole one is read, nothing is thrown away silently, nothing read can run code.

Each fact is asked of a local folder and of cloud storage.
"""

import errno
import json
import os
import pickle
import signal
import time
import types

import pytest
import torch
from saved_states import load, open_store, overwrite, save, save_and_wait, states

from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.runtime import stopping
from attngan.storage import artifacts, places, uris
from attngan.training import run as run_module
from attngan.training.damsm_run import DamsmRun
from attngan.training.states import StateStore, restore


def test_the_newest_state_is_read_and_the_last_two_are_kept(root):
    uri = save(root, 1, 2, 10)
    state = load(root)
    assert state["step"] == 10 and state["weights"].tolist() == [10, 10, 10]
    assert [name[:14] for name in states(root)] == ["step-000000010", "step-000000002"]
    kept = [name for name in places.names(uri) if not name.endswith(".lock")]
    assert kept == sorted(["latest.json", *states(root)])


def test_another_version_of_states_has_a_folder_of_its_own_and_another_revision_does_not(root, monkeypatch):
    uri = save(root, 1)
    monkeypatch.setenv("ATTNGAN_REVISION", "edited")
    assert open_store(root).uri == uri and load(root)["revision"] != "edited"
    monkeypatch.setattr(artifacts, "STATE_VERSION", artifacts.STATE_VERSION + 1)
    assert open_store(root).uri != uri and load(root) is None


def test_no_state_is_no_state(root):
    assert load(root) is None


def test_a_state_that_is_cut_off_is_passed_over_for_the_one_before_it(root, capsys):
    uri = save(root, 1, 2)
    newest = uris.join(uri, states(root)[0])
    overwrite(newest, places.read(newest)[0][:-200])
    assert load(root)["step"] == 1
    assert f"the checkpoint {states(root)[0]} cannot be read" in capsys.readouterr().out


def test_a_state_that_is_gone_is_passed_over_and_the_run_goes_on_from_there(root):
    uri = save(root, 1, 2)
    places.remove(uris.join(uri, states(root)[0]))
    save(root, 3)
    assert load(root)["step"] == 3
    assert [name[:14] for name in states(root)] == ["step-000000003", "step-000000001"]


def test_where_no_state_can_be_read_the_run_does_not_start_over_by_itself(root):
    uri = save(root, 1)
    overwrite(uris.join(uri, states(root)[0]), b"")
    with pytest.raises(InputError, match="none of its 1 checkpoints can be read"):
        load(root)


def test_a_state_cannot_run_code(root, tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "attacked"),))

    uri = save(root, 1, 2)
    entries = []
    for number, name in enumerate(states(root)):
        if number:
            (tmp_path / "evil.pt").write_bytes(pickle.dumps(Attack()))
        else:
            torch.save({"step": 1, "weights": Attack()}, tmp_path / "evil.pt")
        content = (tmp_path / "evil.pt").read_bytes()
        overwrite(uris.join(uri, name), content)
        sha256 = artifacts.sha256_of(tmp_path / "evil.pt")
        entries.append({"step": 1, "file": name, "bytes": len(content), "sha256": sha256})
    overwrite(uris.join(uri, "latest.json"), json.dumps({"states": entries}).encode())
    with pytest.raises(InputError, match="none of its 2 checkpoints"):
        load(root)
    assert not (tmp_path / "attacked").exists()


def test_of_two_runs_the_one_that_comes_too_late_stops_and_both_states_stay_whole(root):
    save(root, 1)
    with open_store(root) as first, open_store(root) as second:
        assert first.load()["step"] == second.load()["step"] == 1
        first.save(2, {"weights": torch.zeros(3)})
        first.save(3, {"weights": torch.zeros(3)})
        with pytest.raises(InputError, match="another run of the same settings and data saves its state here"):
            save_and_wait(second, 2)
        save_and_wait(first, 4)
    state = load(root)
    assert state["step"] == 4 and state["weights"].tolist() == [0, 0, 0]
    assert all(first._run in name for name in states(root))
    assert not [name for name in places.names(first.uri) if second._run in name]


def test_a_draft_that_a_run_further_on_has_cleared_away_is_a_run_too_late(tmp_path, monkeypatch):
    root = str(tmp_path)
    with open_store(root) as first, open_store(root) as second:
        send = places.send

        def overtaken(path, uri):
            monkeypatch.setattr(places, "send", send)
            for step in (5, 6, 7):
                first.save(step, {"weights": torch.zeros(3)})
            send(path, uri)

        monkeypatch.setattr(places, "send", overtaken)
        with pytest.raises(InputError, match="another run"):
            save_and_wait(second, 1)
    assert load(root)["step"] == 7


def test_two_runs_that_begin_at_once_do_not_both_go_on(root):
    with open_store(root) as first, open_store(root) as second:
        assert first.load() is second.load() is None
        first.save(1, {"weights": torch.zeros(3)})
        first.wait()
        with pytest.raises(InputError, match="another run"):
            save_and_wait(second, 1)


def test_scraps_of_killed_saves_are_cleared_away_once_the_run_is_past_them(tmp_path):
    root = str(tmp_path)
    uri = save(root, 1)
    for scrap in (".step-000000002-0badcafe.part", "step-000000002-0badcafe.pt", "step-000000009-0badcafe.pt"):
        places.write(uris.join(uri, scrap), b"half", generation=0)
    save(root, 3, 4)
    left = [name for name in places.names(uri) if "0badcafe" in name and not name.endswith(".lock")]
    assert left == ["step-000000009-0badcafe.pt"]


def test_leaving_waits_until_the_state_is_in_the_cloud(storage_server, bucket):
    storage_server.choose_fault = lambda method, path, number: "slow"
    with open_store("gs://pictures/root") as store:
        store.save(1, {"weights": torch.zeros(3)})
    storage_server.choose_fault = lambda method, path, number: None
    assert load("gs://pictures/root")["step"] == 1


def test_a_state_that_could_not_be_sent_stops_the_run(bucket, monkeypatch):
    from attngan.storage import google_storage

    def fail(*_):
        raise InputError("the cloud is gone")

    monkeypatch.setattr(google_storage, "upload", fail)
    with pytest.raises(InputError, match="the cloud is gone"), open_store("gs://pictures/root") as store:
        store.save(1, {"weights": torch.zeros(3)})


def test_a_disk_that_is_full_is_not_taken_for_a_damaged_state(root, monkeypatch):
    save(root, 1, 2)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(OSError, match="No space left"):
        load(root)


def test_a_state_of_other_shapes_is_refused_by_name(tmp_path):
    state = torch.nn.Linear(3, 3).state_dict()
    with pytest.raises(InputError, match=r"the checkpoint's generator does not fit this run.*size mismatch"):
        restore(torch.nn.Linear(2, 2), state, name="generator", where=str(tmp_path))


def test_the_time_of_a_training_is_that_of_all_its_processes_also_where_it_goes_back(
    dataset, smoke, tmp_path, monkeypatch
):
    clock = [100.0]
    monkeypatch.setattr(run_module, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))

    def begin():
        return DamsmRun(smoke, Dataset.open(dataset, "train"), torch.device("cpu"), None)

    with open_store(str(tmp_path)) as store:
        first = begin()
        clock[0] += 10
        store.save(3, first.state(), good=True)
        store.wait()
        second = begin()
        clock[0] += 1000  # before it is read what the run goes on from
        second.resume(store)
        clock[0] += 5
        assert second.spent == 15
        second.go_back(store)
        assert second.spent == 15
        store.save(4, {name: value for name, value in first.state().items() if name != "spent"})  # as before
        second.resume(store)
        assert second.spent is None


@pytest.mark.parametrize(("number", "leaves_by"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_asks_once_and_leaves_as_it_would(number, leaves_by):
    before = signal.getsignal(number)
    with stopping.stop_request() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        with pytest.raises(leaves_by):
            stop.stop()
    assert signal.getsignal(number) is before


def test_the_place_of_a_state_follows_everything_that_shapes_the_result():
    first, same, other = (
        StateStore("root", step_name="damsm", key=key).uri for key in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1})
    )
    assert first == same != other


def test_the_last_good_state_stays_beside_the_last_two_and_is_gone_back_to(root):
    with open_store(root) as store:
        store.load()
        for step in (1, 2, 3, 4, 5):
            store.save(step, {"weights": torch.full((3,), float(step))}, good=step in (1, 3))
    assert [name[:14] for name in states(root)] == ["step-000000005", "step-000000004", "step-000000003"]
    assert open_store(root).load(good=True)["weights"].tolist() == [3, 3, 3]


def test_what_comes_after_the_step_gone_back_to_is_forgotten(root):
    with open_store(root) as store:
        store.load()
        for step in (3, 4, 5):
            store.save(step, {"weights": torch.full((3,), float(step))}, good=step == 3)
        store.wait()
        state = store.load(good=True)
        store.save(3, {"weights": state["weights"] + 0.5}, good=True)
    assert load(root)["weights"].tolist() == [3.5, 3.5, 3.5]
    uri = open_store(root).uri
    assert sorted(name for name in places.names(uri) if name.endswith(".pt")) == sorted(states(root))
    assert [name[:14] for name in states(root)] == ["step-000000003", "step-000000003"]


def test_files_are_shown_beside_the_states_and_come_back(root, tmp_path):
    (tmp_path / "out" / "samples").mkdir(parents=True)
    (tmp_path / "out" / "samples" / "a.png").write_bytes(b"picture")
    with open_store(root) as store:
        store.show([tmp_path / "out" / "samples" / "a.png"], tmp_path / "out")
        store.wait()
        assert store.shown("samples/") == ["samples/a.png"]
        store.fetch("samples/a.png", tmp_path / "other")
    assert (tmp_path / "other" / "samples" / "a.png").read_bytes() == b"picture"


def test_a_state_that_is_being_written_is_not_written_over(tmp_path, monkeypatch):
    weights, save = torch.zeros(3), torch.save

    def slowly(content, handle):
        time.sleep(0.05)
        save(content, handle)

    monkeypatch.setattr(torch, "save", slowly)
    with StateStore(str(tmp_path), step_name="s", key=1) as store:
        for step in (1, 2, 3):
            store.save(step, {"weights": weights.fill_(step)}, good=step < 3)
            weights.fill_(-1)  # the training goes on
    read = [torch.load(path, weights_only=True) for path in tmp_path.glob("*/*.pt")]
    assert {state["step"]: state["weights"].tolist() for state in read} == {2: [2, 2, 2], 3: [3, 3, 3]}
