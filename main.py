"""``python main.py train|eval|infer [flags]``: `maskrcnn` with the flags and default folders of NVIDIA's program."""

import sys

from maskrcnn.cli.reference_scripts import main

if __name__ == "__main__":
    sys.exit(main())
