"""Pointers and states that are damaged or gone: what is sound is used, what was deleted is made anew, and said."""

import os
import shutil
import signal
import tempfile

import pytest
import torch
from saved_states import load, open_store, overwrite, save, save_and_wait, states

from attngan.errors import InputError
from attngan.storage import artifacts, places, uris

DAMAGED = {
    "empty": b"",
    "cut off": b"{",
    "a list": b"[]",
    "no states": b'{"states": []}',
    "out of the folder": b'{"states": [{"file": "../x", "sha256": "1"}]}',
    "wrong types": b'{"states": [{"file": 1, "sha256": null, "bytes": "many"}]}',
    "a text": b'{"states": "step-000000001-ab.pt"}',
    "nested": b"[" * 3000,
    "digits": b'{"states": ' + b"1" * 5000 + b"}",
}


def test_where_the_pointer_is_damaged_or_gone_the_newest_sound_state_is_used_and_a_line_says_so(root, capsys):
    uri = save(root, 1, 2)
    pointer = uris.join(uri, "latest.json")
    contents = [b"", b"{", None] if uris.is_remote(root) else [*DAMAGED.values(), None]
    for step, content in enumerate(contents, start=3):
        overwrite(pointer, content) if content is not None else places.remove(pointer)
        capsys.readouterr()
        assert load(root)["weights"].tolist() == [step - 1] * 3
        (line,) = capsys.readouterr().out.splitlines()
        assert (
            line.startswith(f"{pointer}: ")
            and f"; the newest state that is sound is used instead: step {step - 1}" in line
        )
        save(root, step)
        assert [int(name[5:14]) for name in states(root)] == [step, step - 1]
        assert load(root)["step"] == step


def test_a_damaged_pointer_without_a_sound_state_is_refused_and_no_pointer_without_states_is_a_beginning(root):
    uri = save(root, 1)
    pointer, state = uris.join(uri, "latest.json"), uris.join(uri, states(root)[0])
    places.remove(pointer)
    overwrite(state, b"half")
    with pytest.raises(InputError, match="none of its 1 checkpoints can be read; restore one of the files, or remove"):
        load(root)
    places.remove(state)
    for content in DAMAGED.values():
        overwrite(pointer, content)
        with pytest.raises(
            InputError, match=r"expected .*; restore the file, or remove the folder to start from"
        ) as caught:
            load(root)
        assert str(caught.value).startswith(f"{pointer}: ") and len(str(caught.value).splitlines()) == 1
    places.remove(pointer)
    assert load(root) is None


def harm(content, how):
    """Return a state that is not as it was written, most of which `torch.load` reads."""
    if how == "a byte":
        place = content.index(torch.full((3,), 2.0).numpy().tobytes())
        return content[:place] + b"?" + content[place + 1 :]
    return content[: len(content) // 2] if how == "half" else b""


@pytest.mark.parametrize("how", ["a byte", "half", "empty", "another step"])
def test_a_state_that_the_pointer_does_not_vouch_for_proves_itself(how, root, capsys):
    uri = save(root, 1, 2)
    newest, before = (uris.join(uri, name) for name in states(root))
    content = places.read(newest)[0]
    overwrite(newest, places.read(before)[0] if how == "another step" else harm(content, how))
    places.remove(uris.join(uri, "latest.json"))
    assert load(root)["step"] == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and "the checkpoint step-000000002" in said[0] and said[1].endswith("step 1.")


def test_a_state_without_a_pointer_cannot_run_code(root, tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "attacked"),))

    uri = save(root, 1)
    torch.save({"step": 1, "weights": Attack()}, tmp_path / "evil.pt")
    overwrite(uris.join(uri, states(root)[0]), (tmp_path / "evil.pt").read_bytes())
    places.remove(uris.join(uri, "latest.json"))
    with pytest.raises(InputError, match="none of its 1 checkpoints"):
        load(root)
    assert not (tmp_path / "attacked").exists()


