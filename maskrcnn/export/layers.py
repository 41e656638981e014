"""Convolutions with their batch norm and activation."""

from maskrcnn.export.folding import FoldedWeights
from maskrcnn.export.graph import Graph, Value


def convolution(
    graph: Graph, weights: FoldedWeights, x: Value, layer: str, *, strides: int = 1, relu: bool = False
) -> Value:
    """A `ConvNorm`: padded by ``kernel_size // 2`` on all sides, its batch norm folded in; x is [B, C, H, W]."""
    kernel, bias = weights.convolution(layer)
    side = kernel.shape[-1]
    x = graph("Conv", x, kernel, bias, name=layer, strides=[strides] * 2, pads=[side // 2] * 4, kernel_shape=[side] * 2)
    return graph("Relu", x) if relu else x
