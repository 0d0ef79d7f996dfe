"""Bundles that ask to be the champion, each with its metrics."""

import json
from collections.abc import Sequence
from pathlib import Path

from attngan.storage import artifacts, places, uris
from attngan.storage.champion import ModelFolder


def candidate(
    folder: Path,
    name: str,
    r_precision: float,
    *,
    not_learnt: Sequence[str] = (),
    spread: float | None = None,
    **figures: float,
) -> tuple[Path, Path]:
    """Return a bundle and its metrics folder; where a spread is given, figures have intervals."""
    bundle, metrics = folder / f"{name}-bundle", folder / f"{name}-metrics"
    for each in (bundle, metrics):
        each.mkdir()
        (each / "content").write_text(name)
    artifacts.finish(bundle, "bundle", ["content"], generator=name)
    figures, files = {"r_precision": r_precision, **figures}, ["content"]
    if spread is not None:
        details = {
            each: {"value": value, "low": value - spread, "high": value + spread, "generated": 1000}
            for each, value in figures.items()
        }
        (metrics / "metrics.json").write_text(json.dumps({"figures": figures, "details": details}))
        files.append("metrics.json")
    artifacts.finish(metrics, "metrics", files, generator=name, figures=figures, not_learnt=list(not_learnt))
    return bundle, metrics


def champion(models: str) -> str:
    """Return the name of the champion, read from its stored bundle."""
    return places.read(uris.join(models, ModelFolder(models).champion["model"], "content"))[0].decode()
