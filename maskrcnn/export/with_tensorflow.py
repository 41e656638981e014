"""Writers that trace the live model, under either backend: TensorFlow does it, from the same weights."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.runtime.backend import active_backend
from maskrcnn.weights.model_folder import load_model, save_model

if TYPE_CHECKING:
    from maskrcnn.model import MaskRCNN

Writer = Callable[..., None]  # a module's function of the model, its config, the path and plain JSON


def write_with_tensorflow(writer: Writer, model: "MaskRCNN", config: Config, path: Path, *arguments: Any) -> None:
    """Calls a writer, under JAX in a process with the TensorFlow backend.

    Raises:
        UserError: that process failed.
    """
    if active_backend() == "tensorflow":
        writer(model, config, path, *arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, config, folder)
        command = [sys.executable, "-m", __name__, writer.__module__, writer.__name__, folder, str(path.absolute())]
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        result = subprocess.run(
            [*command, json.dumps(arguments)], env=environment, capture_output=True, text=True, check=False
        )
    if result.returncode:
        raise UserError(f"{path}: TensorFlow could not write it ({(result.stderr.strip() or '?').splitlines()[-1]})")


if __name__ == "__main__":
    module, name, folder, path, arguments = sys.argv[1:]
    getattr(importlib.import_module(module), name)(*load_model(folder), Path(path), *json.loads(arguments))
