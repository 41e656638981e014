"""Picking rows by index, with static sizes."""

from typing import Any

import keras
from keras import ops


def gather_rows(table: Any, indices: Any) -> Any:
    """Rows of each image's table: [B, S, C], int [B, K] -> [B, K, C]. Indices must lie in [0, S)."""
    if keras.backend.backend() == "jax":
        # A gather with a batch dimension, which stays on its device when the batch is sharded; a flat one does not.
        return ops.vectorized_map(lambda row: ops.take(row[0], row[1], axis=0), (table, indices))
    batch, size, channels = ops.shape(table)
    first = ops.cast(ops.arange(batch, dtype="int32") * size, indices.dtype)
    flat = ops.reshape(table, (batch * size, channels))
    return ops.take(flat, indices + ops.expand_dims(first, 1), axis=0)


def top_positive(keys: Any, count: int) -> tuple[Any, Any]:
    """The ``count`` largest positive keys along the last axis, in falling order, ties by lower index first.

    Args:
        keys: float [..., N]; N may be smaller than ``count`` or unknown.

    Returns:
        Indices int32 [..., count] (0 in slots without a positive key), and whether each slot has one.
    """
    if keys.shape[-1] is None or keys.shape[-1] < count:
        keys = ops.pad(keys, [(0, 0)] * (len(keys.shape) - 1) + [(0, count)])
    values, indices = ops.top_k(keys, count)
    found = values > 0
    return ops.where(found, ops.cast(indices, "int32"), 0), found
