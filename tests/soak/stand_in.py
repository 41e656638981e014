"""The program `maskrcnn` with a model that costs nothing, for many runs of all that is around a model.

KERAS_BACKEND=jax python -m tests.soak.stand_in train --data_dir DATA --model_dir MODEL
"""

import importlib
import sys


def put_in_place() -> None:
    """Makes the commands of this process build and load `StandIn`; the backend must be chosen."""
    from tests.stand_in import StandIn

    for module in ("maskrcnn.training.model_setup", "maskrcnn.weights.model_folder"):
        importlib.import_module(module).MaskRCNN = StandIn


if __name__ == "__main__":
    from maskrcnn.cli.entry_point import main

    put_in_place()
    sys.exit(main())
