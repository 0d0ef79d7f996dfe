"""A mistake is tried once by a cluster, and whoever has mended it is never kept out."""

import errno
import json
import time

import pytest

from attngan.errors import InputError, TransientError, is_lasting
from attngan.storage import mistakes, places, uris
from attngan.training import train_job_cluster
from attngan.training.states import StateStore

SENTENCE = "data.resolution: expected a number, found birds; correct it."


@pytest.fixture
def pod(monkeypatch):
    """Give what makes this process an attempt of a step of a run."""

    def be(attempt, run="attngan-x7k2p-retry-system-container-impl"):
        monkeypatch.setenv("KFP_RETRY_INDEX", str(attempt))
        monkeypatch.setenv("KFP_POD_NAME", f"{run}-{attempt}31415")

    return be


def attempt(root, error=None, *, step="evaluate", given=("gs://b/dataset", "seed: 1")):
    """Run a step, and return its exit status and whether it was tried at all."""
    tried = []
    try:
        with mistakes.reported(step, "out", root=root, given=given):
            tried.append(True)
            if error is not None:
                raise error
    except SystemExit as stop:
        return stop.code, bool(tried)
    return 0, bool(tried)


def notes(root):
    return [name for name in places.names(root) if name.endswith(".json")]


def test_the_next_attempt_ends_at_once_with_the_same_sentence(root, pod, capsys):
    pod(0)
    assert attempt(root, InputError(SENTENCE)) == (2, True)
    assert capsys.readouterr().err == f"attngan: {SENTENCE}\n" and len(notes(root)) == 1
    for number in (1, 2, 10):
        pod(number)
        assert attempt(root) == (2, False)
        captured = capsys.readouterr()
        assert captured.err == f"attngan: {SENTENCE}\n" and "not tried again" in captured.out


def test_a_mistake_of_a_later_attempt_is_noted_too(root, pod):
    pod(0)
    assert attempt(root, OSError(errno.EIO, "the disk")) == (2, True)
    pod(1)
    assert attempt(root, InputError(SENTENCE)) == (2, True)
    pod(2)
    assert attempt(root) == (2, False)


def test_retry_run_begins_with_a_first_attempt_which_forgets_the_mistake(root, pod):
    pod(0)
    attempt(root, InputError(SENTENCE))
    pod(0)
    with pytest.raises(RuntimeError, match="the node"):
        attempt(root, RuntimeError("the node is gone"))
    assert notes(root) == []
    pod(1)
    assert attempt(root) == (0, True)


def test_a_note_counts_for_the_same_step_run_inputs_and_code_alone(root, pod, monkeypatch):
    pod(0)
    attempt(root, InputError(SENTENCE))
    pod(1, run="attngan-0ther-retry-system-container-impl")
    assert attempt(root) == (0, True)
    pod(1)
    assert attempt(root, step="publish") == (0, True)
    assert attempt(root, given=("gs://b/dataset", "seed: 2")) == (0, True)
    with monkeypatch.context() as context:
        context.setenv("ATTNGAN_REVISION", "mended")
        assert attempt(root) == (0, True)
    assert attempt(root) == (2, False)


def test_a_note_counts_for_an_hour(root, pod, monkeypatch):
    pod(0)
    attempt(root, InputError(SENTENCE))
    now = time.time()
    for later, tried in ((3500, False), (3700, True), (-3700, True)):  # clocks of nodes differ, but not by hours
        pod(1)
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert attempt(root)[1] == tried


def test_without_a_cluster_that_tries_again_nothing_is_noted(root, monkeypatch, pod):
    for index in (None, "", "{{retries}}"):
        monkeypatch.delenv("KFP_RETRY_INDEX", raising=False)
        if index is not None:
            monkeypatch.setenv("KFP_RETRY_INDEX", index)
        assert attempt(root, InputError(SENTENCE)) == (2, True) == attempt(root, InputError(SENTENCE))
    assert places.names(root) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"time": "now", "sentence": "x"}', b'{"time": 1}', b"\xff"])
