"""RoIAlign on a pyramid by the runtime's RoiAlign, each box on its own level (FPN, Eq. 1)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maskrcnn.config import RoIAlignConfig
from maskrcnn.export.boxes import area
from maskrcnn.export.fpn import FIRST_LEVEL
from maskrcnn.export.graph import Graph, Value
from maskrcnn.ops.roi_align import CANONICAL_LEVEL, CANONICAL_SIZE

POOLED_LEVELS = 4  # P2..P5; P6 serves the RPN only


class RoIs(NamedTuple):
    """Boxes of all images of a batch."""

    boxes: Value  # [K, 4] px
    images: Value  # int64 [K], each box's image


class Pooled(NamedTuple):
    """Features of RoIs, level by level. What is computed from them goes back into the RoIs' order by `in_order`."""

    features: Value  # [K, channels, P, P]
    order: Value | None  # int64 [K], the RoI of each row; None is the RoIs' order

    def in_order(self, graph: Graph, values: Value) -> Value:
        """Rows [K, ...] computed from the features, in the order of the RoIs."""
        if self.order is None:
            return values
        _, inverse = graph.node("TopK", [self.order, graph("Shape", self.order)], 2, axis=0, largest=0)
        return graph("Gather", values, inverse, axis=0)


def roi_align(graph: Graph, pyramid: Sequence[Value], rois: RoIs, output_size: int, config: RoIAlignConfig) -> Pooled:
    """Pools each RoI from its level.

    Only the RoIs of a level are computed on it, unless the graph is static: then all are, four times the work.
    """
    levels = assign_levels(graph, rois.boxes)
    features, orders = [], []
    for index, level in enumerate(pyramid[:POOLED_LEVELS]):
        is_here = graph("Equal", levels, np.float32(FIRST_LEVEL + index))
        if graph.static:
            pooled = _pool(graph, (level, index), rois, output_size, config)
            features.append(graph("Where", graph.unsqueeze(is_here, 1, 2, 3), pooled, 0.0))
            continue
        chosen = graph.reshape(graph("NonZero", is_here), -1)
        rows = RoIs(*(graph("Gather", values, chosen, axis=0) for values in rois))
        features.append(_pool(graph, (level, index), rows, output_size, config))
        orders.append(chosen)
    if graph.static:
        return Pooled(graph("Sum", *features), None)
    return Pooled(graph("Concat", *features, axis=0), graph("Concat", *orders, axis=0))


def _pool(graph: Graph, level: tuple[Value, int], rois: RoIs, output_size: int, config: RoIAlignConfig) -> Value:
    features, index = level
    return graph(
        "RoiAlign",
        features,
        *rois,
        output_height=output_size,
        output_width=output_size,
        sampling_ratio=config.sampling_ratio,
        spatial_scale=0.5 ** (FIRST_LEVEL + index),
        coordinate_transformation_mode="half_pixel" if config.aligned else "output_half_pixel",
    )


def assign_levels(graph: Graph, boxes: Value) -> Value:
    """Pyramid level of each box [K, 4], float32 [K]: floor(k0 + log2(sqrt(wh) / 224)), Eq. 1 of FPN."""
    side = graph("Sqrt", graph("Max", area(graph, boxes), 1e-12))
    level = graph("Log", side / CANONICAL_SIZE) / math.log(2) + float(CANONICAL_LEVEL)
    level = graph("Floor", level + 1e-6)
    return graph("Clip", level, float(FIRST_LEVEL), float(FIRST_LEVEL + POOLED_LEVELS - 1))
