"""Box geometry in a graph; boxes are ``xyxy`` in px, see `maskrcnn.ops.boxes`."""

from collections.abc import Sequence

import numpy as np

from maskrcnn.export.graph import Graph, Value
from maskrcnn.ops.boxes import MAX_LOG_SCALE


def decode(graph: Graph, deltas: Value, anchors: Value, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Value:
    """Moves and scales anchors [..., 4] by deltas [..., 4]; R-CNN, Appendix C."""
    shift, scale = _halves(graph, deltas / np.array(weights, np.float32))
    low, high = _halves(graph, anchors)
    sizes = high - low
    centers = shift * sizes + (low + sizes * 0.5)
    half = graph("Exp", graph("Min", scale, MAX_LOG_SCALE)) * 0.5 * sizes
    return graph("Concat", centers - half, centers + half, axis=-1)


def clip(graph: Graph, boxes: Value, image_sizes: Value) -> Value:
    """Moves corners into the image: boxes [B, K, 4], image_sizes [B, 2] as (height, width)."""
    limits = graph.unsqueeze(graph("Gather", image_sizes, np.array([1, 0, 1, 0]), axis=1), 1)  # [B, 1, 4]
    return graph("Min", graph("Max", boxes, 0.0), limits)


def is_larger(graph: Graph, boxes: Value, min_size: float) -> Value:
    """Whether both sides are at least ``min_size`` px: [..., 4] -> bool [...]."""
    low, high = _halves(graph, boxes)
    return graph("ReduceMin", high - low, axes=[-1], keepdims=0) >= min_size


def area(graph: Graph, boxes: Value) -> Value:
    """Area of each box: [..., 4] -> [...]."""
    low, high = _halves(graph, boxes)
    return graph("ReduceProd", high - low, axes=[-1], keepdims=0)


def _halves(graph: Graph, values: Value) -> list[Value]:
    """The first two and the last two of four columns."""
    return graph.node("Split", [values], 2, axis=-1)
