"""Step: champion against challenger. A bundle is promoted only if its metrics are better; the one before can come back.

The model folder holds `champion.json` (who it is, who was it before), `models/<fingerprint>/` with the bundles, and
`history.jsonl` with every decision.
"""

import datetime
import difflib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from attngan import artifacts
from attngan.config import Config
from attngan.errors import InputError


def publish(bundle: Path, metrics: Path, model_uri: Path, config: Config, *, force: bool = False) -> dict[str, Any]:
    """Make a bundle the champion if its metrics are better than the champion's.

    Args:
        bundle: folder of `export_samples`.
        metrics: folder of `evaluate`, of the same generator.
        model_uri: the model folder; made if it is not there.
        config: reads `publish`.
        force: promote whatever the metrics say.

    Returns:
        The decision: promoted, reason, metric, challenger's and champion's value, when.
    """
    manifest = artifacts.check(bundle, "bundle", contents=True)
    measured = artifacts.check(metrics, "metrics", contents=True)
    if manifest["generator"] != measured["generator"]:
        raise InputError(
            f"{metrics}: these are the metrics of another generator than {bundle} holds; evaluate that one."
        )
    figures = measured["figures"]
    settings = config.publish
    challenger = _value(figures, settings.metric, metrics)
    pointer = _read_pointer(model_uri)
    champion = pointer["champion"]["figures"].get(settings.metric) if pointer["champion"] else None
    promoted, reason = _decide(config, challenger, champion, has_champion=bool(pointer["champion"]), force=force)

    decision = {
        "promoted": promoted,
        "reason": reason,
        "metric": settings.metric,
        "challenger": challenger,
        "champion": champion,
        "bundle": manifest["fingerprint"],
        "time": _now(),
    }
    if promoted:
        entry = {
            "model": _store(bundle, manifest["fingerprint"], model_uri),
            "fingerprint": manifest["fingerprint"],
            "figures": figures,
            "promoted": decision["time"],
        }
        before = pointer["champion"]
        if before and before["fingerprint"] == entry["fingerprint"]:
            before = pointer["previous"]
        artifacts.write_json(model_uri / "champion.json", {"champion": entry, "previous": before})
    _remember(model_uri, decision)
    return decision


def restore_previous(model_uri: Path) -> dict[str, Any]:
    """Put the previous champion back; the one it replaces becomes the previous one.

    Args:
        model_uri: the model folder.

    Returns:
        The decision, as `publish` does.
    """
    pointer = _read_pointer(model_uri)
    if not pointer["previous"]:
        raise InputError(f"{model_uri}: there is no previous champion to put back.")
    artifacts.check(model_uri / pointer["previous"]["model"], "bundle", contents=True)
    swapped = {"champion": pointer["previous"], "previous": pointer["champion"]}
    artifacts.write_json(model_uri / "champion.json", swapped)
    reason = f"{pointer['previous']['model']} is the champion again, {pointer['champion']['model']} is put aside"
    decision = {"promoted": True, "reason": reason, "bundle": pointer["previous"]["fingerprint"], "time": _now()}
    _remember(model_uri, decision)
    return decision


def _decide(
    config: Config, challenger: float, champion: float | None, *, has_champion: bool, force: bool
) -> tuple[bool, str]:
    settings = config.publish
    if not has_champion:
        return True, f"promoted: the first model here, {settings.metric} {challenger:.4g}"
    if champion is None:
        if force:
            return True, f"promoted by force: the champion has no {settings.metric} to compare with"
        raise InputError(
            f"publish.metric {settings.metric}: the champion was published without it, so nothing can be compared; "
            "choose a metric it has, or publish with --force."
        )
    gain = challenger - champion if settings.higher_is_better else champion - challenger
    compared = f"{settings.metric} {challenger:.4g}, the champion has {champion:.4g}"
    if gain > settings.min_improvement:
        return True, f"promoted: {compared}"
    if force:
        return True, f"promoted by force: {compared}"
    return False, f"not promoted: {compared}; better by more than {settings.min_improvement:g} is asked for"


def _value(figures: dict[str, float], metric: str, metrics: Path) -> float:
    if metric not in figures:
        near = difflib.get_close_matches(metric, figures, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"publish.metric {metric}: {metrics} has no such figure{hint}; it has {', '.join(figures)}.")
    return figures[metric]


def _read_pointer(model_uri: Path) -> dict[str, Any]:
    path = model_uri / "champion.json"
    if not path.exists():
        if model_uri.exists() and not model_uri.is_dir():
            raise InputError(f"{model_uri}: expected the folder of the champion, found a file; name another one.")
        return {"champion": None, "previous": None}
    pointer = artifacts.read_json(path)
    if not isinstance(pointer, dict) or not {"champion", "previous"} <= pointer.keys():
        raise InputError(
            f"{path}: expected the champion's name and the previous one, found other JSON; restore the file."
        )
    return pointer


def _store(bundle: Path, fingerprint: str, model_uri: Path) -> str:
    """Copy the bundle into the model folder, whole or not at all, and return its name there."""
    name = f"models/{fingerprint[:16]}"
    target = model_uri / name
    if not (target / artifacts.MANIFEST).is_file():
        draft = target.with_name(f".{target.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(bundle, draft)
        artifacts.check(draft, "bundle", contents=True)
        os.replace(draft, target)
    return name


def _remember(model_uri: Path, decision: dict[str, Any]) -> None:
    model_uri.mkdir(parents=True, exist_ok=True)
    with (model_uri / "history.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(decision) + "\n")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
