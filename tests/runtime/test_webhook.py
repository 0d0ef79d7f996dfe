"""A message to a receiver over HTTP that takes it, does not take it now, never does, or is none."""

import socket
import time
from collections.abc import Iterator

import local_server
import pytest
import receiver

from attngan.errors import InputError, TransientError
from attngan.runtime import webhook


@pytest.fixture
def server(monkeypatch) -> Iterator[receiver.Server]:
    monkeypatch.setattr(webhook, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(webhook, "SECONDS", 0.15)
    with local_server.running(receiver.Server()) as server:
        yield server


def refused(server, kind=InputError) -> str:
    with pytest.raises(kind) as error:
        webhook.post(server.url, b"{}")
    said = str(error.value)
    assert said.startswith(f"{server.host}: ") and not any(part in said for part in receiver.SECRET.split("/"))
    assert "other-secret" not in said
    return said.removeprefix(f"{server.host}: ")


def test_a_message_is_sent_once_as_json(server):
    webhook.post(server.url, b'{"text": "hello"}')
    (request,) = server.requests
    assert request["path"] == f"/services/{receiver.SECRET}"
    assert request["body"] == {"text": "hello"}
    assert request["headers"]["Content-Type"] == "application/json"


@pytest.mark.parametrize("first", [(500,), (503, "x" * 5000), (429,), "garbage", "half", "nothing"], ids=str)
def test_what_may_pass_is_tried_again(server, first):
    server.answers = [first, (204,)]
    webhook.post(server.url, b"{}")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500,), "it answered 500 (4 tries)."),
        ("garbage", "what it answered is no HTTP (4 tries)."),
        ("half", "the connection broke off (4 tries)."),
        ("nothing", "no answer within 10 seconds (4 tries)."),
        ("slowly", "no answer within 10 seconds (4 tries)."),
    ],
    ids=str,
)
def test_what_does_not_pass_is_given_up_after_a_time(server, answer, said):
    server.answers = [answer]
    start = time.monotonic()
    assert refused(server, TransientError) == said
    assert len(server.requests) == webhook.TRIES
    assert time.monotonic() - start < 5


def test_nobody_there_is_tried_again(server, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(TransientError) as error:
            webhook.post(f"http://127.0.0.1:{free.getsockname()[1]}/{receiver.SECRET}", b"{}")
    assert str(error.value).endswith(": connection refused (4 tries).")
    assert slept == [0.01, 0.02, 0.04]


def test_an_answer_that_names_a_time_is_waited_for_but_not_for_ever(server, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    server.answers = [(429, "", {"Retry-After": seconds}) for seconds in ("7", "86400", "Fri, 31 Dec")] + [(200,)]
    webhook.post(server.url, b"{}")
    assert slept == [7.0, webhook.LONGEST_PAUSE_SECONDS, 0.04]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, "no_service"), "it answered 404 (no_service), and does not take the notice; check the address."),
        ((404, f"Cannot POST /services/{receiver.SECRET}"), "it answered 404, and does not take the notice; check"),
        ((400, "<html>" + "x" * 100_000), "it answered 400, and does not take the notice; check the address."),
        ((301, "", {"Location": receiver.ELSEWHERE}), "it answered 301, a redirect, which is not followed"),
        ((307, "", {"Location": "http://[broken"}), "it answered 307, a redirect, which is not followed"),
        ((302, ""), "it answered 302, a redirect, which is not followed"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_stays_so_is_not_tried_again(server, answer, said):
    server.answers = [answer]
    assert refused(server).startswith(said)
    assert len(server.requests) == 1


def test_a_redirect_to_itself_is_not_followed(server):
    server.answers = [(302, "", {"Location": server.url})]
    assert "not followed" in refused(server)
    assert len(server.requests) == 1


def test_tls_where_there_is_none_is_said(server):
    with pytest.raises(TransientError) as error:
        webhook.post(server.url.replace("http:", "https:"), b"{}")
    assert "no TLS there; is it http:// instead of https://?" in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        *("", "hunter2", "ftp://host/hunter2", "file:///etc/hunter2", "https:///hunter2", "https://host:hunter2/"),
        *("https://me:hunter2@host/", "https://host/a b/hunter2", "https://host/hunter2\n", "https://[host/hunter2"),
        *("https://host/V\u00f6gel/hunter2", "https://host:99999/hunter2"),
    ],
)
def test_what_is_no_address_is_not_shown(url):
    with pytest.raises(InputError) as error:
        webhook.post(url, b"{}")
    assert str(error.value).startswith("expected an address such as") and "hunter2" not in str(error.value)
