"""The command line: `commands.py` has a paragraph for each command, `options.py` what they share.

It may import every room.
"""

from attngan.cli.commands import app, main
from attngan.cli.options import INPUT, OUTPUT

__all__ = ["INPUT", "OUTPUT", "app", "main"]
