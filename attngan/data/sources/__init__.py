"""Readers of pictures and captions as people have them: CUB's layout, folders, archives.

A reader returns a `records.Source`. A new layout is a new file here, chosen in `steps/preprocess.py`.
"""
