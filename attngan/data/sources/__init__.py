"""Readers of pictures and captions as people have them: CUB's layout, lists of many kinds, text files, archives.

Open `layouts.py` first: it chooses the reader, which returns a `records.Source`. A new layout is a new file here and a
line there.
"""
