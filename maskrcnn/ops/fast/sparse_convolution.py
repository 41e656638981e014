"""Convolutions at a few locations of a feature pyramid, instead of all of them.

The RPN's losses need its outputs at the 256 sampled anchors of an image only. Computed once more there, they let the
dense pass over 280,000 anchors go without a gradient: its backward pass, 110 of the 830 GMAC of a training step at
832x1344, is 13 % of the step (docs/performance.md). Losses and gradients are those of the dense pass but for rounding.

Legend: B images, L levels of H x W locations, K locations, C channels in, D channels out.
"""

from collections.abc import Sequence

from keras import ops

from maskrcnn.ops.indexing import flatten_pyramid, gather_rows
from maskrcnn.ops.typing import Bool, Float, Int, Tensor

Pyramid = Sequence[Float[Tensor, "B H W C"]]


def convolve_at(
    pyramid: Pyramid,
    locations: Int[Tensor, "B K"],
    layers: Sequence[tuple[Float[Tensor, "3 3 C D"], Float[Tensor, " D"]]],
) -> Float[Tensor, "B K D"]:
    """The outputs of a stack of 3x3 convolutions with ReLU at single locations.

    Args:
        pyramid: the inputs of the stack on each level.
        locations: indices into the locations of all levels, by level, row, column.
        layers: kernel and bias of each convolution, of stride 1 and zero padding.
    """
    margin = len(layers)  # locations around one that its outputs depend on
    patches, inside = gather_patches(pyramid, locations, side=2 * margin + 1)
    x = ops.reshape(patches, (-1, *patches.shape[2:]))
    inside = ops.reshape(inside, (-1, *inside.shape[2:], 1))
    for kernel, bias in layers:
        x = ops.where(inside, x, ops.zeros_like(x))  # the zero padding, of each layer anew
        x = ops.conv(ops.cast(x, kernel.dtype), kernel, 1, "valid", data_format="channels_last")
        x = ops.relu(ops.add(x, bias))
        inside = inside[:, 1:-1, 1:-1]
    return ops.reshape(x, (ops.shape(locations)[0], locations.shape[1], x.shape[-1]))


def gather_patches(
    pyramid: Pyramid, locations: Int[Tensor, "B K"], *, side: int
) -> tuple[Float[Tensor, "B K side side C"], Bool[Tensor, "B K side side"]]:
    """The ``side`` x ``side`` locations around given ones, from the level on which each lies.

    ``side`` is odd. Returns features, and which of them are on the map: the others are those of the nearest location.
    """
    table = flatten_pyramid(pyramid)
    locations = ops.cast(locations, "int32")
    level = ops.sum(ops.cast(locations[..., None] >= table.offsets[1:], "int32"), axis=-1)  # [B, K]
    offset, height, width = (ops.take(sizes, level)[..., None, None] for sizes in table[1:])  # [B, K, 1, 1]
    local = locations[..., None, None] - offset
    steps = ops.arange(side, dtype="int32") - side // 2
    rows, columns = local // width + steps[:, None], local % width + steps  # [B, K, side, 1], [B, K, 1, side]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    indices = offset + ops.clip(rows, 0, height - 1) * width + ops.clip(columns, 0, width - 1)
    batch, count = ops.shape(indices)[0], locations.shape[1]
    patches = gather_rows(table.features, ops.reshape(indices, (batch, -1)))
    return ops.reshape(patches, (batch, count, side, side, pyramid[0].shape[-1])), inside