def test_a_damaged_note_is_none(content, root, pod):
    pod(0)
    attempt(root, InputError(SENTENCE))
    (name,) = notes(root)
    uri = uris.join(root, name)
    places.write(uri, content, generation=places.read(uri)[1])
    pod(1)
    assert attempt(root, InputError(SENTENCE)) == (2, True)
    assert json.loads(places.read(uri)[0])["sentence"] == SENTENCE


def test_where_no_note_can_be_kept_the_mistake_is_said_all_the_same(tmp_path, pod, capsys):
    (tmp_path / "file").write_text("not a folder")
    for number in (0, 1):
        pod(number)
        assert attempt(str(tmp_path / "file"), InputError(SENTENCE)) == (2, True)
        assert capsys.readouterr().err == f"attngan: {SENTENCE}\n"


def raised_by(work):
    with pytest.raises((InputError, OSError)) as caught:
        work()
    return caught.value


def test_what_is_not_in_cloud_storage_yet_is_no_mistake_that_lasts(bucket, pod, tmp_path):
    pod(0)
    for work in (
        lambda: places.fetch("gs://pictures/none", tmp_path),
        lambda: places.write("gs://nowhere/x", b"", generation=0),
    ):
        assert attempt("gs://pictures/root", raised_by(work)) == (2, True)
    assert notes("gs://pictures/root") == []


def explained(error):
    from attngan.storage import google_storage

    with google_storage._explained("gs://b/x"):
        raise error


def test_every_fault_that_cloud_storage_explains_may_pass():
    api = pytest.importorskip("google.api_core.exceptions")
    from google.auth import exceptions as auth
    from google.cloud.storage.exceptions import DataCorruption
    from requests import exceptions as http

    faults = [auth.TransportError("x"), auth.DefaultCredentialsError("x"), api.Forbidden("x"), api.NotFound("x")]
    faults += [DataCorruption(None, "x"), http.ConnectionError("x"), api.ServiceUnavailable("x"), api.BadRequest("x")]
    for fault in faults:
        assert not is_lasting(raised_by(lambda fault=fault: explained(fault))), fault


def test_another_run_at_the_same_state_is_no_mistake_that_lasts(tmp_path):
    with (
        StateStore(str(tmp_path), step_name="s", key=1) as first,
        StateStore(str(tmp_path), step_name="s", key=1) as other,
    ):
        first.save(1, {})
        first.wait()
        other.save(1, {})
        assert not is_lasting(raised_by(other.wait))


@pytest.mark.parametrize(
    ("make", "lasts"),
    [
        (lambda: InputError(SENTENCE), True),
        (lambda: TransientError("no answer"), False),
        (lambda: chained(TransientError("no answer")), False),
        (lambda: chained(FileNotFoundError(2, "no file")), False),
        (lambda: chained(KeyError("name")), True),
        (lambda: RuntimeError("a bug"), False),
        (lambda: PermissionError(13, "denied", "a file"), False),
    ],
)
def test_a_mistake_lasts_where_nothing_that_it_came_of_may_pass(make, lasts, tmp_path, pod):
    pod(0)
    assert is_lasting(make()) == lasts
    if not isinstance(make(), RuntimeError):
        attempt(str(tmp_path), make())
        assert bool(notes(str(tmp_path))) == lasts


def chained(cause):
    try:
        try:
            raise cause
        except Exception:
            raise InputError(SENTENCE) from None
    except InputError as error:
        return error


@pytest.mark.parametrize(("status", "lasts"), [(401, False), (403, False), (404, False), (400, True), (422, True)])
def test_what_a_cluster_refuses_lasts_where_the_settings_are_wrong(status, lasts):
    client = pytest.importorskip("kubernetes.client")
    cluster = object.__new__(train_job_cluster.Cluster)
    cluster.namespace = "birds"

    def request(**_):
        raise client.ApiException(status=status, reason="no")

    assert is_lasting(raised_by(lambda: cluster._ask("create", "trainjobs", request))) == lasts
