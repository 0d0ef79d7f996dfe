"""Where results lie: local folders and `gs://` behind the same calls, complete when their manifest is there.

Open `places.py` first (read, write, deliver), then `artifacts.py` (the manifest) and `result_folder.py` (how a result
takes its place). The champion and its history are `champion.py`. Imports runtime and config.
"""
