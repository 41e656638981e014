"""Proposals from a pyramid (Faster R-CNN, Sec. 3.1)."""

from typing import NamedTuple

import numpy as np

from maskrcnn.config import AnchorConfig, RPNConfig
from maskrcnn.export.boxes import clip, decode, is_larger
from maskrcnn.export.folding import FoldedWeights, convolution
from maskrcnn.export.fpn import FIRST_LEVEL
from maskrcnn.export.graph import Graph, Value
from maskrcnn.export.nms import Suppression, suppress
from maskrcnn.ops.anchors import base_anchors


class Proposals(NamedTuple):
    """The boxes most likely to hold an object, in descending order of score."""

    boxes: Value  # [B, N, 4]
    valid: Value  # bool [B, N]
    count: int  # N


def propose(
    graph: Graph,
    weights: FoldedWeights,
    pyramid: list[Value],
    image_sizes: Value,
    config: tuple[RPNConfig, AnchorConfig],
) -> Proposals:
    """The best boxes of [P2, .., P6] after suppression within each level; FPN, Sec. 4.1."""
    settings, anchors = config
    levels, candidates = len(pyramid), settings.test_candidates
    best = [
        _best_of_level(graph, rpn_head(graph, weights, features), features, anchors, level, candidates)
        for level, features in enumerate(pyramid)
    ]
    logits = graph("Concat", *(logits for logits, _ in best), axis=1)  # [B, LK]
    boxes = clip(graph, graph("Concat", *(boxes for _, boxes in best), axis=1), image_sizes)  # [B, LK, 4]
    valid = is_larger(graph, boxes, settings.min_size) & (logits > float(np.finfo(np.float32).min))

    count = min(settings.test_proposals, candidates * levels)
    ranks = suppress(
        graph,
        graph.reshape(boxes, -1, candidates, 4),
        graph.reshape(valid, -1, candidates),
        Suppression(settings.nms_iou, candidates, min(candidates, count)),
    )
    survives = graph.reshape(ranks, -1, candidates * levels) > 0.0
    scores = graph("Where", survives, graph("Sigmoid", logits), -1.0)
    scores, order = graph.node("TopK", [scores, np.array([count])], 2, axis=1)  # [B, N]
    valid = scores >= 0.0
    boxes = graph("Where", graph.unsqueeze(valid, -1), graph.take_rows(boxes, order), 0.0)
    return Proposals(boxes, valid, count)


def rpn_head(graph: Graph, weights: FoldedWeights, features: Value) -> tuple[Value, Value]:
    """Objectness logits [B, A] and deltas [B, A, 4] of one level's anchors, by row, column, aspect ratio."""
    for number in range(1, weights.count("rpn/conv{}") + 1):
        features = convolution(graph, weights, features, f"rpn/conv{number}", relu=True)
    objectness, deltas = (
        graph("Transpose", convolution(graph, weights, features, f"rpn/{name}"), perm=[0, 2, 3, 1])
        for name in ("objectness", "deltas")
    )
    return graph.reshape(objectness, 0, -1), graph.reshape(deltas, 0, -1, 4)


def _best_of_level(
    graph: Graph, outputs: tuple[Value, Value], features: Value, anchors: AnchorConfig, level: int, candidates: int
) -> tuple[Value, Value]:
    """The K best logits [B, K] of a level and their decoded boxes [B, K, 4]; missing ones have -inf."""
    logits, deltas = outputs
    pads = np.array([0, 0, 0, candidates], np.int64)  # the level may have fewer anchors
    padded = graph("Pad", logits, pads, np.float32(-np.inf))
    best, order = graph.node("TopK", [padded, np.array([candidates])], 2, axis=1)
    order = graph("Min", order, graph.size(logits, 1) - np.int64(1))

    base = base_anchors(anchors.sizes[level], anchors.aspect_ratios, rounded=anchors.rounded)  # [R, 4]
    ratios = np.int64(len(base))
    location, columns = order // ratios, graph.size(features, 3)
    row, column = location // columns, location % columns
    center = graph("Concat", *(graph.unsqueeze(axis, -1) for axis in (column, row, column, row)), axis=-1)
    stride = np.float32(2 ** (FIRST_LEVEL + level))
    boxes = graph.cast(center, np.float32) * stride + graph("Gather", base, order % ratios, axis=0)  # [B, K, 4]
    return best, decode(graph, graph.take_rows(deltas, order), boxes)
