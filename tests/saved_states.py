"""The states that a training left below a local folder."""

import json
from pathlib import Path
from typing import Any

import torch

from attngan import artifacts


def newest_file(root: str | Path) -> Path:
    """Return the newest state of the one run below `root`."""
    (pointer,) = Path(root).glob("*/latest.json")
    return pointer.parent / json.loads(pointer.read_text())["states"][0]["file"]


def newest(root: str | Path) -> dict[str, Any]:
    """Return what the newest state holds."""
    return torch.load(newest_file(root), weights_only=True)


def replace(root: str | Path, state: dict[str, Any]) -> None:
    """Put another state in the place of the newest one, with its checksum."""
    path = newest_file(root)
    torch.save(state, path)
    pointer = json.loads((path.parent / "latest.json").read_text())
    pointer["states"][0]["sha256"] = artifacts.sha256_of(path)
    (path.parent / "latest.json").write_text(json.dumps(pointer))
