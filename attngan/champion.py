"""The model folder, local or gs://: who the champion is, who was it before, their bundles, and every decision.

`champion.json` names the champion and the one before, `models/<fingerprint>/` holds bundles, `history/` a file for each
decision, named by its time and by what was trained on: a later run sees there whether anything is new.
"""

import datetime
import json
from pathlib import Path
from typing import Any

from attngan import artifacts, storage
from attngan.config import Config
from attngan.errors import InputError

POINTER = "champion.json"


def origin(inputs: str, config: Config) -> dict[str, str]:
    """Return what a model is made from: the fingerprint of its inputs (`storage.fingerprint`) and of its settings."""
    return {"inputs": inputs, "config": artifacts.fingerprint(config.shaping())}


class ModelFolder:
    """The model folder as it was when it was opened.

    Args:
        uri: the folder; it need not exist.
    """

    def __init__(self, uri: str):
        if not storage.is_remote(uri) and Path(uri).exists() and not Path(uri).is_dir():
            raise InputError(f"{uri}: expected the folder of the champion, found a file; name another one.")
        self.uri = uri
        content, self._generation = storage.read(storage.join(uri, POINTER))
        pointer = self._parse(content) if content else {"champion": None, "previous": None}
        self.champion: dict[str, Any] | None = pointer["champion"]
        self.previous: dict[str, Any] | None = pointer["previous"]

    def keep(self, bundle: Path, fingerprint: str) -> str:
        """Copy a bundle into the folder, complete only with its manifest, and return its name there."""
        name = f"models/{fingerprint[:16]}"
        if artifacts.MANIFEST not in storage.names(storage.join(self.uri, name)):
            storage.deliver(bundle, storage.join(self.uri, name))
        return name

    def crown(self, entry: dict[str, Any], previous: dict[str, Any] | None) -> None:
        """Make `entry` the champion.

        Raises:
            Changed: there is another champion than when the folder was opened.
        """
        text = json.dumps({"champion": entry, "previous": previous}, indent=2, allow_nan=False)
        uri = storage.join(self.uri, POINTER)
        self._generation = storage.write(uri, text.encode(), generation=self._generation)
        self.champion, self.previous = entry, previous

    def remember(self, decision: dict[str, Any]) -> None:
        """Keep a decision, whose `origin` may be None."""
        now = datetime.datetime.now(datetime.UTC)
        name = f"{now:%Y%m%dT%H%M%S.%fZ}-{_short(decision['origin'])}.json"
        record = json.dumps({"time": now.isoformat(timespec="seconds"), **decision}, indent=2, allow_nan=False)
        storage.write(storage.join(self.uri, "history", name), record.encode(), generation=0)

    def decisions(self) -> list[str]:
        """Return the names of all decisions, the oldest first."""
        return [name for name in storage.names(storage.join(self.uri, "history")) if name.endswith(".json")]

    def decision(self, name: str) -> dict[str, Any]:
        """Return one decision."""
        return json.loads(storage.read(storage.join(self.uri, "history", name))[0])

    def find(self, made_from: dict[str, str]) -> dict[str, Any] | None:
        """Return the latest decision on a model of this origin, or None."""
        found = [name for name in self.decisions() if name.endswith(f"-{_short(made_from)}.json")]
        return self.decision(found[-1]) if found else None

    def _parse(self, content: bytes) -> dict[str, Any]:
        try:
            pointer = json.loads(content)
        except ValueError:
            pointer = None
        if not isinstance(pointer, dict) or not {"champion", "previous"} <= pointer.keys():
            raise InputError(
                f"{storage.join(self.uri, POINTER)}: expected the champion's name and the previous one, found "
                "something else; restore the file."
            )
        return pointer


def _short(made_from: dict[str, str] | None) -> str:
    return artifacts.fingerprint(made_from)[:16] if made_from else "unknown"
