"""Trains, then evaluates; flags that are not listed go to ``maskrcnn train``."""

import sys

from maskrcnn.cli.scripts import main

if __name__ == "__main__":
    sys.exit(main("train"))
