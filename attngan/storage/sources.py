"""What a model is made from, as people name it, and what is read beside that: captions, where CUB's lie."""

import os
from collections.abc import Sequence

from attngan.config.settings import Config
from attngan.storage import places
from attngan.storage.uris import is_remote


def fingerprint_of(sources: Sequence[str], config: Config) -> str:
    """Return the fingerprint of all that a model is made from beside its settings.

    Args:
        sources: pictures, captions, pretrained weights: files or folders, "" for what is not given. Cloud storage is
            listed, not downloaded.
        config: may name weights too (`Config.looked_through`).
    """
    return fingerprint(*sources, *config.looked_through)


def fingerprint(source: str, captions: str, *others: str) -> str:
    """Return the fingerprint of pictures, of their captions wherever they are found, and of other files."""
    return places.fingerprint(source, captions or captions_beside(source), *others)


def captions_beside(source: str) -> str:
    """Return the folder `text` beside a source on this machine, "" where there is none or nobody looks there.

    Captions that an archive, or a folder in CUB's layout, does not hold are taken from it.
    """
    if is_remote(source):
        return ""
    beside = os.path.join(os.path.dirname(os.path.abspath(source)), "text")
    is_looked_at = os.path.isfile(source) or os.path.lexists(os.path.join(source, "images.txt"))
    return beside if is_looked_at and os.path.isdir(beside) else ""
