"""Step: champion against challenger. Only a better bundle is promoted; the one before can come back."""

import difflib
from pathlib import Path
from typing import Any

from attngan.config.settings import Config
from attngan.errors import Changed, InputError
from attngan.inference import champion_pictures
from attngan.metrics import names
from attngan.pages import model_card, model_page
from attngan.storage import artifacts, json_text
from attngan.storage.champion import Entry, ModelFolder, check_metric, now, origin
from attngan.storage.uris import check_apart

SAME = ("bundle", "promoted", "metric", "challenger", "origin")  # in a decision that is made again


def publish(
    bundle: Path, metrics: Path, model_uri: str, config: Config, *, inputs: str | None = None, force: bool = False
) -> dict[str, Any]:
    """Make a bundle the champion if it has learnt, and its metrics are better than the champion's.

    Args:
        bundle: folder of `export_samples`.
        metrics: folder of `evaluate`, of the same generator.
        model_uri: the model folder, local or in cloud storage; made if it is not there.
        config: reads `publish`; all of it is remembered, as a fingerprint.
        inputs: fingerprint of the sources, so that a later run sees whether they changed; None if it is not known.
        force: promote whatever the metrics say.

    Returns:
        The decision: promoted, reason, metric, challenger's and champion's value, the interval of the challenger's if
        there is one, the bundle's fingerprint.
    """
    check_metric(config)
    check_apart([model_uri], [bundle, metrics])
    manifest = artifacts.check(bundle, "bundle", contents=True)
    measured = artifacts.check(metrics, "metrics", contents=True)
    if manifest["generator"] != measured["generator"]:
        raise InputError(
            f"{metrics}: these are the metrics of another generator than {bundle} holds; evaluate that one."
        )
    challenger = _value(measured["figures"], config.publish.metric, metrics)
    while True:
        folder = ModelFolder(model_uri)
        champion = folder.champion["figures"].get(config.publish.metric) if folder.champion else None
        is_champion = bool(folder.champion) and folder.champion["fingerprint"] == manifest["fingerprint"]
        promoted, reason = _decide(config, challenger, champion, has_champion=bool(folder.champion), force=force)
        if promoted and not force and (reasons := measured.get("not_learnt")):
            promoted, reason = False, f"not promoted: the model has not learnt: {reasons[0]}"
        if is_champion:  # as when a try before this one ended between the pointer and the history
            promoted, reason = True, f"promoted: it is the champion, {config.publish.metric} {challenger:.4g}"
        try:
            if promoted:
                model = folder.keep(bundle, manifest["fingerprint"])  # also the champion's, which may be damaged there
                if not is_champion:
                    _promote(folder, model, manifest["fingerprint"], measured["figures"])
            break
        except Changed:
            continue  # another run was faster: compare with its model
    decision = {
        "promoted": promoted,
        "reason": reason,
        "metric": config.publish.metric,
        "challenger": challenger,
        "champion": champion,
        **_interval(metrics, config.publish.metric),
        "bundle": manifest["fingerprint"],
        "origin": origin(inputs, config) if inputs else None,
    }
    decision = _remembered(folder, decision)
    if promoted:
        champion_pictures.draw(folder, bundle, manifest["fingerprint"])
    model_page.write(model_uri)
    return decision


def restore_previous(model_uri: str) -> dict[str, Any]:
    """Put the previous champion back; the one it replaces becomes the previous one.

    Args:
        model_uri: the model folder, local or in cloud storage.

    Returns:
        The decision, as `publish` does.
    """
    folder = ModelFolder(model_uri)
    if not folder.champion:
        raise InputError(f"{model_uri}: expected a model folder, found no champion there; check the path.")
    if not folder.previous:
        raise InputError(f"{model_uri}: there is no previous champion to put back.")
    folder.check(folder.previous)
    reason = f"{folder.previous['model']} is the champion again, {folder.champion['model']} is put aside"
    try:
        folder.set_champion(folder.previous, folder.champion)
    except Changed:
        raise InputError(f"{model_uri}: the champion has just changed; look who it is, then decide again.") from None
    decision = {"promoted": True, "reason": reason, "bundle": folder.champion["fingerprint"], "origin": None}
    folder.remember(decision)
    model_page.write(model_uri)
    return decision


def _remembered(folder: ModelFolder, decision: dict[str, Any]) -> dict[str, Any]:
    """Keep a decision, and return it; where a try before this one of the same run has kept it, return that one."""
    for before in folder.told(folder.decisions()[-1:]) if decision["origin"] else ():
        if before is not None and all(before.get(name) == decision[name] for name in SAME):
            return {**decision, **before}
    folder.remember(decision)
    return decision


def _promote(folder: ModelFolder, model: str, fingerprint: str, figures: dict[str, float]) -> None:
    promoted = now().isoformat(timespec="seconds")
    entry = Entry(model=model, fingerprint=fingerprint, figures=figures, promoted=promoted)
    folder.set_champion(entry, folder.champion)


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
    is_higher_better = names.is_higher_better(settings.metric, otherwise=settings.higher_is_better)
    gain = challenger - champion if is_higher_better else champion - challenger
    compared = f"{settings.metric} {challenger:.4g}, the champion has {champion:.4g}"
    if gain > settings.min_improvement:
        return True, f"promoted: {compared}"
    if force:
        return True, f"promoted by force: {compared}"
    return False, f"not promoted: {compared}; better by more than {settings.min_improvement:g} is asked for"


def _interval(metrics: Path, metric: str) -> dict[str, float]:
    """Return the ends of a figure's interval, "low" and "high"; nothing where older metrics do not say."""
    path = metrics / "metrics.json"
    details = json_text.read(path, model_card.Evaluation).get("details", {}) if path.is_file() else {}
    return {end: details[metric][end] for end in ("low", "high")} if metric in details else {}


def _value(figures: dict[str, float], metric: str, metrics: Path) -> float:
    if metric not in figures:
        near = difflib.get_close_matches(metric, figures, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        known = ", ".join(figures) or "none"
        raise InputError(f"publish.metric {metric}: {metrics} has no such figure{hint}; it has {known}.")
    return figures[metric]
