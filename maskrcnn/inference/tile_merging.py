"""Large images by overlapping tiles, and objects that seams cut made whole again.

Two detections of neighboring tiles are one object if their masks agree in the strip that both tiles see. Masks stay
run-length codes of their tiles, and only the parts that are compared or joined are decoded, so that memory does not
depend on the size of the image. An object that no tile sees whole gets a second look: a further tile around it.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maskrcnn.imaging.mask_paste import RLE, Rectangle, encode_crop
from maskrcnn.imaging.rle_crop import bounding, decode_crop, mask_place
from maskrcnn.inference.detections import Detections, Object, collect, together

if TYPE_CHECKING:
    from maskrcnn.inference.views import Views

Tile = Rectangle

SAME_OBJECT = 0.5  # intersection over the smaller area, both inside the strip
CONTAINED = 0.8  # the same, for a further part of an object that a tile sees in several parts
ROOM = 0.25  # of a tile's side, beside an object in its second look
EDGE = 0.05  # of a tile's side, at least 2 px: a box that ends this near a seam is cut by it


def tile_grid(image_size: tuple[int, int], views: "Views") -> list[Tile]:
    """Tiles of one size, evenly spread, row by row; one tile if the image is no larger."""
    height, width = image_size
    if views.tile is None:
        return [(0, 0, width, height)]
    tile_height, tile_width = min(height, views.tile), min(width, views.tile)
    tops, lefts = (_starts(side, views.tile, views.overlap) for side in image_size)
    return [(left, top, left + tile_width, top + tile_height) for top in tops for left in lefts]


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    step = max(math.floor(tile * (1 - overlap)), 1)
    count = math.ceil(max(side - tile, 0) / step) + 1
    return np.linspace(0, max(side - tile, 0), count).round().astype(int).tolist()


@dataclass
class Pieces:
    """The detections of all tiles, in pixels of the image."""

    tiles: NDArray[np.int64]  # [T, 4]
    tile: NDArray[np.int64]  # [K] number of the tile
    boxes: NDArray[np.float32]  # [K, 4]
    classes: NDArray[np.int32]  # [K]
    scores: NDArray[np.float32]  # [K]
    rles: list[RLE]  # [K] in pixels of the tiles
    cut: NDArray[np.bool_]  # [K] whether the object seems to go on beyond the tile

    def crop(self, k: int, place: Rectangle) -> NDArray[np.bool_]:
        """A piece's mask inside a rectangle of the image that the tile holds."""
        x, y = (int(value) for value in self.tiles[self.tile[k], :2])
        return decode_crop(self.rles[k], (place[0] - x, place[1] - y, place[2] - x, place[3] - y))

    def place(self, k: int) -> Rectangle:
        """The smallest rectangle of the image with all of a piece's mask."""
        x, y = (int(value) for value in self.tiles[self.tile[k], :2])
        left, top, right, bottom = mask_place(self.rles[k])
        return left + x, top + y, right + x, bottom + y


def second_looks(tiles: Sequence[Tile], found: Sequence[Detections], image_size: tuple[int, int]) -> list[Tile]:
    """Further tiles of the same size around objects that seams cut in every tile, but that fit into one."""
    if len(tiles) == 1:
        return []
    pieces = _gather(tiles, found, image_size)
    boxes = [_box(pieces, group) for group in _groups(pieces) if pieces.cut[group].all()]
    side = pieces.tiles[0, 2:] - pieces.tiles[0, :2]  # [2] width and height, px
    looks: list[Tile] = []
    for box in sorted(boxes, key=lambda box: -np.prod(box[2:] - box[:2])):
        if (box[2:] - box[:2] < side).all() and not _shows(looks, box, image_size):
            start = np.clip((box[:2] + box[2:] - side) / 2, 0, image_size[::-1] - side)
            left, top = start.round().astype(int).tolist()
            looks.append((left, top, left + int(side[0]), top + int(side[1])))
    return looks


def _shows(looks: Sequence[Tile], box: NDArray[np.float32], image_size: tuple[int, int]) -> bool:
    """Whether one of the tiles has a box with some room on each side, as far as the image and the tile's size allow."""
    if not looks:
        return False
    tiles = np.array(looks)
    side = tiles[0, 2:] - tiles[0, :2]
    room = np.minimum(ROOM * side, (side - (box[2:] - box[:2])) / 2 - 1)  # 1 px may be lost in rounding
    low, high = np.maximum(box[:2] - room, 0), np.minimum(box[2:] + room, image_size[::-1])
    return bool(((low >= tiles[:, :2]) & (high <= tiles[:, 2:])).all(axis=1).any())


def merge_tiles(
    tiles: Sequence[Tile], found: Sequence[Detections], image_size: tuple[int, int], looks: int = 0
) -> Detections:
    """The detections of an image from those of its tiles; of a single tile they are its own.

    Args:
        tiles: of one size.
        found: the detections in each tile, in its pixels.
        image_size: height and width of the image, px.
        looks: how many of the tiles, at the end, are `second_looks`. What is cut in all others and not found there is
            no object.
    """
    if len(tiles) == 1:
        return found[0]
    pieces = _gather(tiles, found, image_size, looks)
    last = list(tiles[len(tiles) - looks :])
    objects = [
        _join(pieces, group, image_size)
        for group in _groups(pieces)
        if not (pieces.cut[group].all() and _shows(last, _box(pieces, group), image_size))
    ]
    return collect(objects, image_size, found[0].categories)


