"""The views of an image that the model gets: the whole, tiles, flipped, in other sizes; and one result from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from maskrcnn.config import CANVAS_STRIDE, ImageConfig
from maskrcnn.errors import UserError
from maskrcnn.imaging.canvas import Prepared, prepare
from maskrcnn.imaging.large_image import Pixels
from maskrcnn.imaging.mask_paste import RLE, coco_mask, encode_crop
from maskrcnn.imaging.rle_crop import bounding, decode_crop, mask_place
from maskrcnn.inference.detections import Detections, Object, collect, together
from maskrcnn.inference.tile_merging import Tile

SAME_OBJECT = 0.5  # IoU of the masks of two variants
SCALES = (0.8, 1.0, 1.25)  # of test-time augmentation, each with and without a flip


@dataclass(frozen=True)
class Views:
    """How an image is shown to the model."""

    tile: int | None = None  # side of the tiles, px; None is the whole image
    overlap: float = 0.2  # fraction of a tile that the next one repeats
    augment: bool = False  # flips and scales, merged

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < CANVAS_STRIDE:
            raise UserError(f"--tile {self.tile}: tiles have at least {CANVAS_STRIDE} px")
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"--overlap {self.overlap:g}: expected a fraction from 0 to 0.9")


@dataclass(frozen=True)
class View:
    """One of the views of an image."""

    tile: Tile
    scale: float = 1.0
    flip: bool = False

    def prepare(self, image: Pixels, config: ImageConfig) -> Prepared:
        """The view as the model receives it."""
        left, top, right, bottom = self.tile
        pixels = np.asarray(image[top:bottom, left:right])
        sides = {name: round(getattr(config, name) * self.scale) for name in ("min_side", "max_side")}
        return prepare(pixels[:, ::-1] if self.flip else pixels, replace(config, **sides))


def list_views(tiles: Sequence[Tile], views: Views) -> list[View]:
    """The views of the tiles of an image, tile by tile."""
    variants = [(scale, flip) for scale in SCALES for flip in (False, True)] if views.augment else [(1.0, False)]
    return [View(tile, *variant) for tile in tiles for variant in variants]


def merge_views(tiles: Sequence[Tile], views: Sequence[View], found: Sequence[Detections]) -> list[Detections]:
    """One result for each tile of the detections in all views, each in the pixels of its tile."""
    return [merge_variants(list(_of_tile(tile, views, found))) for tile in tiles]


def _of_tile(tile: Tile, views: Sequence[View], found: Sequence[Detections]) -> Iterator[Detections]:
    for view, detections in zip(views, found, strict=True):
        if view.tile == tile:
            yield mirrored(detections) if view.flip else detections


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