def test_a_draft_for_cloud_storage_does_not_outlive_a_killed_process(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if (process := os.fork()) == 0:
        monkeypatch.setattr(torch, "save", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        save_and_wait(open_store("gs://pictures/states"), 1)
    os.waitpid(process, 0)
    assert len(list(tmp_path.rglob("*.part"))) == 1
    save("gs://pictures/states", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_good_state_is_known_and_kept_without_the_pointer_too(root):
    with open_store(root) as store:
        store.load()
        for step in (1, 2, 3):
            store.save(step, {"weights": torch.full((3,), float(step))}, good=step == 1)
        store.wait()
        pointer = uris.join(store.uri, "latest.json")
        overwrite(pointer, b"")
        assert store.load(good=True)["step"] == 1
        overwrite(pointer, b"")
        assert store.load()["step"] == 3
        store.save(4, {"weights": torch.zeros(3)})
    assert [int(name[5:14]) for name in states(root)] == [4, 3, 1]
    assert load(root)["step"] == 4 and open_store(root).load(good=True)["step"] == 1


def empty(root):
    """Delete all that is in a folder, and a local folder itself."""
    if uris.is_remote(root):
        for name in places.names(root):
            places.remove(uris.join(root, name))
    else:
        shutil.rmtree(root)


@pytest.mark.parametrize("deleted", ["folder", "states", "pointer"])
def test_what_is_deleted_while_the_run_goes_on_is_made_anew_and_said(deleted, root, capsys):
    with open_store(root) as store:
        store.load()
        for step in (1, 2):
            store.save(step, {"weights": torch.zeros(3)}, good=step == 1)
        store.wait()
        if deleted == "folder":
            empty(root)
        elif deleted == "pointer":
            places.remove(uris.join(store.uri, "latest.json"))
        else:
            for name in states(root):
                places.remove(uris.join(store.uri, name))
        capsys.readouterr()
        store.save(3, {"weights": torch.zeros(3)})
        store.wait()
        said = capsys.readouterr().out
        assert [int(name[5:14]) for name in states(root)] == ([3, 2, 1] if deleted == "pointer" else [3])
        store.save(4, {"weights": torch.ones(3)})
    assert len(said.splitlines()) == (deleted != "states")
    assert deleted == "states" or "was deleted while the run went on; made anew with the state after step 3." in said
    assert load(root)["weights"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("moment", ["sha256_of", "send", "write"])
def test_a_folder_that_is_deleted_inside_a_save_is_made_anew(moment, is_first, tmp_path, monkeypatch):
    root = str(tmp_path / "root")
    module = artifacts if moment == "sha256_of" else places
    call = getattr(module, moment)

    def deleted_before(*arguments, **how):
        monkeypatch.setattr(module, moment, call)
        empty(root)
        return call(*arguments, **how)

    with open_store(root) as store:
        if not is_first:
            store.save(1, {"weights": torch.zeros(3)}, good=True)
        monkeypatch.setattr(module, moment, deleted_before)
        store.save(2, {"weights": torch.full((3,), 2.0)})
        store.wait()
        if moment == "write":
            assert not [name for name in states(root) if "step-000000001" in name]
            store.save(3, {"weights": torch.full((3,), 2.0)})
    assert load(root)["weights"].tolist() == [2, 2, 2]


def test_where_a_deleted_folder_is_another_runs_by_now_this_one_stops(root):
    with open_store(root) as first, open_store(root) as second:
        first.save(1, {"weights": torch.zeros(3)})
        first.wait()
        empty(root)
        assert second.load() is None
        second.save(1, {"weights": torch.ones(3)})
        second.wait()
        with pytest.raises(InputError, match="another run"):
            save_and_wait(first, 2)
    assert load(root)["weights"].tolist() == [1, 1, 1]


def test_going_back_to_a_good_state_that_is_gone_is_a_sentence(root):
    with open_store(root) as store:
        store.save(1, {"weights": torch.zeros(3)}, good=True)
        store.wait()
        empty(root)
        with pytest.raises(InputError, match="no good checkpoint is there to go back to"):
            store.load(good=True)
    with open_store(root) as store:
        store.save(2, {"weights": torch.zeros(3)})
        store.wait()
        with pytest.raises(InputError, match="no good checkpoint is there to go back to"):
            store.load(good=True)