def _groups(pieces: Pieces) -> list[list[int]]:
    """The pieces of each object."""
    groups = [[k] for k in range(len(pieces.rles))]  # shared by the members of a group
    dropped = np.zeros(len(groups), np.bool_)
    for overlap, i, j in sorted(_pairs(pieces), reverse=True):
        if pieces.classes[i] != pieces.classes[j]:
            if pieces.cut[i] != pieces.cut[j]:  # half a circle looks like something else: the whole object decides
                dropped[i if pieces.cut[i] else j] = True
        elif _may_join(pieces, groups[i], groups[j], overlap):
            groups[i] += groups[j]
            for k in groups[j]:
                groups[k] = groups[i]
    return list({id(group): group for k, group in enumerate(groups) if not dropped[k]}.values())


def _gather(
    rectangles: Sequence[Tile], found: Sequence[Detections], image_size: tuple[int, int], looks: int = 0
) -> Pieces:
    tiles = np.array(rectangles, np.int64)
    tile, boxes, classes, scores, rles = together(found)
    boxes = (boxes + tiles[tile][:, [0, 1, 0, 1]]).astype(np.float32)
    margin = np.maximum(EDGE * (tiles[0, 2] - tiles[0, 0]), 2)
    inner = np.column_stack([tiles[:, :2] > 0, tiles[:, 2:] < image_size[::-1]])  # the sides that are seams
    cut = ((np.abs(boxes - tiles[tile]) <= margin) & inner[tile]).any(axis=1)
    kept = np.flatnonzero(~cut | (tile < len(tiles) - looks))  # what a second look cuts, other tiles have seen
    return Pieces(tiles, tile[kept], boxes[kept], classes[kept], scores[kept], [rles[k] for k in kept], cut[kept])


def _pairs(pieces: Pieces) -> Iterator[tuple[float, int, int]]:
    """Pieces of two tiles that agree in the strip that both see: their overlap, see `SAME_OBJECT`, and indices."""
    members = [np.flatnonzero(pieces.tile == number).tolist() for number in range(len(pieces.tiles))]
    for first, second in _neighbors(pieces.tiles):
        a, b = pieces.tiles[first], pieces.tiles[second]
        strip = np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])])
        clipped = {k: _clip(pieces.place(k), strip) for k in (*members[first], *members[second])}
        sides = ([k for k in members[number] if not _is_empty(clipped[k])] for number in (first, second))
        for i, j in itertools.product(*sides):
            if not _is_empty(_clip(clipped[i], clipped[j])):
                overlap = _overlap(pieces, (i, j), (clipped[i], clipped[j]))
                if overlap >= SAME_OBJECT:
                    yield overlap, i, j


def _neighbors(tiles: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """The pairs of tiles that overlap."""
    for first in range(len(tiles)):
        later = tiles[first + 1 :]
        meets = (later[:, :2] < tiles[first, 2:]).all(axis=1) & (later[:, 2:] > tiles[first, :2]).all(axis=1)
        for second in np.flatnonzero(meets):
            yield first, first + 1 + int(second)


def _clip(place: Rectangle, other: Sequence[int] | NDArray[np.int64]) -> Rectangle:
    left, top, right, bottom = (int(value) for value in other)
    return max(place[0], left), max(place[1], top), min(place[2], right), min(place[3], bottom)


def _is_empty(place: Rectangle) -> bool:
    return place[2] <= place[0] or place[3] <= place[1]


def _overlap(pieces: Pieces, pair: tuple[int, int], places: tuple[Rectangle, Rectangle]) -> float:
    areas = [int(pieces.crop(k, place).sum()) for k, place in zip(pair, places, strict=True)]
    if not min(areas):
        return 0.0
    common = _clip(*places)
    return int((pieces.crop(pair[0], common) & pieces.crop(pair[1], common)).sum()) / min(areas)


def _may_join(pieces: Pieces, first: list[int], second: list[int], overlap: float) -> bool:
    """Whether two groups can be one object: a tile has no two pieces of it, unless a seam cut them apart."""
    if first is second:
        return False
    if set(pieces.tile[first].tolist()).isdisjoint(pieces.tile[second].tolist()):
        return True
    return overlap >= CONTAINED and bool(pieces.cut[first].all() or pieces.cut[second].all())


def _join(pieces: Pieces, group: list[int], image_size: tuple[int, int]) -> Object:
    """Box, class, score and mask of a group: those of its whole pieces, or of all where all are cut."""
    best = max(group, key=lambda k: (not pieces.cut[k], pieces.scores[k]))
    used = group if pieces.cut[best] else [best]
    places = [pieces.place(k) for k in used]
    left, top, right, bottom = place = bounding(places)
    mask = np.zeros((bottom - top, right - left), np.bool_)
    for k, (x1, y1, x2, y2) in zip(used, places, strict=True):
        mask[y1 - top : y2 - top, x1 - left : x2 - left] |= pieces.crop(k, (x1, y1, x2, y2))
    box = _box(pieces, used)
    score = float(max(pieces.scores[k] for k in group if not pieces.cut[k] or pieces.cut[best]))
    return box, int(pieces.classes[best]), score, encode_crop(mask, place, *image_size)


def _box(pieces: Pieces, group: list[int]) -> NDArray[np.float32]:
    return np.concatenate([pieces.boxes[group][:, :2].min(axis=0), pieces.boxes[group][:, 2:].max(axis=0)])
