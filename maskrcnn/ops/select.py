"""Picking rows by index, with static sizes."""

import functools
from collections.abc import Callable, Sequence
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


def on_filled_slots(function: Callable[[int], Any], filled: Any, sizes: Sequence[int]) -> Any:
    """``function(n)`` for the smallest n of ``sizes`` that covers every filled slot; only that one is run.

    Slots are padded to a fixed number, but work on empty ones is wasted. Each size is compiled, so let them be few.

    Args:
        function: of the number of slots; its results have the same shape for every number.
        filled: bool [B, N], the filled slots of each image first.
        sizes: rising; the last covers all slots.
    """
    needed = ops.max(ops.sum(ops.cast(filled, "int32"), axis=-1))
    index = sum(ops.cast(needed > size, "int32") for size in sizes[:-1])
    return ops.switch(index, [functools.partial(function, size) for size in sizes])
