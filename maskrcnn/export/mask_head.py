"""Masks of the detections (Mask R-CNN, Sec. 3)."""

import numpy as np

from maskrcnn.config import MaskHeadConfig, RoIAlignConfig
from maskrcnn.export.box_head import Detections
from maskrcnn.export.folding import FoldedWeights, convolution
from maskrcnn.export.graph import Graph, Value
from maskrcnn.export.roi_align import RoIs, roi_align


def masks(
    graph: Graph,
    weights: FoldedWeights,
    pyramid: list[Value],
    detections: Detections,
    config: tuple[MaskHeadConfig, RoIAlignConfig, int],
) -> Value:
    """Mask probabilities of the detections' own classes, [B, D, M, M]; 0 in padding.

    Only valid detections are computed, and an empty box at the start, so that no tensor is ever empty; where the graph
    is static, all are.

    Args:
        graph: gets the nodes.
        weights: of the model.
        pyramid: P2..P6.
        detections: of all images.
        config: of the head and of RoIAlign, and the number of detections D.
    """
    settings, align, slots = config
    side = 2 * settings.pool_size
    if graph.static:
        boxes = graph.reshape(detections.boxes, -1, 4)
        rois = RoIs(boxes, graph.arange(graph.size(boxes, 0)) // np.int64(slots))
        pooled = roi_align(graph, pyramid, rois, settings.pool_size, align)
        logits = mask_head(graph, weights, pooled.features, graph.reshape(detections.classes, -1), side)
        logits = graph.reshape(logits, -1, slots, side, side)
        return graph("Where", graph.unsqueeze(detections.valid, 2, 3), graph("Sigmoid", logits), 0.0)
    valid = graph("Concat", np.array([True]), graph.reshape(detections.valid, -1), axis=0)  # [1 + BD]
    chosen = graph.reshape(graph("NonZero", valid), -1)  # [K], the first is 0
    boxes = graph("Concat", np.zeros((1, 4), np.float32), graph.reshape(detections.boxes, -1, 4), axis=0)
    classes = graph("Concat", np.array([0]), graph.reshape(detections.classes, -1), axis=0)
    images = graph("Max", chosen - np.int64(1), np.int64(0)) // np.int64(slots)

    rois = RoIs(graph("Gather", boxes, chosen, axis=0), images)
    pooled = roi_align(graph, pyramid, rois, settings.pool_size, align)
    own_classes = graph("Gather", graph("Gather", classes, chosen, axis=0), pooled.order, axis=0)
    logits = mask_head(graph, weights, pooled.features, own_classes, side)
    probabilities = graph("Sigmoid", logits)  # [K, M, M]
    shape = graph("Concat", graph("Shape", valid), np.array([side, side], np.int64), axis=0)
    nothing = graph("Expand", np.float32(0), shape)
    indices = graph.unsqueeze(graph("Gather", chosen, pooled.order, axis=0), -1)
    filled = graph("ScatterND", nothing, indices, probabilities)  # [1 + BD, M, M]
    filled = graph("Slice", filled, np.array([1]), np.array([np.iinfo(np.int64).max]), np.array([0]))
    return graph.reshape(filled, -1, slots, side, side)


def mask_head(graph: Graph, weights: FoldedWeights, features: Value, classes: Value, side: int) -> Value:
    """Logits [K, M, M] of RoI features [K, channels, P, P], each of its own class, int64 [K]."""
    x = features
    for number in range(1, weights.count("mask_head/conv{}") + 1):
        x = convolution(graph, weights, x, f"mask_head/conv{number}", relu=True)
    kernel, bias = weights.plain_convolution("mask_head/upsample")
    x = graph("ConvTranspose", x, kernel, bias, name="mask_head/upsample", strides=[2, 2], kernel_shape=[2, 2])
    x = graph("Relu", x)
    kernel, bias = weights.plain_convolution("mask_head/masks")  # [C, channels, 1, 1]
    kernel = graph("Gather", kernel[:, None, :, 0, 0], classes, axis=0)  # [K, 1, channels]
    logits = graph("MatMul", kernel, graph.reshape(x, 0, 0, -1))  # [K, 1, M M]
    logits = logits + graph("Gather", bias[:, None, None], classes, axis=0)
    return graph.reshape(logits, -1, side, side)
