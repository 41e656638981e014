"""Test-time augmentation: one result of an image's detections in several sizes, flipped and not."""

from collections.abc import Sequence

import numpy as np

from maskrcnn.imaging.mask_paste import RLE, coco_mask, encode_crop
from maskrcnn.imaging.rle_crop import bounding, decode_crop, mask_place
from maskrcnn.inference.detections import Detections, Object, collect, together

SAME_OBJECT = 0.5  # IoU of the masks of two variants


def mirrored(detections: Detections) -> Detections:
    """The detections of the image's mirror image."""
    width = detections.image_size[1]
    boxes = detections.boxes.copy()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    rles = []
    for rle in detections.rles:
        place = left, top, right, bottom = mask_place(rle)
        rles.append(
            encode_crop(decode_crop(rle, place)[:, ::-1], (width - right, top, width - left, bottom), *rle["size"])
        )
    return Detections(boxes, detections.classes, detections.scores, rles, detections.image_size, detections.categories)


def merge_variants(found: Sequence[Detections]) -> Detections:
    """Non-maximum suppression by masks, in which the variants of an object vote on its mask, box and score.

    In descending order of score, a detection takes from each other variant the one of its class whose mask agrees most.
    Masks and boxes are averaged with the scores as weights; the score is the mean over all variants, absent ones being
    0, so that an object that one variant alone sees counts less.
    """
    if len(found) == 1:
        return found[0]
    variant, boxes, classes, scores, rles = together(found)
    free = np.ones(len(rles), np.bool_)
    merged: list[Object] = []
    for i in np.argsort(-scores, kind="stable"):
        if not free[i]:
            continue
        others = np.flatnonzero(free & (classes == classes[i]) & (variant != variant[i]))
        overlaps = coco_mask.iou([rles[k] for k in others], [rles[i]], [0])[:, 0] if len(others) else np.zeros(0)
        best = {
            int(variant[k]): int(k)
            for overlap, k in sorted(zip(overlaps, others, strict=True))
            if overlap >= SAME_OBJECT
        }
        group = [int(i), *best.values()]
        free[group] = False
        weights = scores[group] / scores[group].sum()
        score = float(scores[group].sum()) / len(found)
        merged.append((weights @ boxes[group], int(classes[i]), score, _vote([rles[k] for k in group], weights)))
    return collect(merged, found[0].image_size, found[0].categories)


def _vote(rles: list[RLE], weights: np.ndarray) -> RLE:
    """The mask of the pixels that masks with at least half of the weight have."""
    left, top, right, bottom = place = bounding([mask_place(rle) for rle in rles])
    votes = np.zeros((bottom - top, right - left))
    for weight, rle in zip(weights, rles, strict=True):
        votes += weight * decode_crop(rle, place)
    return encode_crop(votes >= 0.5, place, *rles[0]["size"])
