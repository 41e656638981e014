"""``python main.py train|eval|infer [flags]``: the same as ``maskrcnn``, with the reference's recipe for training."""

import sys

from maskrcnn.cli import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["train"] and not {"--preset", "--config"} & set(arguments):
        arguments += ["--preset", "reference"]
    sys.exit(main(arguments))
