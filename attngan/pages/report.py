"""Figures and pictures -> one self-contained HTML file, which opens without network and in a sandboxed frame."""

import base64
import io
from collections.abc import Sequence
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

COLUMNS = 4  # panels side by side
PANEL = (4.2, 2.8)  # inches, with its margins


def render(template: str, **values: Any) -> str:
    """Fill one of attngan's HTML templates; every text is escaped."""
    return _TEMPLATES.get_template(template).render(**values)


def data_uri(png: bytes) -> str:
    """Return a PNG as a URI that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def embedded(picture: Image.Image) -> str:
    """Return a picture as a URI that holds it."""
    return data_uri(pictures.to_png(picture))


def curves(rows: Sequence[dict[str, float]], panels: dict[str, Sequence[str]]) -> bytes:
    """Plot figures over steps and return the PNG.

    Args:
        rows: as `RunLog.rows`, each with "step".
        panels: title -> names of the figures drawn in that panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(panels), COLUMNS)
    num_rows = -(-len(panels) // columns)
    width, height = PANEL[0] * columns, PANEL[1] * num_rows
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    # Margins in inches. To let matplotlib find them takes as long as all the rest, at every snapshot.
    figure.subplots_adjust(
        left=0.6 / width, right=1 - 0.15 / width, bottom=0.5 / height, top=1 - 0.35 / height, wspace=0.22, hspace=0.4
    )
    every_axes = figure.subplots(num_rows, columns, squeeze=False).flatten()
    for axes in every_axes[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, names) in zip(every_axes, panels.items(), strict=False):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True) if points else ([], []), label=name, linewidth=1.2)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
