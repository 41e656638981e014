"""Picking rows by index, with static sizes."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from maskrcnn import backend


def gather_rows(table: Any, indices: Any) -> Any:
    """Rows of each image's table: [B, S, C], int [B, K] -> [B, K, C]. Indices must lie in [0, S)."""
    if backend.active_backend() == "jax":
        # A gather with a batch dimension, which stays on its device when the batch is sharded; a flat one does not.
        return ops.vectorized_map(lambda row: ops.take(row[0], row[1], axis=0), (table, indices))
    batch, size, channels = ops.shape(table)
    return ops.take(ops.reshape(table, (batch * size, channels)), _flat_indices(indices, size), axis=0)


def add_rows(table: Any, indices: Any, rows: Any) -> Any:
    """The transpose of ``gather_rows``: [B, S, C] with rows [B, K, C] added to those at indices int [B, K]."""
    if backend.active_backend() == "jax":
        return ops.vectorized_map(
            lambda one: ops.scatter_update(one[0], one[1][:, None], one[2], reduction="add"), (table, indices, rows)
        )
    batch, size, channels = ops.shape(table)
    flat = ops.reshape(table, (batch * size, channels))
    indices = ops.reshape(_flat_indices(indices, size), (-1, 1))
    flat = ops.scatter_update(flat, indices, ops.reshape(rows, (-1, channels)), reduction="add")
    return ops.reshape(flat, (batch, size, channels))


def _flat_indices(indices: Any, size: int) -> Any:
    """Of rows of each image's table, int [B, K], those in the table of all: image b's begins at b * size."""
    first = ops.cast(ops.arange(ops.shape(indices)[0], dtype="int32") * size, indices.dtype)
    return indices + ops.expand_dims(first, 1)


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
    """``function(n)`` for the smallest n of ``sizes`` whose first slots hold all filled ones; only that one is run.

    Slots are padded to a fixed number, but work on empty ones is wasted. Each size is compiled, so let them be few.

    Args:
        function: of the number of slots; its results have the same shape for every number.
        filled: bool [B, N].
        sizes: rising; the last covers all slots.
    """
    if len(sizes) == 1:
        return function(sizes[0])
    slots = ops.arange(1, filled.shape[-1] + 1, dtype="int32")
    needed = ops.max(ops.where(filled, slots, 0))
    index = sum(ops.cast(needed > size, "int32") for size in sizes[:-1])
    return ops.switch(index, [functools.partial(function, size) for size in sizes])
