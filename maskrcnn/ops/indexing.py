"""Gathering and scattering rows by index, with static sizes; a feature pyramid as one table of rows."""

from collections.abc import Sequence
from typing import NamedTuple

from keras import ops

from maskrcnn.ops.typing import Bool, Float, Int, Size, Tensor
from maskrcnn.runtime import backend


class FlatPyramid(NamedTuple):
    """The S locations of L feature maps in one table, ordered by level, row, column."""

    features: Float[Tensor, "B S C"]
    offsets: Int[Tensor, " L"]  # each level's first location
    heights: Int[Tensor, " L"]
    widths: Int[Tensor, " L"]


def flatten_pyramid(features: Sequence[Float[Tensor, "B H W C"]]) -> FlatPyramid:
    """Joins feature maps of different sizes into one table."""
    heights, widths = zip(*(ops.shape(feature)[1:3] for feature in features), strict=True)
    offsets = [0]
    for height, width in zip(heights[:-1], widths[:-1], strict=True):
        offsets.append(offsets[-1] + height * width)
    flat = [ops.reshape(feature, (ops.shape(feature)[0], -1, feature.shape[-1])) for feature in features]
    return FlatPyramid(ops.concatenate(flat, axis=1), _integers(offsets), _integers(heights), _integers(widths))


def _integers(values: Sequence[Size]) -> Int[Tensor, " L"]:
    return ops.stack([ops.cast(value, "int32") for value in values])


def gather_rows(table: Float[Tensor, "B S C"], indices: Int[Tensor, "B K"]) -> Float[Tensor, "B K C"]:
    """Rows of each image's table. Indices must lie in [0, S)."""
    if backend.active_backend() == "jax":
        # A gather with a batch dimension, which stays on its device when the batch is sharded; a flat one does not.
        return ops.vectorized_map(lambda row: ops.take(row[0], row[1], axis=0), (table, indices))
    batch, size, channels = ops.shape(table)
    return ops.take(ops.reshape(table, (batch * size, channels)), _flat_indices(indices, size), axis=0)


def add_rows(
    table: Float[Tensor, "B S C"], indices: Int[Tensor, "B K"], rows: Float[Tensor, "B K C"]
) -> Float[Tensor, "B S C"]:
    """The transpose of ``gather_rows``: the table with each row added at its index."""
    if backend.active_backend() == "jax":
        return ops.vectorized_map(
            lambda one: ops.scatter_update(one[0], one[1][:, None], one[2], reduction="add"), (table, indices, rows)
        )
    batch, size, channels = ops.shape(table)
    flat = ops.reshape(table, (batch * size, channels))
    indices = ops.reshape(_flat_indices(indices, size), (-1, 1))
    flat = ops.scatter_update(flat, indices, ops.reshape(rows, (-1, channels)), reduction="add")
    return ops.reshape(flat, (batch, size, channels))


def _flat_indices(indices: Int[Tensor, "B K"], size: Size) -> Int[Tensor, "B K"]:
    """Indices into the table of all images from indices into each image's own: image b's begins at b * size."""
    first = ops.cast(ops.arange(ops.shape(indices)[0], dtype="int32") * size, indices.dtype)
    return indices + ops.expand_dims(first, 1)


def top_positive(keys: Float[Tensor, "... N"], count: int) -> tuple[Int[Tensor, "... K"], Bool[Tensor, "... K"]]:
    """Indices of the K = ``count`` largest positive keys in descending order, ties by lower index, and which are valid.

    N may be smaller than ``count`` or unknown. Where no positive key is left the index is 0, and not valid.
    """
    if keys.shape[-1] is None or keys.shape[-1] < count:
        keys = ops.pad(keys, [(0, 0)] * (len(keys.shape) - 1) + [(0, count)])
    values, indices = ops.top_k(keys, count)
    found = values > 0
    return ops.where(found, ops.cast(indices, "int32"), 0), found
