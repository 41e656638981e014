"""VOC's XML: an image's file name and its objects, with boxes and, of some exporters, polygons."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from maskrcnn.data.formats.content import Content, Size, clip_points
from maskrcnn.data.formats.lookup import head

ENTITY = re.compile(rb"<!ENTITY", re.IGNORECASE)  # may expand to gigabytes; annotations have none


@dataclass(frozen=True)
class XmlObject:
    """An object of an XML file, in pixels."""

    name: str
    corners: tuple[float, float, float, float] | None  # xmin, ymin, xmax, ymax
    polygon: list[tuple[float, float]]  # empty where there is none


@dataclass(frozen=True)
class XmlDocument:
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
    start = head(path)
    return b"<annotation" in start and (b"<filename" in start or b"<object" in start)


def parse_xml(path: Path) -> XmlDocument | None:
    """A file's annotations; None if it is not VOC's XML."""
    try:
        data = path.read_bytes()
        root = None if ENTITY.search(data) else ElementTree.fromstring(data)
    except (OSError, ElementTree.ParseError, LookupError, ValueError):
        return None
    if root is None or root.tag != "annotation":
        return None
    file_name = (root.findtext("filename") or "").strip() or f"{path.stem}.jpg"
    return XmlDocument(path, file_name, [_object(element) for element in root.iter("object")])


def _object(element: ElementTree.Element) -> XmlObject:
    box = element.find("bndbox")
    corners = _numbers(box, "xmin", "ymin", "xmax", "ymax") if box is not None else None
    polygon, shape = [], element.find("polygon")
    for number in range(1, len(shape) // 2 + 1) if shape is not None else ():
        if point := _numbers(shape, f"x{number}", f"y{number}"):
            polygon.append(point)
    return XmlObject((element.findtext("name") or "").strip() or "object", corners, polygon)


def _numbers(element: ElementTree.Element, *names: str) -> tuple[float, ...] | None:
    """The numbers in these children; None unless all are there and finite."""
    try:
        values = tuple(float(element.findtext(name) or "nan") for name in names)
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None


def add_objects(content: Content, image: Path, size: Size | None, document: XmlDocument) -> None:
    """Adds an image and its objects: a polygon where there is one, else a box."""
    if size is None:
        content.notes.add("unreadable images skipped", image)
        return
    image_id = content.add_image(image, size)
    for number, entry in enumerate(document.objects, start=1):
        example = f"{document.path}, object {number}"
        if len(entry.polygon) >= 3:
            content.add_object(image_id, entry.name, [clip_points(entry.polygon, size)], example=example)
        elif entry.corners is None:
            content.notes.add("objects skipped that have no box", example)
        else:
            height, width = size
            xs = sorted(min(max(x, 0.0), float(width)) for x in entry.corners[0::2])
            ys = sorted(min(max(y, 0.0), float(height)) for y in entry.corners[1::2])
            box = [xs[0], ys[0], xs[1] - xs[0], ys[1] - ys[0]]
            content.add_object(image_id, entry.name, None, box=box, example=example)
