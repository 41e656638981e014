"""What an exported file tells about its model."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn import __version__
from maskrcnn.config import Config


def describe(config: Config, weights: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """What a file tells about its model."""
    image = config.model.image
    resize = (
        f"bilinear without antialiasing, shorter side to {image.min_side} px, longer side at most {image.max_side} px; "
        "zeros on the right and at the bottom up to multiples of 32"
    )
    return {
        "version": __version__,
        "config": config.to_json(),
        "class_names": json.dumps({category.index: category.name for category in config.categories}),
        "resize": resize,
        "weights_sha256": hash_weights(weights),
        "precision": "float32",
    }


def hash_weights(weights: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of all names and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name], np.float32).tobytes())
    return digest.hexdigest()
