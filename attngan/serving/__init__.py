"""Drawing for others: a web page, an HTTP interface, and KServe's v2 protocol, in one small server.

Open `server.py` first; all pictures pass the queue of `drawing_queue.py`. Imports inference and pages.
"""
