"""Masks as polygons, holes included: a hole is joined to its outline by a line there and back.

Whoever fills such a polygon by the even-odd or the nonzero rule leaves the hole empty: COCO's tools, Pillow, OpenCV and
browsers do.
"""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.runtime.extras import import_extra

Polygon = NDArray[np.float64]  # [N, 2] x and y; pixel i reaches from i to i + 1

SMALL = 64  # px of a mask's shorter side, below which its pixels' corners count
MIN_POINTS = 3


def trace_polygons(mask: NDArray[np.bool_], tolerance: float | None = None) -> list[Polygon]:
    """The polygons of a mask [h, w], one for each connected part, the largest first.

    Args:
        mask: bool.
        tolerance: how far the polygons may lie from the mask's outline, px; None is 1 % of the mask's diameter, at most
            half a pixel.

    Raises:
        UserError: contourpy is not installed.
    """
    if tolerance is None:
        tolerance = min(0.01 * float(np.sqrt(mask.sum())), 0.5)
    zoom = 2 if min(mask.shape, default=0) < SMALL else 1  # contours cut off half a pixel at corners
    enlarged = np.pad(mask.repeat(zoom, 0).repeat(zoom, 1), 1).astype(np.float32)
    contourpy = import_extra("contourpy")
    found: Any = contourpy.contour_generator(z=enlarged, fill_type=contourpy.FillType.OuterOffset).filled(0.5, 2)
    polygons = []
    for points, offset in zip(*found, strict=True):
        points = (points.astype(np.float64) - 0.5) / zoom
        rings = [points[start : stop - 1] for start, stop in itertools.pairwise(offset)]
        outline, *holes = (_simplify(ring, tolerance) for ring in rings)
        polygon = _join(outline, [hole for hole in holes if len(hole) >= MIN_POINTS])
        if len(polygon) >= MIN_POINTS:
            polygons.append(polygon)
    return sorted(polygons, key=_area, reverse=True)


def _area(polygon: Polygon) -> float:
    x, y = polygon.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def _simplify(ring: Polygon, tolerance: float) -> Polygon:
    """The ring without points that its other points give within the tolerance (Douglas and Peucker, 1973)."""
    if tolerance <= 0 or len(ring) <= MIN_POINTS:
        return ring
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    closed = np.concatenate([ring, ring[:1]])
    kept = np.zeros(len(closed), np.bool_)
    kept[[0, far, -1]] = True
    pending = [(0, far), (far, len(ring))]
    while pending:
        start, stop = pending.pop()
        if stop - start < 2:
            continue
        chord, inner = closed[stop] - closed[start], closed[start + 1 : stop] - closed[start]
        length = float(np.hypot(*chord))
        distance = np.abs(inner @ np.array([-chord[1], chord[0]])) / length if length else np.hypot(*inner.T)
        middle = start + 1 + int(np.argmax(distance))
        if distance.max() > tolerance:
            kept[middle] = True
            pending += [(start, middle), (middle, stop)]
    return closed[:-1][kept[:-1]]


def _join(outline: Polygon, holes: list[Polygon]) -> Polygon:
    """One polygon of an outline and its holes, each joined where it is nearest."""
    for hole in holes:
        distances = ((outline[:, None] - hole[None]) ** 2).sum(axis=2)
        i, j = np.unravel_index(int(distances.argmin()), distances.shape)
        outline = np.concatenate([outline[: i + 1], hole[j:], hole[: j + 1], outline[i:]])
    return outline
