"""A sweep on this machine: members and a failed one, its table, the best published, and going on."""

import json
import signal
import threading
import time
from types import SimpleNamespace
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from attngan.config import settings, variations
from attngan.errors import InputError
from attngan.steps import sweep as step
from attngan.storage.champion import ModelFolder

KID = "kid_damsm-5a00e006"
RATES = "training.generator_learning_rate=0.0002,1000"


def members_of(smoke, *vary):
    base = settings.dump(smoke)
    return variations.members(vary, lambda overrides: settings.load(base, overrides=overrides))


@pytest.fixture(scope="module")
def stopping(smoke):
    return settings.load(settings.dump(smoke), overrides=["watch.on_trouble=stop"])


@pytest.fixture(scope="module")
def made(birds, stopping, made_once):
    """A sweep of two members, of which one fails."""

    def make(folder):
        assert step.sweep(str(birds), folder, members_of(stopping, RATES), stopping, force=True) == 1

    return made_once("sweep", make)


def table_of(folder):
    return json.loads((folder / step.TABLE).read_text())


def test_a_member_that_fails_is_a_row_and_the_best_is_published(made):
    table = table_of(made)
    fine, failed = table["members"]
    assert fine["varied"] == {"training.generator_learning_rate": "0.0002"} and fine["error"] == ""
    assert "loss discriminator is nan" in failed["error"]
    assert table["best"] == fine["place"] and fine["figures"]["r_precision"] >= 0
    assert fine["encoders"] == failed["encoders"]
    assert len(list(made.glob("encoders-*"))) == len(list(made.glob("dataset-*"))) == 1
    champion = ModelFolder(str(made / "models")).champion
    bundle = json.loads((made / fine["place"] / "bundle" / "manifest.json").read_text())
    assert champion["fingerprint"] == bundle["fingerprint"]
    page = (made / step.PAGE).read_text()
    assert "1 failed" in page and "loss discriminator is nan" in page and 'class="best"' in page


def test_a_sweep_goes_on_with_what_is_new_and_what_failed(made, birds, stopping, monkeypatch, capsys):
    trained = []

    def fail(*_, **__):
        trained.append("generator")
        raise InputError("no electricity")

    for name in ("preprocess", "pretrain_damsm", "evaluate"):
        monkeypatch.setattr(getattr(step, name), name, lambda *_, **__: pytest.fail("made again"))
    monkeypatch.setattr(step.train_generator, "train_generator", fail)
    members = members_of(stopping, RATES + ",0.0003")
    assert step.sweep(str(birds), made, members, stopping, force=True) == 2
    rows = table_of(made)["members"]
    assert [row["error"] for row in rows] == ["", "no electricity", "no electricity"] and len(trained) == 2
    assert "training.generator_learning_rate=0.0002: done before" in capsys.readouterr().out


def test_a_member_whose_encoders_failed_says_so(smoke, tmp_path, dataset):
    [member, _] = members_of(smoke, "seed=0,1")
    here = step.Sweep(str(tmp_path), "inputs", str(tmp_path / "state"))
    step.write_result(here.encoders(member.config), {"error": "too few pictures", "seconds": 1.0})
    assert here.train_member(member, dataset)["error"] == "its encoders were not trained: too few pictures"


def entered(here, member, **result):
    step.write_result(here.member(member.config), {"error": "", "seconds": 60.0, **result})


def test_members_that_have_not_learnt_come_after_those_that_have(smoke, tmp_path):
    one, two, three = members_of(smoke, "seed=0,1,2")
    here = step.Sweep(str(tmp_path), "inputs", str(tmp_path / "state"))
    entered(here, one, figures={KID: 0.3}, not_learnt=[])
    entered(here, two, figures={KID: 0.1}, not_learnt=["its pictures are grey"])
    assert here.table([one, two, three], tmp_path, metric=KID, higher_is_better=False) == one
    order = [row["varied"]["seed"] for row in table_of(tmp_path)["members"]]
    assert order == ["0", "1", "2"] and "run the sweep again" in table_of(tmp_path)["members"][2]["error"]
    entered(here, two, figures={KID: 0.1}, not_learnt=[])
    assert here.table([one, two, three], tmp_path, metric=KID, higher_is_better=False) == two
    assert here.table([one, two, three], tmp_path, metric=KID, higher_is_better=True) == two  # of KID that is known
    with pytest.raises(
        InputError, match=r"publish.metric fid_pixels: no member has such a figure; they have kid_damsm-5a00e006\."
    ):
        here.table([one, two, three], tmp_path, metric="fid_pixels", higher_is_better=True)
    with pytest.raises(InputError, match="no member of the sweep is done; of seed=2: it ended without a result"):
        here.table([three], tmp_path, metric=KID, higher_is_better=True)


