"""Drawn birds with captions: a set of any size without a download, whose right answers are known.

Open `drawn_birds.py` first.
"""
