"""Training state: the newest whole one is read, nothing is thrown away silently, nothing read can run code."""

import os
import pickle
import signal

import pytest
import torch

from attngan import checkpoint
from attngan.errors import InputError


def save(folder, step):
    checkpoint.save(folder, step, {"weights": torch.full((3,), float(step))})


def test_the_newest_state_is_read_and_the_last_two_are_kept(tmp_path):
    for step in (1, 2, 10):
        save(tmp_path, step)
    state = checkpoint.load(tmp_path)
    assert state["step"] == 10 and state["weights"].tolist() == [10, 10, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002.pt", "step-000000010.pt"]


def test_no_state_is_no_state(tmp_path):
    assert checkpoint.load(tmp_path / "absent") is None


def test_a_state_that_is_cut_off_is_passed_over_for_the_one_before_it(tmp_path, capsys):
    save(tmp_path, 1)
    save(tmp_path, 2)
    newest = tmp_path / "step-000000002.pt"
    newest.write_bytes(newest.read_bytes()[:-200])
    assert checkpoint.load(tmp_path)["step"] == 1
    assert "step-000000002.pt: this checkpoint cannot be read" in capsys.readouterr().out


def test_where_no_state_can_be_read_the_run_does_not_start_over_by_itself(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "step-000000001.pt").write_bytes(b"")
    with pytest.raises(InputError, match="none of its 1 checkpoints can be read"):
        checkpoint.load(tmp_path)
    assert (tmp_path / "step-000000001.pt").exists()


def test_a_state_cannot_run_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "attacked"),))

    (tmp_path / "state").mkdir()
    torch.save({"step": 1, "weights": Attack()}, tmp_path / "state" / "step-000000001.pt")
    (tmp_path / "state" / "step-000000002.pt").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(InputError, match="none of its 2 checkpoints"):
        checkpoint.load(tmp_path / "state")
    assert not (tmp_path / "attacked").exists()


def test_a_scrap_of_a_killed_save_is_cleared_away(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".step-000000002.pt.abc.part").write_bytes(b"half")
    assert checkpoint.load(tmp_path)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]


def test_a_state_of_other_shapes_is_refused_by_name(tmp_path):
    state = torch.nn.Linear(3, 3).state_dict()
    with pytest.raises(InputError, match=r"the checkpoint's generator does not fit this run.*size mismatch"):
        checkpoint.restore(torch.nn.Linear(2, 2), state, name="generator", folder=tmp_path)


@pytest.mark.parametrize(("number", "leaves_by"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_asks_once_and_leaves_as_it_would(number, leaves_by):
    before = signal.getsignal(number)
    with checkpoint.stop_request() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        with pytest.raises(leaves_by):
            stop.stop()
    assert signal.getsignal(number) is before


def test_the_state_folder_follows_everything_that_shapes_the_result(tmp_path):
    first, same, other = (
        checkpoint.state_folder(tmp_path, step_name="damsm", key=key)
        for key in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1})
    )
    assert first == same != other