def test_a_member_is_another_one_with_other_weights_to_look_through(smoke, tmp_path):
    weights = tmp_path / "weights.pth"
    here = step.Sweep(str(tmp_path), "inputs", str(tmp_path))

    def place(weight):
        projected = smoke.discriminator.projected.model_copy(update={"weight": weight, "uri": str(weights)})
        changed = smoke.discriminator.model_copy(update={"projected": projected})
        return here.member(smoke.model_copy(update={"discriminator": changed}))

    assert place(0.0) == here.member(smoke)  # nobody looks through them
    weights.write_bytes(b"of ImageNet")
    first = place(0.1)
    weights.write_bytes(b"of other pictures")
    assert place(0.1) != first


def test_what_failed_is_text_on_the_page(smoke, tmp_path):
    one, two = members_of(smoke, "seed=0,1")
    here = step.Sweep(str(tmp_path), "inputs", str(tmp_path / "state"))
    entered(here, one, figures={"kid": 0.3}, not_learnt=[])
    step.write_result(here.member(two.config), {"error": "<script>alert(1)</script>", "seconds": 1.0})
    here.table([one, two], tmp_path, metric="kid", higher_is_better=False)
    assert "<script>" not in (tmp_path / step.PAGE).read_text()


def test_many_members_are_asked_about_with_what_they_cost(made, birds, stopping, monkeypatch):
    monkeypatch.setattr(step.plan, "plan", lambda *_, **__: [step.plan.Part("damsm", 36.0, 100)])
    members = members_of(stopping, f"seed={','.join(map(str, range(30)))}")
    with pytest.raises(InputError) as caught:
        step.sweep(str(birds), made, members, stopping)
    assert str(caught.value) == (
        "--vary: 30 members, about 30 h of training here, one after the other; give --yes if that is meant, or "
        "vary less."
    )


def test_the_command_says_what_is_wrong_in_a_line(tmp_path):
    pytest.importorskip("kfp")
    import pipeline

    given = ["sweep", "--source", str(tmp_path), "--out", str(tmp_path / "out"), "--config", "smoke"]
    ended = CliRunner().invoke(pipeline.app, [*given, "--vary", "seed=1"])
    assert ended.exit_code == 2 and len(ended.stderr.splitlines()) == 1
    assert "--vary seed=1: expected several values" in ended.stderr and not (tmp_path / "out").exists()


class SlowToStart:
    """A process of a member that Ctrl-C meets while it starts, and that ends when it is told to."""

    events: ClassVar[list] = []
    exitcode = -signal.SIGTERM

    def __init__(self, **_):
        self.is_started, self.ended = False, threading.Event()

    def start(self):
        if not self.events:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        self.events.append("start")
        time.sleep(0.2)
        self.is_started = True

    def join(self, timeout=10.0):
        assert self.ended.wait(timeout)

    def terminate(self):
        assert self.is_started
        self.events.append("stop")
        self.ended.set()


def test_ctrl_c_stops_every_member_that_runs_and_none_starts_after_it(smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(SlowToStart, "events", [])
    monkeypatch.setattr(step.multiprocessing, "get_context", lambda _: SimpleNamespace(Process=SlowToStart))
    with pytest.raises(KeyboardInterrupt):
        step._each(print, members_of(smoke, "seed=0,1,2,3,4,5"), 3, tmp_path / "logs")
    starts = SlowToStart.events.count("start")
    assert SlowToStart.events == ["start"] * starts + ["stop"] * starts


@pytest.mark.slow
def test_members_at_the_same_time_make_what_one_after_the_other_does(birds, smoke, tmp_path):
    for parallel in (1, 2):
        members = members_of(smoke, "training.damsm_weight=1,5")
        assert step.sweep(str(birds), tmp_path / str(parallel), members, smoke, parallel=parallel) == 0
    one, two = (table_of(tmp_path / name)["members"] for name in "12")
    assert [row["figures"] for row in one] == [row["figures"] for row in two]
    assert len(list((tmp_path / "2" / "logs").iterdir())) == 2
