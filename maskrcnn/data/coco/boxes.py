"""Boxes as annotated: taken, cut to their image, or replaced by the box around the mask where they do not fit it."""

from typing import Any

from maskrcnn.data.coco.ids import shown
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.coco.problems import EntryError, Repaired, Severity
from maskrcnn.data.coco.segmentation import extremes, number

Box = tuple[float, float, float, float]
MAX_SLACK = 2.0, 0.05  # px, and fraction of the mask's side, by which a box may miss its mask
MIN_BOX_IOU = 0.5  # of a box with the box around its mask


def numbers(bbox: Any) -> Box | None:
    """The four finite numbers of a list, or None."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    values = list(map(float, bbox)) if extremes(bbox) else [number(value) for value in bbox]
    return None if None in values else tuple(values)  # type: ignore[return-value]


def box_alone(xywh: Box | None, bbox: Any, image: ImageEntry) -> Box:
    """The box of an object without mask, as xyxy.

    Raises:
        EntryError: it is none, or no xywh in pixels.
    """
    if xywh is None:
        raise EntryError("bad box", f"bbox {shown(bbox)} is not four finite numbers")
    x, y, width, height = xywh
    if width <= 0 or height <= 0:
        raise EntryError("degenerate box", f"degenerate box {shown(bbox)} (width and height must be positive)")
    if max(xywh) <= 1.0:
        text = f"bbox {shown(bbox)} is in fractions of the image; write pixels"
        raise EntryError("normalized box", text, Severity.SUSPECT)
    slack = MAX_SLACK[0]
    outside = x + width > image.width + slack or y + height > image.height + slack
    if outside and x < width <= image.width + slack and y < height <= image.height + slack:
        text = f"bbox {shown(bbox)} is [x1, y1, x2, y2]; write [x, y, width, height]"
        raise EntryError("xyxy box", text, Severity.SUSPECT)
    return x, y, x + width, y + height


def fit_box(bbox: Any, bounds: Box, image: ImageEntry, repaired: Repaired) -> Box:
    """The annotated box as xyxy in the image if it fits the box around the mask, else that one."""
    xywh = numbers(bbox)
    if not bbox:
        return bounds
    if xywh is None:
        repaired("box from mask", f"bbox {shown(bbox)} is not four finite numbers; taken from its mask")
        return bounds
    x, y, width, height = xywh
    box = max(x, 0.0), max(y, 0.0), min(x + width, float(image.width)), min(y + height, float(image.height))
    if width <= 0 or height <= 0:
        problem = f"degenerate box {text_of(xywh)}"
    elif _agrees(xywh, bounds) and not _agrees(box, bounds):
        problem = f"box {text_of(xywh)} is [x1, y1, x2, y2], not [x, y, width, height]"
    elif not _surrounds(box, bounds):
        problem = f"box {text_of(xywh)} does not fit its mask in {text_of(bounds)}"
    else:
        return box
    repaired("box from mask", f"{problem}; taken from its mask")
    return bounds


def _agrees(box: Box, bounds: Box) -> bool:
    return all(abs(side - bound) <= MAX_SLACK[0] for side, bound in zip(box, bounds, strict=True))


def _surrounds(box: Box, bounds: Box) -> bool:
    x1, y1, x2, y2 = bounds
    slack_x, slack_y = (MAX_SLACK[0] + MAX_SLACK[1] * side for side in (x2 - x1, y2 - y1))
    if box[0] > x1 + slack_x or box[1] > y1 + slack_y or box[2] < x2 - slack_x or box[3] < y2 - slack_y:
        return False
    area = (box[2] - box[0]) * (box[3] - box[1])
    return (x2 - x1 + 2 * slack_x) * (y2 - y1 + 2 * slack_y) >= MIN_BOX_IOU * area


def clip(box: Box, image: ImageEntry) -> Box:
    """A box cut to its image.

    Raises:
        EntryError: nothing is left.
    """
    cut = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(image.width)), min(box[3], float(image.height))
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        text = f"lies outside the image of {image.width} x {image.height} (its box is {text_of(box)})"
        raise EntryError("outside the image", text)
    return cut


def text_of(values: Box) -> str:
    """A box as messages show it."""
    return f"[{', '.join(f'{value:g}' for value in values)}]"
