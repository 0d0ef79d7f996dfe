"""Before the steps of a scheduled run: is there anything new to train on?"""

from collections.abc import Sequence
from typing import Any

from attngan.config.settings import Config
from attngan.pages import model_page
from attngan.storage.champion import ModelFolder, Origin, origin
from attngan.storage.sources import fingerprint_of


def detect_changes(
    sources: Sequence[str], model_uri: str, config: Config, *, always: bool = False, remember: bool = False
) -> dict[str, Any]:
    """Compare the sources and the settings with those of the models that were decided on before.

    The command asks and changes nothing. The pipeline's step acts on the answer, so it remembers it: where nothing is
    new no later step does, and the history would not say why there is no model of that day.

    Args:
        sources: pictures, captions, pretrained weights: files or folders, "" for what is not given. Cloud storage is
            listed, not downloaded.
        model_uri: the model folder, local or in cloud storage, with the history of decisions.
        config: the settings of the run.
        always: train whatever has changed.
        remember: where there is nothing to train, keep that and why in the history of the model folder.

    Returns:
        retrain, reason, and inputs: the fingerprint of the sources.
    """
    inputs = fingerprint_of(sources, config)
    made_from = origin(inputs, config)
    folder = ModelFolder(model_uri)
    before = folder.find(made_from)
    if before is None:
        retrain, reason = True, f"training: {_what_is_new(folder, made_from)}"
    elif always:
        retrain, reason = True, "training: nothing has changed, but it is asked for always"
    else:
        verdict = "promoted" if before["promoted"] else "not promoted"
        retrain = False
        reason = (
            f"nothing to train: pictures, captions and settings are those of the model that was {verdict} on "
            f"{before['time']}; the champion stays"
        )
        if remember:
            folder.remember_unchanged(made_from, reason)
            model_page.write(model_uri)
    return {"retrain": retrain, "reason": reason, "inputs": inputs}


def _what_is_new(folder: ModelFolder, made_from: Origin) -> str:
    known = [name for name in folder.decisions() if not name.endswith("-unknown.json")]
    last = folder.decision(known[-1])["origin"] if known else None
    if last is None:
        return f"no model was trained for {folder.uri} yet"
    new = [what for what, key in (("sources", "inputs"), ("settings", "config")) if last[key] != made_from[key]]
    return f"{' and '.join(new)} are not those of the last model"
