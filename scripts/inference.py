"""Predicts images or the val split; other flags are passed on to ``maskrcnn infer``."""

import sys

from maskrcnn.cli.reference_scripts import main

if __name__ == "__main__":
    sys.exit(main("infer"))
