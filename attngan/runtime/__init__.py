"""What a process needs of its machine: device, memory, console, exit status, other processes beside it.

Open `acceleration.py` for what makes a device fast, `distributed.py` for several processes that train together,
`exit_status.py` for what a command tells the shell. Knows no network and no result. Imports config.
"""
