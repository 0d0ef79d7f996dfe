"""A message to an address that may itself be a secret: sent with patience, and no part of it but the host is said.

Redirects are not followed: the message, and the secret in the address, are for the one who was named.
"""

import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from attngan.errors import InputError, TransientError
from attngan.runtime.time_limit import within

VARIABLE = "ATTNGAN_NOTIFY_URL"  # of the environment: an address that is a secret
TRIES = 4
SECONDS = 10.0  # for one try
PAUSE_SECONDS = 2.0  # before the second, twice as long before each that follows
LONGEST_PAUSE_SECONDS = 30.0  # that an answer may ask for
_NO_ANSWER = f"no answer within {SECONDS:g} seconds"
LATER = (408, 425, 429)  # statuses which, as all from 500 on, may be others the next time


def post(url: str, body: bytes) -> None:
    """Send JSON to an address, again where that may help.

    Raises:
        TransientError: it could not be sent in several tries.
        InputError: the address is none, or does not take it.
    """
    host = host_of(url)
    pause = PAUSE_SECONDS
    for number in range(1, TRIES + 1):
        try:
            _try(url, host, body)
            return
        except _Later as later:
            if number == TRIES:
                raise TransientError(f"{host}: {later} ({TRIES} tries).") from None
            time.sleep(min(LONGEST_PAUSE_SECONDS, max(pause, later.seconds)))
            pause *= 2


def host_of(url: str) -> str:
    """Return scheme and host of an address: what of it is no secret.

    Raises:
        InputError: it is no address; nothing of it is shown.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        is_one = bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:
        is_one = False
    if not is_one or parts.scheme not in ("http", "https") or "@" in parts.netloc or not re.fullmatch("[!-~]+", url):
        raise InputError("expected an address such as https://host/path, without a user, found something else.")
    return f"{parts.scheme}://{parts.netloc}"


class _Later(Exception):
    """A try that failed; another may not."""

    def __init__(self, reason: str, seconds: float = 0.0):
        super().__init__(reason)
        self.seconds = seconds


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect to the handler of errors, whatever it leads to."""

    def http_error_302(self, *_: Any) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _try(url: str, host: str, body: bytes) -> None:
    """Send it once; however slowly the answer comes, the time is limited."""
    headers = {"Content-Type": "application/json", "User-Agent": "attngan"}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    outcome: list[Exception | None] = []

    def send() -> None:
        try:
            urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS).close()
            outcome.append(None)
        except Exception as error:
            outcome.append(_judged(error, host))

    if not within(SECONDS, send):
        raise _Later(_NO_ANSWER)
    if failure := outcome[0]:
        raise failure


def _judged(error: Exception, host: str) -> Exception:
    """Return what to make of a try that failed; the text of an error may hold the address, so it is not shown."""
    if isinstance(error, urllib.error.HTTPError):
        return _answered(error, host)
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return InputError(
            f"{host}: its certificate is not signed by a known authority, or is for another name; correct the address, "
            "or name a file with that authority in SSL_CERT_FILE, as KFP does where it has one."
        )
    for kind, said in (
        (ssl.SSLError, "no TLS there; is it http:// instead of https://?"),
        (socket.gaierror, "no such host name"),
        (ConnectionRefusedError, "connection refused"),
        (TimeoutError, _NO_ANSWER),
        (OSError, "the connection broke off"),
        (http.client.HTTPException, "what it answered is no HTTP"),
    ):
        if isinstance(reason, kind):
            return _Later(said)
    return error


def _answered(error: urllib.error.HTTPError, host: str) -> Exception:
    with error:
        if error.code in LATER or error.code >= 500:
            wait = error.headers.get("Retry-After") or ""
            return _Later(f"it answered {error.code}", float(wait) if wait.isdecimal() else 0.0)
        if 300 <= error.code < 400:
            return InputError(
                f"{host}: it answered {error.code}, a redirect, which is not followed, as it may lead elsewhere; "
                "give the address that it leads to."
            )
        said = error.read(200).decode(errors="replace").strip()
    # Slack says a word such as no_service. A page may repeat the address, so nothing else is shown.
    word = f" ({said})" if re.fullmatch("[a-z_]{1,60}", said) and said not in error.url else ""
    return InputError(f"{host}: it answered {error.code}{word}, and does not take the notice; check the address.")
