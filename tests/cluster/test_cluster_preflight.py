"""What stands between a person and the cluster is named within seconds, and secrets never are."""

import contextlib
import socket
import time

import pytest

pytest.importorskip("kfp")

import cluster_cli
import kfp_contract

from attngan.errors import InputError
from components.cluster import client
from components.cluster.options import Connection

SECRET = "s3cret-t0ken"


def refusal(host: str, *flags: str, **environment: str) -> str:
    """Return what `schedules` says within 6 seconds, having changed nothing and shown no secret."""
    start = time.monotonic()
    ended = cluster_cli.run("schedules", "--host", host, *flags, **environment)
    assert time.monotonic() - start < 6
    assert ended.status == 2, ended
    assert ended.err.startswith("attngan: ") and ended.err.count("\n") == 1, ended.err
    assert SECRET not in ended.out + ended.err
    return ended.err


def test_a_refused_connection():
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        assert "connection refused" in refusal(f"http://127.0.0.1:{free.getsockname()[1]}")


def test_an_unknown_host():
    assert "no such host name" in refusal("http://kubeflow.invalid")


def test_a_server_that_says_nothing(cluster, monkeypatch):
    monkeypatch.setattr(client, "PREFLIGHT_SECONDS", 0.5)
    cluster.state.mood = "silent"
    assert "no answer within 0.5 seconds" in refusal(cluster.host)


def test_a_token_that_is_missing_or_wrong(cluster):
    cluster.state.namespaces, cluster.state.token = {"kubeflow"}, "right"
    said = refusal(cluster.host, "--token", SECRET)
    assert "answered 401, it does not accept the token of --token (KFP_TOKEN)" in said
    assert "no user identity header" in said
    assert "a caller without --token" in refusal(cluster.host)


def test_a_gateway_that_forbids(cluster):
    cluster.state.mood = "forbidden"
    said = refusal(cluster.host, KFP_TOKEN=SECRET)
    assert "answered 403" in said and "RBAC: access denied" in said and "the token of --token" in said


@pytest.mark.parametrize("mood", ["login", "redirect"])
def test_a_login_page(cluster, mood):
    cluster.state.mood = mood
    said = refusal(cluster.host, "--cookie", SECRET)
    assert "login" in said and "the cookie of --cookie" in said
    assert "state=secret" not in said


def test_a_cookie_that_has_expired_brings_the_login_page(cluster):
    cluster.state.cookie = "authservice_session=fresh"
    assert "fresh token or cookie" in refusal(cluster.host, "--cookie", f"authservice_session={SECRET}")


def test_an_unknown_namespace(cluster):
    cluster.state.namespaces = {"birds"}
    said = refusal(cluster.host, "--namespace", "fish")
    assert "--namespace fish" in said and "answered 403; it has many users, and this namespace is unknown" in said
    assert cluster_cli.run("schedules", "--host", cluster.host, "--namespace", "birds").status == 0


def test_a_standalone_server_takes_every_namespace_and_token(cluster):
    cluster.state.token = "right"
    ended = cluster_cli.run("schedules", "--host", cluster.host, "--namespace", "fish", "--token", "wrong")
    assert ended.status == 0, ended


def test_a_server_that_is_starting_and_one_without_pipelines(cluster):
    cluster.state.mood = "starting"
    assert "is not ready, try again in a while; it answered 503: no healthy upstream." in refusal(cluster.host)
    cluster.state.mood = "elsewhere"
    assert f"try {cluster.host}/pipeline" in refusal(cluster.host)
    cluster.state.requests.clear()  # it asked the wrong server on purpose


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"message": "no such bird", "error": "other"}', "no such bird."),
        ('{"error": "no such bird"}', "no such bird."),
        ('{"error_message": "no such bird", "error_details": "at line 1"}', "no such bird."),
        ('{"error_message": ""}', ""),
        ("no healthy upstream\nsecond line", "no healthy upstream."),
        ("<html>login</html>", ""),
    ],
)
def test_what_the_api_says_is_read_in_each_of_its_forms(body, said):
    assert client._said(body) == said


def test_a_file_without_certificates(cluster, tmp_path):
    (tmp_path / "ca.pem").write_text("certificate", encoding="utf-8")
    host = cluster.host.replace("http", "https")
    assert "--ca-cert: expected a file with certificates" in refusal(host, "--ca-cert", str(tmp_path / "ca.pem"))


