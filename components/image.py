"""The container image every component runs in, and the decorator that says so."""

import functools
import os
import re

from kfp import dsl

from attngan.errors import InputError
from attngan.storage import artifacts

# kfp.local warns about images whose name lacks "python".
IMAGE = os.environ.get("ATTNGAN_IMAGE") or f"attngan/python:{artifacts.code_revision()}"

MOVING_TAGS = ("", "latest", "dev", "main", "master", "unknown")

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)


def check_pinned(image: str) -> None:
    """Refuse an image whose name may mean another one tomorrow: KFP's cache and a retry trust the name."""
    name, at, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if at and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise InputError(f"image {image}: expected a digest such as @sha256:..., found @{digest}.")
    if not at and (tag in MOVING_TAGS or tag.endswith("-dirty")):
        raise InputError(
            f"image {image}: expected a digest (NAME@sha256:...) or the tag of a commit, found "
            f"{f'the tag {tag}' if tag else 'no tag'}; `make image` tags with the commit, once all is committed."
        )
