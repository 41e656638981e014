"""Measures inference, part by part; flags that are not listed go to ``maskrcnn benchmark inference``."""

import sys

from maskrcnn.cli.scripts import main

if __name__ == "__main__":
    sys.exit(main("benchmark inference"))
