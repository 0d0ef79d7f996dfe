"""A run that is asked for fewer steps than were taken: its result is that of such a run from the beginning."""

import types

import buckets
import pytest
import torch

from attngan.data.dataset import Dataset
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.steps.train_generator import train_generator
from attngan.storage import artifacts, places, uris
from attngan.training import damsm_step, gan_step
from attngan.training.damsm_run import DamsmRun
from attngan.training.schedule import Schedule

pytestmark = pytest.mark.usefixtures("few_pictures")
EPOCH = 12  # steps, at the smoke recipe; every epoch ends with a look and a good state, and the last two are kept


@pytest.fixture(params=["pretrain_damsm", pytest.param("train_generator", marks=pytest.mark.slow)])
def training(request, dataset, damsm, smoke, tmp_path):
    """Give what trains for so many steps, and what came out of it: figures by step, and digests of the weights."""
    section = "damsm" if request.param == "pretrain_damsm" else "training"

    def train(steps, root):
        out = tmp_path / f"{steps} steps" / uris.join("", root).replace("/", "-")
        settings = getattr(smoke, section).model_copy(update={"steps": steps})
        config = smoke.model_copy(update={section: settings})
        if section == "damsm":
            pretrain_damsm(dataset, out, config, state=root)
        else:
            train_generator(dataset, damsm, out, config, state=root)
        files = artifacts.read_manifest(out)["files"]
        kept = {name: entry["sha256"] for name, entry in files.items() if name.endswith((".safetensors", ".png"))}
        return kept, (out / "metrics.jsonl").read_text()

    module = damsm_step if section == "damsm" else gan_step
    return types.SimpleNamespace(train=train, setting=f"{section}.steps", module=module)


def content(root):
    """Return all that lies in a folder by name, but for the locks of local files."""
    names = [name for name in places.names(root) if not name.endswith(".lock")]
    return {name: places.read(uris.join(root, name))[0] for name in names}


@buckets.slow_in_clouds
def test_fewer_steps_get_a_folder_of_their_own_and_the_result_of_so_many_from_the_beginning(
    training, root, tmp_path, capsys
):
    longer = training.train(2 * EPOCH, root)
    before = content(root)
    (folder,) = {name.split("/")[0] for name in before}
    for steps, how in ((18, "goes on after step 12"), (7, "starts from the beginning")):
        capsys.readouterr()
        found = training.train(steps, root)
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "asks for" in line]
        assert f"{training.setting} asks for {steps} steps, and {root}/{folder} has taken 24: {how} in a folder" in line
        assert f"{root}/{folder}-{steps}-steps" in line
        assert found == training.train(steps, str(tmp_path / "alone"))
    assert training.train(7, root) == found  # there is nothing left to do
    assert "goes on after step 7 in a folder of its own" in capsys.readouterr().out
    assert before.items() <= content(root).items()
    assert training.train(2 * EPOCH, root) == longer


@pytest.mark.slow
def test_a_shorter_run_that_dies_goes_on_in_its_own_folder(training, tmp_path, monkeypatch):
    step, root = training.module.training_step, str(tmp_path / "root")
    training.train(2 * EPOCH, root)

    def dying_step(run, batch):
        if run.step == 15:
            raise RuntimeError("the node is gone")
        return step(run, batch)

    monkeypatch.setattr(training.module, "training_step", dying_step)
    with pytest.raises(RuntimeError, match="the node is gone"):
        training.train(18, root)
    monkeypatch.setattr(training.module, "training_step", step)
    assert training.train(18, root) == training.train(18, str(tmp_path / "alone"))


@pytest.mark.slow
def test_more_steps_than_a_shorter_run_had_go_on_from_the_longer_one(training, tmp_path):
    root = str(tmp_path / "root")
    for steps in (2 * EPOCH, EPOCH, 3 * EPOCH):
        found = training.train(steps, root)
    assert found == training.train(3 * EPOCH, str(tmp_path / "alone"))


def row(step):
    return {"step": step, "recall_at_1": 0.5}


@pytest.mark.parametrize(
    ("saved", "is_beyond", "comes_through"),
    [
        ({"step": 20, "rows": [row(5), row(10), row(15), row(20)]}, True, False),
        ({"step": 10, "rows": [row(5), row(10)]}, False, True),
        ({"step": 12, "rows": [row(5), row(10), row(12)]}, False, True),  # its last step, with the look after it
        ({"step": 12, "rows": [row(5), row(10), {"step": 12, "loss": 1.0}]}, True, False),  # without it
        ({"step": 10, "rows": [row(5), row(8), row(10)]}, False, False),  # a run of 8 steps went on, and was looked at
        ({"step": 10, "rows": [row(5), row(10)], "attempt": 1}, False, False),  # perhaps for trouble later than step 12
        ({"step": 0, "rows": []}, False, False),
    ],
)
def test_through_which_states_a_run_of_twelve_steps_comes(saved, is_beyond, comes_through, dataset, smoke):
    run = DamsmRun(smoke, Dataset.open(dataset, "train"), torch.device("cpu"), None)
    run.schedule = Schedule(steps_per_epoch=5, total=12, interval=5, state_every=5, setting="damsm.steps")
    assert (run._is_beyond(saved), run._comes_through(saved)) == (is_beyond, comes_through)
