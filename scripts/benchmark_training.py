"""Measures training steps; other flags are passed on to ``maskrcnn benchmark training``."""

import sys

from maskrcnn.cli.reference_scripts import main

if __name__ == "__main__":
    sys.exit(main("benchmark training"))
