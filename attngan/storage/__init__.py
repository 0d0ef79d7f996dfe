"""Where results lie: local folders and cloud storage behind the same calls, complete when their manifest is there.

Open `places.py` first (read, write, copy), then `artifacts.py` (the manifest), `result_folder.py` (how a result takes
its place) and `delivery.py` (how it gets to a cloud). The champion and its history are `champion.py`; what a run on a
cluster left is `step_logs.py` and `run_ending.py`. Imports runtime and config.
"""
