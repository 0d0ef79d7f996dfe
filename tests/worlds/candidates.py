"""Bundles that ask to be the champion, each with its metrics."""

from collections.abc import Sequence
from pathlib import Path

from attngan.storage import artifacts, places, uris
from attngan.storage.champion import ModelFolder


def candidate(
    folder: Path, name: str, r_precision: float, *, not_learnt: Sequence[str] = (), **figures: float
) -> tuple[Path, Path]:
    """Return a bundle and its metrics folder."""
    bundle, metrics = folder / f"{name}-bundle", folder / f"{name}-metrics"
    for each in (bundle, metrics):
        each.mkdir()
        (each / "content").write_text(name)
    artifacts.finish(bundle, "bundle", ["content"], generator=name)
    figures = {"r_precision": r_precision, **figures}
    artifacts.finish(metrics, "metrics", ["content"], generator=name, figures=figures, not_learnt=list(not_learnt))
    return bundle, metrics


def champion(models: str) -> str:
    """Return the name of the champion, read from its stored bundle."""
    return places.read(uris.join(models, ModelFolder(models).champion["model"], "content"))[0].decode()
