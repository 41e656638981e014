"""Trains, then evaluates; other flags are passed on to ``maskrcnn train``."""

import sys

from maskrcnn.cli.reference_scripts import main

if __name__ == "__main__":
    sys.exit(main("train"))
