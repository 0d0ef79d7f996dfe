"""kfp's client, made only after a preflight that says within seconds what stands in the way.

kfp 2.17 hides a refused token behind 25 seconds of retries, and takes a login page for an answer.
"""

import contextlib
import json
import os
import ssl
import urllib.parse
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attngan.errors import InputError, shown
from components.cluster.identity import Identity, identify
from components.cluster.options import Connection

if TYPE_CHECKING:
    from kfp import Client

API = "/apis/v2beta1"
PREFLIGHT_SECONDS = 4.0
REQUEST_SECONDS = 60.0


class Unreachable(InputError):
    """The API does not answer now; it may later."""


def connect(connection: Connection) -> "Client":
    """Return kfp's client for a cluster that answers, knows the caller, and has the namespace.

    Raises:
        Unreachable: nobody answers there, or not now.
        InputError: whatever else stands in the way.
    """
    import kfp

    host = connection.host.rstrip("/")
    if not host.startswith(("http://", "https://")):
        raise InputError(f"--host {shown(host)}: expected an address that begins with http:// or https://.")
    try:
        address = urllib.parse.urlsplit(host)
        is_one = bool(address.hostname) and address.port != 0
    except ValueError:
        is_one = False
    if not is_one:  # nothing of it is shown: what is no host may be a user
        raise InputError("--host: expected an address such as http://localhost:8080, found no such host or port in it.")
    if address.query or "@" in address.netloc:  # which would stand in every message and link
        raise InputError(
            f"--host {address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}: expected an address without "
            "a user or a query; give secrets by KFP_TOKEN, KFP_COOKIE or --token-file."
        )
    if connection.ca_cert and not connection.ca_cert.is_file():
        raise InputError(f"--ca-cert {connection.ca_cert}: no such file.")
    identity = identify(connection)
    preflight(connection, identity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that it wants Kubeflow Pipelines 2
        client = kfp.Client(
            host=host,
            namespace=connection.namespace,
            existing_token=identity.token or None,
            cookies=identity.cookie,
            ssl_ca_cert=str(connection.ca_cert) if connection.ca_cert else None,
        )
    _limit_time(client)
    return client


def link(connection: Connection, page: str) -> str:
    """Return the address of a page for people, such as runs/details/ID."""
    return f"{(os.environ.get('KF_PIPELINES_UI_ENDPOINT') or connection.host).rstrip('/')}/#/{page}"


def preflight(connection: Connection, identity: Identity) -> None:
    """Ask the API whether it is there, knows the caller, and has the namespace."""
    import certifi
    import urllib3

    host = connection.host.rstrip("/")
    pool = urllib3.PoolManager(
        cert_reqs=ssl.CERT_REQUIRED, ca_certs=str(connection.ca_cert or certifi.where()), retries=False
    )
    for path, fields in (
        ("healthz", {}),
        ("experiments", {"namespace": connection.namespace, "page_size": "1"}),
    ):
        try:
            answer = pool.request(
                "GET",
                f"{host}{API}/{path}",
                fields=fields,
                headers=identity.headers,
                timeout=urllib3.Timeout(total=PREFLIGHT_SECONDS),
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _no_answer(host, error, PREFLIGHT_SECONDS) from error
        _check(answer, connection, identity, namespaced=bool(fields))


@contextlib.contextmanager
def explained(connection: Connection) -> Iterator[None]:
    """Turn what the API refuses, and its silence, into one sentence."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        kind = Unreachable if error.status is None or error.status >= 500 or error.status == 429 else InputError
        said = _said(error.body or "") or f"{error.reason}."
        raise kind(f"{connection.host} answered {error.status}: {said}") from error
    except HTTPError as error:
        raise _no_answer(connection.host, error, REQUEST_SECONDS) from error


def _check(answer: Any, connection: Connection, identity: Identity, *, namespaced: bool) -> None:
    """Refuse an answer that is not the API's."""
    host = connection.host
    said = _said(answer.data.decode(errors="replace"))
    tail = f": {said}" if said else "."
    if answer.status == 401:
        raise InputError(f"{host} answered 401, it does not accept {identity.where}{tail}")
    if answer.status == 403 and namespaced:
        raise InputError(
            f"--namespace {connection.namespace}: {host} answered 403; it has many users, and this namespace is "
            f"unknown, or closed to {identity.where}{tail}"
        )
    if answer.status == 403:
        raise InputError(f"{host} answered 403, it forbids this to {identity.where}{tail}")
    if 300 <= answer.status < 400:
        target = answer.headers.get("location", "another page").split("?")[0]
        raise InputError(
            f"{host} sends callers on to {target}, its login page or another address ({identity.where}); "
            "pass a fresh token or cookie, or the address itself."
        )
    if answer.status == 404 and not namespaced:
        raise InputError(f"{host} answered 404: no Kubeflow Pipelines there; try {host.rstrip('/')}/pipeline.")
    if answer.status >= 500 or answer.status == 429:
        raise Unreachable(f"{host} is not ready, try again in a while; it answered {answer.status}{tail}")
    if answer.status != 200:
        raise InputError(f"{host} answered {answer.status} for the namespace {connection.namespace}{tail}")
    if not _is_object(answer.data):
        raise InputError(
            f"{host} answered with a page for people, most likely its login ({identity.where}), where JSON was "
            "expected; pass a fresh token or cookie, or the API's own address."
        )


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _said(body: str) -> str:
    """Return the first line of what the API says in JSON or plain text as a sentence; nothing of a page for people."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = "" if "<" in body else body
    if isinstance(answer, dict):
        answer = next(filter(None, (answer.get(key) for key in ("message", "error", "error_message"))), "")
    line = next(iter(str(answer).strip().splitlines()), "")[:300].rstrip(".")
    return f"{line}." if line else ""


def _no_answer(host: str, error: Exception, seconds: float) -> InputError:
    """Name the cause of a request that had no answer in these seconds."""
    text = f"{error} {error.__cause__ or ''}"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return InputError(f"{host}: its certificate is not signed by a known authority; pass it with --ca-cert.")
    if "NO_CERTIFICATE_OR_CRL_FOUND" in text:
        return InputError("--ca-cert: expected a file with certificates in PEM, found none in it.")
    if "SSL" in text:
        return InputError(f"{host}: no TLS there ({type(error).__name__}); is it http:// instead of https://?")
    for sign, reason in (
        ("refused", "connection refused; is the address right, and the port forwarded?"),
        ("resolve", "no such host name."),
        ("aborted", "it broke the connection off; does it speak https:// only?"),
        ("timed out", f"no answer within {seconds:g} seconds; is the address right, and the network open?"),
    ):
        if sign in text:
            return Unreachable(f"{host}: {reason}")
    return Unreachable(f"{host}: no answer ({text.strip()[:200]}).")


def _limit_time(client: "Client") -> None:
    """Give every request an end: kfp lets one wait forever for a server that fell silent."""
    pool = client.runs.run_service_get_run.__self__.api_client.rest_client.pool_manager
    request = pool.request

    def limited(method: str, url: str, **rest: Any) -> Any:
        return request(method, url, **{**rest, "timeout": rest.get("timeout") or REQUEST_SECONDS})

    pool.request = limited
