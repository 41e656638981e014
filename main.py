"""``python main.py train|eval|infer [flags]``: the same as ``maskrcnn train|eval|infer [flags]``."""

import sys

from maskrcnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
