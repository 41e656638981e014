"""Evaluates on the val split; other flags are passed on to ``maskrcnn eval``."""

import sys

from maskrcnn.cli.reference_scripts import main

if __name__ == "__main__":
    sys.exit(main("eval"))
