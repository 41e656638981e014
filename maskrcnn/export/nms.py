"""Exact greedy non-maximum suppression by the runtime's NonMaxSuppression, with outputs of static shape.

The operator sorts by score, and runtimes differ in how they order equal ones. So it gets ranks for scores: boxes come
in descending order, and those that take no part have rank 0, which is below its threshold.
"""

from dataclasses import dataclass

import numpy as np

from maskrcnn.export.graph import Graph, Value


@dataclass(frozen=True)
class Suppression:
    """How boxes suppress each other."""

    iou_threshold: float
    candidates: int  # N
    max_outputs: int  # survivors of a group that matter; the first ones
    num_classes: int = 0  # with the background, where boxes suppress within their class only


def suppress(graph: Graph, boxes: Value, valid: Value, settings: Suppression, classes: Value | None = None) -> Value:
    """Ranks of the surviving boxes, N for the first down to 1, and 0 for the others: float32 [B, N].

    Args:
        graph: gets the nodes.
        boxes: [B, N, 4], in descending order of score.
        valid: bool [B, N]; other boxes neither survive nor suppress.
        settings: threshold and sizes.
        classes: int64 [B, N] from 1 on; boxes of different classes do not suppress each other.
    """
    ranks = np.arange(settings.candidates, 0, -1, dtype=np.float32)  # exact below 2^24
    takes_part = graph.unsqueeze(valid, 1)  # [B, 1, N]
    if classes is not None:
        channels = np.arange(1, settings.num_classes, dtype=np.int64)[:, None]  # [C - 1, 1]
        takes_part = takes_part & graph("Equal", graph.unsqueeze(classes, 1), channels)  # [B, C - 1, N]
    selected = graph(  # [S, 3] image, class, box
        "NonMaxSuppression",
        boxes,
        graph("Where", takes_part, ranks, 0.0),
        np.array([settings.max_outputs], np.int64),
        np.array([settings.iou_threshold], np.float32),
        np.array([0.5], np.float32),
    )
    indices = graph("Gather", selected, np.array([0, 2]), axis=1)  # [S, 2]
    kept_ranks = graph("Gather", ranks, graph("Gather", selected, np.int64(2), axis=1), axis=0)
    nothing = graph("Where", valid, 0.0, 0.0)  # [B, N]
    return graph("ScatterND", nothing, indices, kept_ranks)