def test_plain_http_behind_https(cluster):
    assert "no TLS there" in refusal(cluster.host.replace("http", "https"))


def test_flags_that_cannot_be_meant(cluster, tmp_path):
    assert "begins with http:// or https://" in refusal("localhost:8080")
    for host in ("http://[::1", "http://host:99999", f"http://{SECRET}:x", "https://:8080", "http://ho\u2100st"):
        assert "--host: expected an address such as http://localhost:8080" in refusal(host)
    assert "no such file" in refusal(cluster.host, "--ca-cert", "ca.pem")
    assert "found --token (KFP_TOKEN) and --cookie" in refusal(cluster.host, "--token", SECRET, "--cookie", SECRET)
    assert "the bare value" in refusal(cluster.host, "--token", f"Bearer {SECRET}")
    assert "the bare value" in refusal(cluster.host, "--cookie", f"{SECRET}\nX: y")
    assert "no such file" in refusal(cluster.host, "--token-file", str(tmp_path / "token"))
    (tmp_path / "token").touch()
    assert "found nothing" in refusal(cluster.host, "--token-file", str(tmp_path / "token"))
    assert cluster.state.requests == []


def test_google_without_credentials(cluster, monkeypatch):
    from kfp.client import auth

    said = {"Your default credentials were not found.\nSee ...": "Your default credentials", "": "RuntimeError"}
    for text, found in said.items():

        def nothing(*_, text=text):
            raise RuntimeError(text)

        monkeypatch.setattr(auth, "get_auth_token", nothing)
        assert f"Google gives no token: {found}" in refusal(cluster.host, "--iap-client-id", "id")
    monkeypatch.setattr(auth, "get_auth_token", lambda *_: (None, False))
    assert "found a person's" in refusal(cluster.host, "--iap-client-id", "id")


@pytest.mark.parametrize("way", ["flag", "variable", "file", "pod", "google"])
def test_each_way_to_a_token_brings_it_to_the_api(cluster, tmp_path, monkeypatch, way):
    cluster.state.namespaces, cluster.state.token = {"kubeflow"}, SECRET
    (tmp_path / "token").write_text(f"{SECRET}\n", encoding="utf-8")
    flags = {
        "flag": ["--token", SECRET],
        "file": ["--token-file", str(tmp_path / "token")],
        "google": ["--iap-client-id", "id"],
    }
    environment = {"variable": {"KFP_TOKEN": SECRET}, "pod": {"KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "token")}}
    from kfp.client import auth

    monkeypatch.setattr(auth, "get_auth_token", lambda *_: (SECRET, False))
    ended = cluster_cli.run("schedules", "--host", cluster.host, *flags.get(way, []), **environment.get(way, {}))
    assert ended.status == 0, ended
    assert {request["headers"].get("authorization") for request in cluster.state.requests} == {f"Bearer {SECRET}"}


def test_the_cookie_arrives_as_it_was_given(cluster):
    cluster.state.cookie = "oauth2_proxy=a b; other=c"
    ended = cluster_cli.run("schedules", "--host", cluster.host, "--cookie", cluster.state.cookie)
    assert ended.status == 0, ended
    assert {request["headers"].get("Cookie") for request in cluster.state.requests} == {cluster.state.cookie}


def test_a_server_that_falls_silent_later_is_not_waited_for_for_ever(cluster, monkeypatch):
    monkeypatch.setattr(client, "REQUEST_SECONDS", 0.2)
    connection = Connection(host=cluster.host)
    kfp_client = client.connect(connection)
    cluster.state.mood = "silent"
    with pytest.raises(InputError, match=r"no answer within 0\.2 seconds"), client.explained(connection):
        kfp_client.list_experiments(namespace="kubeflow")


@pytest.mark.skipif(not kfp_contract.SWAGGER.is_file(), reason="upstream's API description is not beside the checkout")
def test_the_contract_refuses_what_upstream_does_not_know():
    swagger = kfp_contract.description()
    good = {
        "method": "POST",
        "path": "/apis/v2beta1/experiments",
        "query": {},
        "body": {"display_name": "x"},
        "kind": "",
    }
    kfp_contract.check(good, swagger)
    for bad in (
        {"path": "/apis/v2beta1/birds"},
        {"query": {"bird": "x"}},
        {"body": {"name": "x"}},
        {"body": {"display_name": 1}},
    ):
        with pytest.raises(Exception, match=r"no route|bird|Additional|not of type"):
            kfp_contract.check(good | bad, swagger)
