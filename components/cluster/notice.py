"""Where a notice of a run's end goes: `--notify`, an address, or a Kubernetes secret that holds one.

What is compiled into a pipeline can be read by everybody who may see its runs, so no secret may be in it.
"""

import re
import urllib.parse
from typing import NamedTuple

from attngan.errors import InputError
from attngan.runtime import webhook
from components.cluster import client as api
from components.cluster.options import Connection

KEY = "url"  # of a secret, where none is named
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
ENTRY = re.compile(r"[A-Za-z0-9._-]{1,253}")
# Chats whose addresses are secrets, and what else looks like one: a long part of the path with letters and digits.
CHATS = ("slack.com", "discord.com", "discordapp.com", "office.com", "chat.googleapis.com")
RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_.:~-]{16,}")


class Notice(NamedTuple):
    """A notice that is sent when a run ends.

    Args:
        to: an address without a secret, or a secret as NAME/KEY.
        page: address of a run's page without its ID.
        pipeline_root: folder for the results of all runs.
    """

    to: str
    page: str
    pipeline_root: str

    @property
    def secret(self) -> tuple[str, str] | None:
        """Name and key of the secret that holds the address, None where that is none."""
        name, _, key = self.to.partition("/")
        return None if "://" in self.to else (name, key)


def notice_of(to: str, connection: Connection, pipeline_root: str) -> Notice | None:
    """Return the notice that `--notify` asks for, None where it asks for none."""
    if not to:
        return None
    return Notice(_receiver(to, connection.namespace), api.link(connection, "runs/details/"), pipeline_root)


def _receiver(to: str, namespace: str) -> str:
    """Return the address, or the secret with its key.

    Raises:
        InputError: it is neither, or an address that holds a secret; nothing that may be one is shown.
    """
    if "://" in to:
        try:
            host = webhook.host_of(to)
        except InputError as error:
            raise InputError(f"--notify: {error}") from None
        if _holds_secret(to):
            raise InputError(
                f"--notify {host}/...: the address holds a secret, which everybody who may see the run would read. "
                f"Put the whole address into a file, `kubectl create secret generic attngan-notify -n {namespace} "
                f"--from-file={KEY}=FILE`, and give --notify attngan-notify."
            )
        return to
    name, slash, key = to.partition("/")
    if not NAME.fullmatch(name) or (slash and not ENTRY.fullmatch(key)):
        raise InputError(
            "--notify: expected an address such as https://host/path, or the Kubernetes secret that holds one, NAME or "
            f"NAME/KEY (the key is {KEY} otherwise), found something else."
        )
    return f"{name}/{key or KEY}"


def _holds_secret(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    host = f".{parts.hostname}"
    is_chat = any(host.endswith(f".{chat}") for chat in CHATS)
    return bool(is_chat or parts.query or parts.fragment or any(map(RANDOM.fullmatch, parts.path.split("/"))))
