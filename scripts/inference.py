"""Predicts pictures or the val split; flags that are not listed go to ``maskrcnn infer``."""

import sys

from maskrcnn.cli.scripts import main

if __name__ == "__main__":
    sys.exit(main("infer"))
