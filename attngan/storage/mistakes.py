"""A mistake is tried once: where a cluster tries a step again, the next attempt ends at once with the same sentence.

Kubeflow Pipelines cannot tell a mistake from a lost node, and tries both again. It says which attempt an attempt is, 0
for the first, in `KFP_RETRY_INDEX`; without that, as on one's own machine, nothing here is done. A step that ends with
a mistake leaves a note, `mistakes/<step>-<key>.json`, which only ends what the cluster does by itself:

- It counts for later attempts of the same step of the same run on the same inputs by the same code, for an hour.
- The first attempt removes it. "Retry run" begins with one, so whoever has mended something just asks for it.
- What may pass, or be mended elsewhere, leaves none: `errors.is_lasting`.
- A note that cannot be read, written or removed is none.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from attngan.errors import Changed, InputError, is_lasting
from attngan.runtime import exit_status
from attngan.runtime.console import say
from attngan.storage import artifacts, json_text, places, uris

ATTEMPT, POD = "KFP_RETRY_INDEX", "KFP_POD_NAME"  # which Kubeflow Pipelines sets, from 2.17 on
COUNTS_SECONDS = 3600.0


class Note(TypedDict):
    """What is known of a mistake."""

    time: float  # seconds since 1970
    sentence: str


@contextlib.contextmanager
def reported(step: str, folder: Path | str, *, root: str, given: Sequence[str]) -> Iterator[None]:
    """Do what `exit_status.reported` does, and let the cluster try a mistake once.

    Args:
        step: its name.
        folder: where the block writes, named when the disk is full.
        root: where notes lie, local or in cloud storage: the checkpoint root, or a place beside the output.
        given: what the step is given, and where its output goes: URIs, texts of settings.
    """
    with exit_status.reported(folder):
        attempt = os.environ.get(ATTEMPT, "")
        if not attempt.isdecimal():
            yield
            return
        run = os.environ.get(POD, "").rpartition("-")[0]  # the rest is the attempt's
        uri = f"{places.keyed(uris.join(root, 'mistakes'), step, [run, artifacts.code_revision(), *given])}.json"
        if int(attempt) == 0:
            _remove(uri)
        elif sentence := _found(uri):
            say(f"not tried again: this mistake ended an attempt before; mend it and retry the run ({uri})")
            raise InputError(sentence)
        try:
            yield
        except InputError as error:
            if is_lasting(error):
                _keep(uri, str(error))
            raise


def _found(uri: str) -> str | None:
    """Return the sentence of a note that counts, None where there is none."""
    with contextlib.suppress(InputError, OSError):
        content, generation = places.read(uri)
        note = json_text.parse(content, uri, Note) if generation else None
        if note and abs(time.time() - note["time"]) < COUNTS_SECONDS:
            return note["sentence"]
    return None


def _keep(uri: str, sentence: str) -> None:
    note = Note(time=time.time(), sentence=sentence)
    with contextlib.suppress(InputError, OSError, Changed):
        places.write(uri, json.dumps(note).encode(), generation=places.read(uri)[1])


def _remove(uri: str) -> None:
    with contextlib.suppress(InputError, OSError):
        places.remove(uri)
