"""Downloads NVIDIA's ResNet-50, from which ``scripts/train.py`` starts."""

import sys

from maskrcnn.cli.reference_scripts import download_weights

if __name__ == "__main__":
    sys.exit(download_weights())
