"""Balanced random subsets of fixed size; Faster R-CNN, Sec. 3.1.3, and Mask R-CNN, Sec. 3.1.

Legend: B images, A anchors (or proposals), S samples with padding.
"""

import keras
from keras import ops

from maskrcnn.ops.indexing import top_positive
from maskrcnn.ops.matching import NEGATIVE, POSITIVE, Labels
from maskrcnn.ops.typing import Bool, Float, Int, Tensor

Mask = Bool[Tensor, "B A"]
Seed = int | keras.random.SeedGenerator


def sample_labels(labels: Labels, *, num_samples: int, positive_fraction: float, seed: Seed) -> Mask:
    """Draws up to ``num_samples`` anchors of each image without replacement, and marks them.

    At most ``int(num_samples * positive_fraction)`` are positive; negatives fill up the rest. ``labels`` come from
    ``match``.
    """
    max_positives = int(num_samples * positive_fraction)
    num_anchors = labels.shape[1]
    if num_anchors is not None and max_positives >= num_anchors:
        return (labels == POSITIVE) | (labels == NEGATIVE)  # everything fits
    keys = keras.random.uniform(ops.shape(labels), seed=seed, dtype="float32")
    positive = _choose(keys, labels == POSITIVE, max_positives, max_positives)
    room = num_samples - ops.sum(ops.cast(positive, "int32"), axis=1, keepdims=True)  # [B, 1]
    return positive | _choose(keys, labels == NEGATIVE, room, num_samples)


def take_sampled(sampled: Mask, labels: Labels, *, num_samples: int) -> tuple[Int[Tensor, "B S"], Bool[Tensor, "B S"]]:
    """Indices of the sampled anchors, positives first, and which of them are valid; the others are 0.

    S is ``num_samples``, or A where that is known and less.
    """
    num_anchors = labels.shape[1]
    keys = ops.where(sampled, ops.where(labels == POSITIVE, 2.0, 1.0), 0.0)
    return top_positive(keys, num_samples if num_anchors is None else min(num_samples, num_anchors))


def _choose(keys: Float[Tensor, "B A"], candidates: Mask, limit: int | Int[Tensor, "B 1"], max_limit: int) -> Mask:
    """Marks the ``limit`` (at most ``max_limit``) candidates with the largest keys."""
    keys = ops.where(candidates, keys, -1.0)
    num_anchors = ops.shape(keys)[1]
    count = min(max(max_limit, 1), num_anchors) if isinstance(num_anchors, int) else ops.minimum(max_limit, num_anchors)
    values, indices = ops.top_k(keys, count)
    last = ops.clip(ops.broadcast_to(limit, (ops.shape(keys)[0], 1)) - 1, 0, count - 1)
    lowest = ops.take_along_axis(values, last, axis=1)  # [B, 1]
    lowest_index = ops.take_along_axis(indices, last, axis=1)
    # Equal keys happen (2^23 values for 280,000 anchors); top_k takes the lower index first.
    positions = ops.cast(ops.expand_dims(ops.arange(num_anchors), 0), lowest_index.dtype)
    chosen = (keys > lowest) | ((keys == lowest) & (positions <= lowest_index))
    return candidates & chosen & (limit > 0)
