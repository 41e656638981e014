"""The command line: each command parses flags, builds a config, calls one library function and prints.

Nothing here imports Keras before the backend is chosen, so that ``--help`` is instant.
"""

from maskrcnn.cli.entry_point import main

__all__ = ["main"]
