"""Reads TensorFlow checkpoints, such as NVIDIA's ResNet-50, with TensorFlow's own reader."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError, first_line
from maskrcnn.runtime.backend import import_tensorflow

INDEX = ".index"  # beside the data files; a checkpoint is named by what comes before


def checkpoint_prefix(path: Path) -> Path | None:
    """The name under which TensorFlow knows a checkpoint (the files' common prefix); None if there is none."""
    prefix = path.with_suffix("") if path.suffix == INDEX else path
    return prefix if prefix.with_name(prefix.name + INDEX).is_file() else None


def read_tensorflow(prefix: Path) -> dict[str, NDArray[Any]]:
    """Reads the floating-point tensors of a checkpoint by name; steps and strings are not part of a model.

    Raises:
        UserError: damaged or incomplete files.
    """
    tf = import_tensorflow()
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        types = reader.get_variable_to_dtype_map()
        names = sorted(name for name, dtype in types.items() if dtype.is_floating)
        return {name: np.asarray(reader.get_tensor(name), np.float32) for name in names}
    except (tf.errors.OpError, RuntimeError) as error:
        raise UserError(
            f"{prefix}: a damaged or incomplete TensorFlow checkpoint ({first_line(error)}); "
            "copy both its .index and .data files"
        ) from error
