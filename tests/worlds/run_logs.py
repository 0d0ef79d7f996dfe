"""The logs that the steps of a run on a cluster leave: what they print, with KFP's executor before and behind it."""

from attngan.storage import places, uris

BEGUN = '[KFP Executor 2026-11-23 03:00:01,123 INFO]: Got executor_input:\n{\n    "inputs": {}\n}\n'
ENDED = "[KFP Executor 2026-11-23 03:00:09,456 INFO]: Wrote executor output file to /tmp/kfp_outputs/o.json.\n"
PROMOTED = "promoted: kid 0.0512, the champion has 0.0713"
KEPT = "not promoted: kid 0.08, the champion has 0.0713; better by more than 0 is asked for"
NOTHING_NEW = (
    "nothing to train: pictures, captions and settings are those of the model that was promoted on "
    "2026-11-16T03:00:00+00:00; the champion stays"
)


def done(said: str = "") -> str:
    """Return the log of a step that succeeded."""
    return f"{BEGUN}{said}\n{ENDED}"


def put(folder: str, step: str, log: str, *, name: str = "executor-logs-0") -> None:
    """Leave a log where KFP's launcher does."""
    uri = uris.join(folder, step, "1f0e-77", name)
    places.write(uri, log.encode(), generation=places.read(uri)[1])
