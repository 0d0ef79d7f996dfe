"""Figures and pictures -> one self-contained HTML file, which opens without network and in a sandboxed frame."""

import base64
from typing import Any

import jinja2
from PIL import Image

from attngan.pages import pictures

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("attngan.pages", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def render(template: str, **values: Any) -> str:
    """Fill one of attngan's HTML templates; every text is escaped."""
    return _TEMPLATES.get_template(template).render(**values)


def data_uri(content: bytes, kind: str = "png") -> str:
    """Return a picture's file, of a kind such as "png", as a URI that holds the picture itself."""
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()


def embedded(picture: Image.Image) -> str:
    """Return a picture as a URI that holds it."""
    return data_uri(pictures.to_png(picture, is_quick=True))
