"""The states that a training left below a local folder, and small states of our own, local or gs://."""

import json
from pathlib import Path
from typing import Any

import torch

from attngan.storage import artifacts, places, uris
from attngan.training.states import StateStore


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


def open_store(root: str) -> StateStore:
    """Open the place of small states."""
    return StateStore(root, step_name="damsm", key=1)


def save(root: str, *steps: int) -> str:
    """Save as a run would that goes on from what is there."""
    with open_store(root) as store:
        store.load()
        for step in steps:
            store.save(step, {"weights": torch.full((3,), float(step))})
    return store.uri


def load(root: str) -> dict[str, Any] | None:
    """Return the state that a run would go on from."""
    return open_store(root).load()


def states(root: str) -> list[str]:
    """Return the names of the saved states, the newest first."""
    content = places.read(uris.join(open_store(root).uri, "latest.json"))[0]
    return [entry["file"] for entry in json.loads(content)["states"]]


def overwrite(uri: str, content: bytes) -> None:
    """Put other content in the place of a small file, whatever it is now."""
    places.write(uri, content, generation=places.read(uri)[1])


def save_and_wait(store: StateStore, step: int) -> None:
    """Save a state and wait until it is where it belongs."""
    store.save(step, {"weights": torch.zeros(3)})
    store.save(step, {"weights": torch.zeros(3)})  # waits for the one before
