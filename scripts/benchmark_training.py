"""Measures training steps; flags that are not listed go to ``maskrcnn benchmark training``."""

import sys

from maskrcnn.cli.scripts import main

if __name__ == "__main__":
    sys.exit(main("benchmark training"))
