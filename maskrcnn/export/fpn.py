"""The top-down pathway: C2..C5 to P2..P6 (FPN, Fig. 3)."""

import numpy as np

from maskrcnn.export.folding import FoldedWeights, convolution
from maskrcnn.export.graph import Graph, Value

FIRST_LEVEL = 2


def fpn(graph: Graph, weights: FoldedWeights, features: list[Value]) -> list[Value]:
    """[C2, .., C5] -> [P2, .., P6], each [B, channels, H / 2^l, W / 2^l]."""
    merged = [convolution(graph, weights, c, f"fpn/lateral{level}") for level, c in enumerate(features, FIRST_LEVEL)]
    for level in reversed(range(len(merged) - 1)):
        merged[level] = merged[level] + _double(graph, merged[level + 1])
    pyramid = [convolution(graph, weights, m, f"fpn/output{level}") for level, m in enumerate(merged, FIRST_LEVEL)]
    return [*pyramid, graph("MaxPool", pyramid[-1], kernel_shape=[1, 1], strides=[2, 2])]


def _double(graph: Graph, x: Value) -> Value:
    """Doubles height and width by nearest neighbor."""
    return graph(
        "Resize",
        x,
        np.zeros(0, np.float32),
        np.array([1, 1, 2, 2], np.float32),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
