"""After the steps of a run on a cluster: a notice of how it ended, sent to a chat or to any other receiver of JSON."""

import json
import os

from attngan.errors import InputError, shown
from attngan.runtime import webhook
from attngan.runtime.time_limit import within
from attngan.storage import run_ending
from attngan.storage.run_ending import Ending

SUCCEEDED = ("SUCCEEDED", "COMPLETE", "CACHED")  # as kfp.local calls it, and as Kubeflow Pipelines does
ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # what is no plain character in a message of Slack's


def notify(to: str, *, folder: str, state: str, run_name: str, link: str, model_uri: str) -> str:
    """Send a notice of how a run ended.

    Args:
        to: the address, or the Kubernetes secret that gave it to this process as `ATTNGAN_NOTIFY_URL`: NAME/KEY.
        folder: of the run, `<pipeline root>/<pipeline>/<run id>`, with the logs of its steps.
        state: of its steps together, as Kubeflow says it.
        run_name: for people.
        link: of the run's page.
        model_uri: the model folder, with the history of decisions.

    Returns:
        A sentence about where it was sent.

    Raises:
        InputError: it could not be sent. The address is in no message.
    """
    url = to if "://" in to else os.environ.get(webhook.VARIABLE, "").strip()
    if not url:
        name, _, key = to.partition("/")
        raise InputError(f"the secret {name} is not in the namespace of this run, or has no key {key}; make it.")
    host = webhook.host_of(url)
    ending = run_ending.ending_of(folder, has_succeeded=state in SUCCEEDED)
    content = {
        "text": message(ending, run_name, link),
        "run_id": folder.rpartition("/")[2],
        "run_name": run_name,
        "link": link,
        "verdict": ending.verdict,
        "reason": ending.reason,
        "failed_step": ending.step or None,
        **_figures(ending, model_uri),
    }
    webhook.post(url, json.dumps(content).encode())
    return f"the notice was sent to {host}: {shown(ending.title)}"


def message(ending: Ending, run_name: str, link: str) -> str:
    """Return the notice as Slack shows it: the run as a link, what became of it in bold, and why."""
    return f"<{link}|{_escaped(run_name)}>: *{_escaped(ending.title)}*\n{_escaped(ending.detail)}".rstrip()


def _escaped(text: str) -> str:
    return "".join(ESCAPES.get(each, each) for each in text)


def _figures(ending: Ending, model_uri: str) -> dict[str, object]:
    """Return what was compared, as numbers; the sentence has them too, so a history that cannot be read is no loss."""
    found: dict[str, object] = dict.fromkeys(("metric", "challenger", "champion"))

    def read() -> None:
        try:
            found.update(run_ending.figures_of(model_uri, ending.reason))
        except Exception as error:
            print(f"the notice goes without figures: {shown(str(error) or type(error).__name__)}")

    if ending.verdict in ("promoted", "kept"):
        within(run_ending.SECONDS, read)
    return dict(found)
