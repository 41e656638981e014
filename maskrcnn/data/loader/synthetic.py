"""Random training batches that need no dataset, for ``--use_synthetic_data`` and benchmarks."""

from typing import TYPE_CHECKING, Any

import numpy as np

from maskrcnn.config import Category, Config
from maskrcnn.data.records.rasterize import MASK_SIZE
from maskrcnn.imaging.canvas import canvas_size

if TYPE_CHECKING:
    import tensorflow as tf

SYNTHETIC_CATEGORIES = tuple(Category(i, i, f"class {i}") for i in range(1, 81))  # as many as COCO has
DISTINCT_BATCHES = 4  # then they repeat: the loader must cost nothing
MAX_INSTANCES = 100  # unless the config says; as many as COCO needs
OBJECTS = 20  # at most; a COCO image has 7 on average


def synthetic_dataset(config: Config, *, batch_size: int, seed: int = 0) -> "tf.data.Dataset":
    """Endless batches of noise with elliptic objects on the landscape canvas."""
    import tensorflow as tf  # here, as `synthetic_batch` needs none

    rng = np.random.default_rng(seed)
    batches = [synthetic_batch(config, batch_size, rng) for _ in range(DISTINCT_BATCHES)]
    stacked: Any = {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}
    return tf.data.Dataset.from_tensor_slices(stacked).repeat().prefetch(tf.data.AUTOTUNE)


def synthetic_batch(config: Config, batch_size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One training batch."""
    height, width = canvas_size(1, 2, config.model.image)
    slots = config.data.max_instances or MAX_INSTANCES
    valid = np.arange(slots) < rng.integers(1, min(OBJECTS, slots) + 1, (batch_size, 1))  # [B, G]
    sides = np.exp(rng.uniform(np.log(0.03), np.log(0.6), (batch_size, slots, 2)))
    corners = rng.uniform(0, 1 - sides)
    boxes = np.concatenate([corners, corners + sides], axis=-1) * [width, height, width, height]
    boxes = (boxes * valid[..., None]).astype(np.float32)
    offset = (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE * 2 - 1
    ellipse = (offset[:, None] ** 2 + offset**2 <= 1).astype(np.uint8)
    return {
        "images": rng.integers(0, 256, (batch_size, height, width, 3), np.uint8),
        "image_sizes": np.tile(np.array([height, width], np.float32), (batch_size, 1)),
        "boxes": boxes,
        "classes": (rng.integers(1, max(config.num_classes, 2), valid.shape) * valid).astype(np.int32),
        "masks": ellipse * valid[..., None, None].astype(np.uint8),
        "mask_regions": boxes,
        "valid": valid,
    }
