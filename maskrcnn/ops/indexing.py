"""Gathering and scattering rows by index, with static sizes; patches of a feature pyramid."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from maskrcnn.runtime import backend


class CellTable(NamedTuple):
    """Cells by level, row, column."""

    cells: Any  # [B, S, C]
    offsets: Any  # int32 [L], each level's first cell
    heights: Any  # int32 [L]
    widths: Any  # int32 [L]


def flatten_pyramid(features: Sequence[Any]) -> CellTable:
    """Maps [B, H_l, W_l, C] as one table."""
    heights, widths = zip(*(ops.shape(feature)[1:3] for feature in features), strict=True)
    offsets = [0]
    for height, width in zip(heights[:-1], widths[:-1], strict=True):
        offsets.append(offsets[-1] + height * width)
    flat = [ops.reshape(feature, (ops.shape(feature)[0], -1, feature.shape[-1])) for feature in features]
    return CellTable(ops.concatenate(flat, axis=1), _integers(offsets), _integers(heights), _integers(widths))


def gather_patches(features: Sequence[Any], positions: Any, *, side: int) -> tuple[Any, Any]:
    """The ``side`` x ``side`` cells around given ones, from the level on which each lies.

    Args:
        features: maps [B, H_l, W_l, C].
        positions: int [B, K] in the table of all cells.
        side: odd.

    Returns:
        [B, K, side, side, C], and which of those cells are on the map, bool [B, K, side, side]; the others hold
        whatever cell is nearest.
    """
    table = flatten_pyramid(features)
    positions = ops.cast(positions, "int32")
    level = ops.sum(ops.cast(positions[..., None] >= table.offsets[1:], "int32"), axis=-1)  # [B, K]
    offset, height, width = (ops.take(sizes, level)[..., None, None] for sizes in table[1:])  # [B, K, 1, 1]
    local = positions[..., None, None] - offset
    steps = ops.arange(side, dtype="int32") - side // 2
    rows, columns = local // width + steps[:, None], local % width + steps  # [B, K, side, 1], [B, K, 1, side]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    indices = offset + ops.clip(rows, 0, height - 1) * width + ops.clip(columns, 0, width - 1)
    batch, count = ops.shape(indices)[0], positions.shape[1]
    patches = gather_rows(table.cells, ops.reshape(indices, (batch, -1)))
    return ops.reshape(patches, (batch, count, side, side, features[0].shape[-1])), inside


def _integers(values: Sequence[Any]) -> Any:
    return ops.stack([ops.cast(value, "int32") for value in values])


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
