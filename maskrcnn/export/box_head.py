"""Class and refined box of each proposal, and the detections among them (Fast R-CNN; FPN, Sec. 4.2)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrcnn.config import BoxHeadConfig
from maskrcnn.export.boxes import clip, decode, is_larger
from maskrcnn.export.folding import FoldedWeights, convolution
from maskrcnn.export.graph import Graph, Value
from maskrcnn.export.nms import Suppression, suppress
from maskrcnn.export.roi_align import Pooled
from maskrcnn.export.rpn import Proposals


class Detections(NamedTuple):
    """Classified and refined boxes in descending order of score, padding last."""

    boxes: Value  # [B, D, 4]
    classes: Value  # int64 [B, D], 0 in padding
    scores: Value  # [B, D], 0 in padding
    valid: Value  # bool [B, D]


def box_head(
    graph: Graph, weights: FoldedWeights, pooled: Pooled, config: BoxHeadConfig, num_rois: int
) -> tuple[Value, Value]:
    """Class logits [B, N, C] and deltas [B, N, C, 4] of N RoIs an image."""
    x = pooled.features
    for number in range(1, weights.count("box_head/conv{}") + 1):
        x = convolution(graph, weights, x, f"box_head/conv{number}", relu=True)
    x = graph("Flatten", x)
    for number in range(1, weights.count("box_head/dense{}") + 1):
        kernel, bias = weights.dense(f"box_head/dense{number}")
        if number == 1:
            kernel = _channels_first(kernel, config.pool_size)
        x = graph("Relu", graph("Gemm", x, kernel, bias, name=f"box_head/dense{number}"))
    logits, deltas = (
        pooled.in_order(graph, graph("Gemm", x, *weights.dense(layer), name=layer))
        for layer in ("box_head/classes", "box_head/deltas")
    )
    num_classes = weights.num_classes
    return graph.reshape(logits, -1, num_rois, num_classes), graph.reshape(deltas, -1, num_rois, num_classes, 4)


def _channels_first(kernel: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Rows of a kernel [P P channels, out] that go by row, column, channel, as channel, row, column."""
    rows = kernel.reshape(side, side, -1, kernel.shape[1])
    return np.ascontiguousarray(rows.transpose(2, 0, 1, 3)).reshape(kernel.shape)


def detect(
    graph: Graph,
    outputs: tuple[Value, Value],
    proposals: Proposals,
    image_sizes: Value,
    config: BoxHeadConfig,
    num_classes: int,
) -> Detections:
    """Boxes above the score threshold after suppression within each class; Mask R-CNN, Sec. 3.1.

    Args:
        graph: gets the nodes.
        outputs: class logits and deltas of the proposals.
        proposals: the RoIs.
        image_sizes: [B, 2] height and width in px, to which boxes are clipped.
        config: of the box head.
        num_classes: C, with the background.
    """
    logits, deltas = outputs
    foreground, pairs = num_classes - 1, proposals.count * (num_classes - 1)
    candidates = min(config.test_candidates, pairs)
    scores = _without_background(graph, graph("Softmax", logits, axis=-1))  # [B, N, C - 1]
    scores = graph.reshape(graph("Where", graph.unsqueeze(proposals.valid, -1), scores, 0.0), -1, pairs)
    scores, order = graph.node("TopK", [scores, np.array([candidates])], 2, axis=1)  # [B, K]
    row, classes = order // np.int64(foreground), order % np.int64(foreground) + np.int64(1)

    deltas = graph.reshape(_without_background(graph, deltas), -1, pairs, 4)
    regions = graph.take_rows(proposals.boxes, row)
    boxes = decode(graph, graph.take_rows(deltas, order), regions, config.delta_weights)
    boxes = clip(graph, boxes, image_sizes)  # [B, K, 4]

    valid = (scores > config.score_threshold) & is_larger(graph, boxes, config.min_size)
    count = min(config.detections, candidates)
    settings = Suppression(config.nms_iou, candidates, count, num_classes)
    ranks = suppress(graph, boxes, valid, settings, classes)
    ranks = graph("Pad", ranks, np.array([0, 0, 0, config.detections - count], np.int64))
    ranks, keep = graph.node("TopK", [ranks, np.array([config.detections])], 2, axis=1)  # [B, D]
    keep = graph("Min", keep, np.int64(candidates - 1))
    valid = ranks > 0.0
    return Detections(
        boxes=graph("Where", graph.unsqueeze(valid, -1), graph.take_rows(boxes, keep), 0.0),
        classes=graph("Where", valid, graph.take_rows(classes, keep), np.int64(0)),
        scores=graph("Where", valid, graph.take_rows(scores, keep), 0.0),
        valid=valid,
    )


def _without_background(graph: Graph, values: Value) -> Value:
    """Classes 1, 2, .. along axis 2."""
    return graph("Slice", values, np.array([1]), np.array([np.iinfo(np.int64).max]), np.array([2]))
