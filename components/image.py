"""The container image every component runs in, and the decorator that says so."""

import functools
import os

from kfp import dsl

# kfp.local warns about images whose name lacks "python"; clusters get a tag with the commit through ATTNGAN_IMAGE.
IMAGE = os.environ.get("ATTNGAN_IMAGE", "attngan/python:dev")

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
