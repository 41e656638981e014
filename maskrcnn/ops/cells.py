"""The cells of all levels of a pyramid in one table, so that one gather reads from any of them.

Legend: B images, L levels, S cells of all levels, K positions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from maskrcnn.ops.select import gather_rows


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
