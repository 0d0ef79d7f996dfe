"""How good pictures are, and how good the measures: features, sets of pictures, metrics with intervals and controls.

Open `measures.py` first; the mathematics is in `attngan.metrics`. Imports inference and all below.
"""
