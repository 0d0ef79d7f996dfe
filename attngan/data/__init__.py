"""From pictures and captions to batches: sources are read, cleaned and written as a dataset, which trainings read.

Open `dataset.py` first for what trainings read, `captions.py` for how a caption becomes ids, and `sources/` for how
people's folders are read. Imports storage and all below.
"""
