"""Evaluates on the val split; flags that are not listed go to ``maskrcnn eval``."""

import sys

from maskrcnn.cli.scripts import main

if __name__ == "__main__":
    sys.exit(main("eval"))
