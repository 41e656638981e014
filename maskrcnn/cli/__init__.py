"""The command line: parse, build a config, call one library function, print.

Nothing here imports Keras before the backend is chosen, so that ``--help`` is instant.
"""

from maskrcnn.cli.program import main

__all__ = ["main"]
