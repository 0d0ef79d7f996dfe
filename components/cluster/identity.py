"""As whom to speak to the cluster: a token, a cookie, Google's proxy, or the pod's account. Secrets are never shown."""

import os
from pathlib import Path
from typing import NamedTuple

from attngan.errors import InputError, first_line
from components.cluster.options import Connection


class Identity(NamedTuple):
    """As whom to speak to the API: a bearer token, a cookie, or nobody."""

    token: str = ""
    cookie: str = ""
    where: str = "a caller without --token, --token-file, --cookie or --iap-client-id"

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that say so."""
        bearer = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return bearer | ({"Cookie": self.cookie} if self.cookie else {})


def identify(connection: Connection) -> Identity:
    """Return whom the flags name; in a pod with an account for pipelines, that one."""
    given = {
        "--token (KFP_TOKEN)": connection.token,
        "--token-file": connection.token_file,
        "--cookie (KFP_COOKIE)": connection.cookie,
        "--iap-client-id (KF_PIPELINES_IAP_OAUTH2_CLIENT_ID)": connection.iap_client_id,
    }
    named = [flag for flag, value in given.items() if value]
    if len(named) > 1:
        raise InputError(f"expected one way to authenticate, found {' and '.join(named)}; leave out all but one.")
    if connection.token:
        return Identity(token=_header(connection.token, named[0]), where=f"the token of {named[0]}")
    if connection.token_file:
        return _from_file(connection.token_file, "--token-file")
    if connection.cookie:
        return Identity(cookie=_header(connection.cookie, named[0], spaces=True), where=f"the cookie of {named[0]}")
    if connection.iap_client_id:
        return Identity(token=_iap_token(connection.iap_client_id), where="the token for --iap-client-id")
    from kfp import client

    mounted = Path(os.environ.get(client.KF_PIPELINES_SA_TOKEN_ENV) or client.KF_PIPELINES_SA_TOKEN_PATH)
    return _from_file(mounted, "the pod's service account") if mounted.is_file() else Identity()


def _header(text: str, flag: str, *, spaces: bool = False) -> str:
    """Return a secret that fits into a header; what it is stays unsaid."""
    text = text.strip()
    if not text.isascii() or not text.isprintable() or (" " in text and not spaces):
        raise InputError(f"{flag}: expected the bare value, found spaces, line breaks or letters that no header holds.")
    return text


def _from_file(path: Path, flag: str) -> Identity:
    token = _header(path.read_text(encoding="utf-8", errors="replace"), f"{flag} {path}")
    if not token:
        raise InputError(f"{flag} {path}: expected a token, found nothing.")
    return Identity(token=token, where=f"the token of {flag} {path}")


def _iap_token(client_id: str) -> str:
    """Return an ID token for the proxy from Google's default credentials, or through the browser as kfp does."""
    from kfp.client import auth

    other = [os.environ.get(f"KF_PIPELINES_APP_OAUTH2_CLIENT_{part}") for part in ("ID", "SECRET")]
    try:
        token, _ = auth.get_auth_token(client_id, *other)
    except Exception as error:  # whatever Google's library found missing or refused
        raise InputError(f"--iap-client-id: Google gives no token: {first_line(error)[:200]}") from error
    if not token:
        raise InputError(
            "--iap-client-id: expected credentials of a service account, found a person's; set "
            "GOOGLE_APPLICATION_CREDENTIALS, or KF_PIPELINES_APP_OAUTH2_CLIENT_ID and _SECRET."
        )
    return token
