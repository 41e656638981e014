"""VOC's XML: an image's file name and its objects, with boxes and, of some exporters, polygons."""

import json
import math
import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from maskrcnn.data.formats.content import Content, Size, clip_box, clip_points
from maskrcnn.errors import UserError
from maskrcnn.input_files import read_bytes, read_head

ENTITY = re.compile("<!ENTITY", re.IGNORECASE)  # may expand to gigabytes; annotations have none


class XmlObject(NamedTuple):
    """An object of an XML file, in pixels."""

    name: str
    corners: tuple[float, float, float, float] | None  # xmin, ymin, xmax, ymax
    polygon: list[tuple[float, float]]  # empty where there is none


class XmlDocument(NamedTuple):
    """An XML file's annotations."""

    path: Path
    file_name: str
    objects: list[XmlObject]

    def names_at(self, box: list[float]) -> list[str]:
        """The names of the objects whose box has an IoU of more than 0.5 with this one (``xywh``)."""
        x, y, w, h = box
        names = []
        for entry in self.objects:
            if entry.corners is not None:
                left, top, right, bottom = entry.corners
                inner = max(min(x + w, right) - max(x, left), 0) * max(min(y + h, bottom) - max(y, top), 0)
                if inner > 0.5 * (w * h + (right - left) * (bottom - top) - inner):
                    names.append(entry.name)
        return names


def is_voc_xml(path: Path) -> bool:
    """Whether an XML file has VOC's elements, by its beginning."""
    start = read_head(path)
    return b"<annotation" in start and (b"<filename" in start or b"<object" in start)


def parse_tree(path: Path) -> ElementTree.Element | None:
    """The root element of an XML file; None if it is none, or has entities."""
    try:
        data = read_bytes(path)
        text = data.decode(json.detect_encoding(data) if b"\0" in data else "latin-1")  # to look for entities
        return None if ENTITY.search(text) else ElementTree.fromstring(text if b"\0" in data else data)
    except (UserError, ElementTree.ParseError, LookupError, ValueError):
        return None


def parse_xml(path: Path) -> XmlDocument | None:
    """A file's annotations; None if it is not VOC's XML."""
    root = parse_tree(path)
    if root is None or root.tag != "annotation":
        return None
    file_name = (root.findtext("filename") or "").strip() or f"{path.stem}.jpg"
    return XmlDocument(path, file_name, [_object(element) for element in root.iter("object")])


def _object(element: ElementTree.Element) -> XmlObject:
    """An object with its box and its polygon: ``<x1>, <y1>, <x2>, ...`` (Roboflow's) or ``<pt>`` (LabelMe's)."""
    box, outline = element.find("bndbox"), element.find("polygon")
    corners = None if box is None else _numbers(box, "xmin", "ymin", "xmax", "ymax")
    polygon = []
    if outline is not None:
        count = range(1, len(outline) // 2 + 1)
        pairs = [_numbers(point, "x", "y") for point in outline.iter("pt")]
        pairs = pairs or [_numbers(outline, f"x{number}", f"y{number}") for number in count]
        polygon = [(pair[0], pair[1]) for pair in pairs if pair]
    name = (element.findtext("name") or "").strip()
    return XmlObject(name or "object", (corners[0], corners[1], corners[2], corners[3]) if corners else None, polygon)


def _numbers(element: ElementTree.Element, *names: str) -> list[float] | None:
    """The numbers in these children; None unless all are there and finite."""
    try:
        values = [float(element.findtext(name) or "nan") for name in names]
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None


def add_objects(content: Content, image_id: int, size: Size, document: XmlDocument) -> None:
    """Adds an image's objects: a polygon where there is one, else a box."""
    for number, entry in enumerate(document.objects, start=1):
        example = f"{document.path}, object {number}"
        if len(entry.polygon) >= 3:
            content.add_object(image_id, entry.name, [clip_points(entry.polygon, size)], example=example)
        elif entry.corners is None:
            content.note("objects skipped that have no box", example)
        else:
            xs, ys = sorted(entry.corners[0::2]), sorted(entry.corners[1::2])
            box = clip_box(xs[0], ys[0], xs[1], ys[1], size)
            content.add_object(image_id, entry.name, None, box=box, example=example)
