"""How other tools write their annotations: for each the marks in its files, its images, and an object's shape.

Only what is written is taken out here; `documents` finds the images, checks and counts.
"""

import base64
import math
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.coco.problems import EntryError
from maskrcnn.data.coco.segmentation import encode_mask
from maskrcnn.data.formats.content import OBJECT, Size, ellipse_points, place_mask
from maskrcnn.data.formats.dialect import NO_AREA, Dialect, Image, Shape, named, points_of, size_of, with_holes
from maskrcnn.imaging.read import open_image

MAX_BITMAP_BYTES = 1 << 26  # of a decompressed PNG


# Supervisely: meta.json, and DATASET/ann/IMAGE.jpg.json beside DATASET/img/IMAGE.jpg
def _supervisely_images(content: Any, path: Path) -> Iterator[Image]:
    yield Image(f"../img/{path.stem}", size_of(content["size"]), named(content["objects"], "classTitle"))


def _supervisely_shape(entry: Any, size: Size) -> Shape:
    kind = entry.get("geometryType")
    if kind == "bitmap" or "bitmap" in entry:
        data = zlib.decompressobj().decompress(base64.b64decode(entry["bitmap"]["data"]), MAX_BITMAP_BYTES)
        with open_image(Path("bitmap"), data) as image:
            part = np.asarray(image.getchannel("A") if "A" in image.getbands() else image.convert("L")) > 0
        left, top = entry["bitmap"]["origin"]
        return Shape(encode_mask(place_mask(part, int(left), int(top), size)))
    outer, holes = entry["points"]["exterior"], entry["points"].get("interior") or []
    if kind == "rectangle":
        (x1, y1), (x2, y2) = outer
        return Shape(None, [min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)])
    if kind not in (None, "polygon"):
        raise EntryError(NO_AREA, f"is a {kind}")
    return Shape(with_holes(points_of(outer), [points_of(hole) for hole in holes], size))


# ISAT with segment anything
def _isat_images(content: Any, path: Path) -> Iterator[Image]:
    yield Image(content["info"]["name"], size_of(content["info"]), named(content["objects"], "category"))


def _isat_shape(entry: Any, size: Size) -> Shape:
    return Shape([points_of(entry["segmentation"])])


# V7 Darwin 1 and 2
def _darwin_images(content: Any, path: Path) -> Iterator[Image]:
    if image := content.get("image"):
        yield Image(image["filename"], size_of(image), named(content["annotations"], "name"))
        return
    slot = (content["item"].get("slots") or [{}])[0]
    yield Image(content["item"]["name"], size_of(slot), named(content["annotations"], "name"))


def _darwin_shape(entry: Any, size: Size) -> Shape:
    if "polygon" not in entry and "bounding_box" in entry:
        box = entry["bounding_box"]
        return Shape(None, [box["x"], box["y"], box["w"], box["h"]])
    polygon = entry["polygon"]
    paths = polygon["paths"] if "paths" in polygon else [polygon["path"], *polygon.get("additional_paths", [])]
    return Shape([points_of(path) for path in paths])


# VoTT: one JSON an image, or an export with "assets"
def _vott_images(content: Any, path: Path) -> Iterator[Image]:
    for asset in content["assets"].values() if "assets" in content else [content]:
        objects = [((entry["tags"] or [None])[0], entry) for entry in asset["regions"]]
        yield Image(asset["asset"]["name"], size_of(asset["asset"]["size"]), objects)


def _vott_shape(entry: Any, size: Size) -> Shape:
    box = entry["boundingBox"]
    if entry["type"] == "RECTANGLE":
        return Shape(None, [box["left"], box["top"], box["width"], box["height"]])
    return Shape([points_of(entry["points"])])


# Datumaro: annotations/SPLIT.json beside images/SPLIT/
def _datumaro_images(content: Any, path: Path) -> Iterator[Image]:
    names = dict(enumerate(label["name"] for label in content["categories"]["label"]["labels"]))
    for item in content["items"]:
        image = item.get("image") or {}
        sides = image.get("size")
        size = (int(sides[0]), int(sides[1])) if sides else None
        objects = [(names.get(entry.get("label_id")), entry) for entry in item["annotations"]]
        yield Image(image.get("path") or item["id"], size, objects)


def _datumaro_shape(entry: Any, size: Size) -> Shape:
    kind = entry["type"]
    if kind == "bbox":
        return Shape(None, entry["bbox"])
    if kind == "mask":
        return Shape(entry["rle"])
    if kind != "polygon":
        raise EntryError(NO_AREA, f"is a {kind}")
    return Shape([entry["points"]])


# Label Studio's JSON and JSON-MIN; coordinates are percentages
def _label_studio_images(content: Any, path: Path) -> Iterator[Image]:
    for task in content:
        data = task.get("data", task)
        reference = next((value for value in data.values() if isinstance(value, str) and _is_image(value)), "")
        if "data" in task:
            done = [entry for entry in task.get("annotations", []) if not entry.get("was_cancelled")][-1:]
            values = [result["value"] for entry in done for result in entry["result"] if result["type"] != "choices"]
        else:
            groups = (value for value in task.values() if isinstance(value, list))
            values = [value for group in groups for value in group if isinstance(value, dict)]
        labels = [next((value[key] for key in value if key.endswith("labels")), None) or [None] for value in values]
        yield Image(reference, None, [(names[0], value) for names, value in zip(labels, values, strict=True)])


def _is_image(reference: str) -> bool:
    return Path(reference.split("?")[0]).suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def _label_studio_shape(entry: Any, size: Size) -> Shape:
    scale = size[1] / 100, size[0] / 100
    if "rle" in entry:
        raise EntryError("brush masks of Label Studio's JSON (export as COCO)", "is a brush mask")
    if "points" in entry:
        return Shape([points_of((x * scale[0], y * scale[1]) for x, y in entry["points"])])
    if "radiusX" in entry:
        center = entry["x"] * scale[0], entry["y"] * scale[1]
        radii = entry["radiusX"] * scale[0], entry["radiusY"] * scale[1]
        return Shape([points_of(ellipse_points(center, radii, math.radians(entry.get("rotation", 0))))])
    box = [entry[key] * scale[axis] for key, axis in (("x", 0), ("y", 1), ("width", 0), ("height", 1))]
    return Shape(None, box)


# VIA 3
def _via3_images(content: Any, path: Path) -> Iterator[Image]:
    options = {key: value.get("options") or {} for key, value in content["attribute"].items()}
    regions: dict[str, list[tuple[Any, Any]]] = {}
    for entry in content["metadata"].values():
        if entry["xy"]:
            attribute, value = next(iter(entry["av"].items()), ("", OBJECT))
            name = options.get(attribute, {}).get(value, value)
            regions.setdefault(str(entry["vid"]), []).append((name, entry["xy"]))
    for view, file in content["view"].items():
        yield Image(content["file"][str(file["fid_list"][0])]["fname"], None, regions.get(view, []))


def _via3_shape(entry: Any, size: Size) -> Shape:
    kind, *xy = entry
    if kind == 2:  # rectangle
        return Shape(None, xy)
    if kind in (3, 4):  # circle, ellipse
        return Shape([points_of(ellipse_points(xy[:2], (xy[2], xy[-1])))])
    if kind not in (6, 7):  # polyline, polygon
        raise EntryError(NO_AREA, "is a point or line")
    return Shape([xy])


# CVAT for images 1.1: annotations.xml
def _cvat_images(content: Any, path: Path) -> Iterator[Image]:
    for image in content.iter("image"):
        yield Image(
            image.get("name"), size_of(image), [(entry.get("label"), entry) for entry in image if entry.tag != "tag"]
        )


def _cvat_shape(entry: Any, size: Size) -> Shape:
    def numbers(*names: str) -> list[float]:
        return [float(entry.get(name)) for name in names]

    if entry.tag == "polygon":
        return Shape([[float(value) for value in entry.get("points").replace(";", ",").split(",")]])
    if entry.tag == "box":
        left, top, right, bottom = numbers("xtl", "ytl", "xbr", "ybr")
        return Shape(None, [left, top, right - left, bottom - top])
    if entry.tag == "ellipse":
        cx, cy, rx, ry = numbers("cx", "cy", "rx", "ry")
        return Shape([points_of(ellipse_points((cx, cy), (rx, ry), math.radians(float(entry.get("rotation", 0)))))])
    if entry.tag != "mask":
        raise EntryError(NO_AREA, f"is a {entry.tag}")
    left, top, width, height = map(int, numbers("left", "top", "width", "height"))
    edges = np.cumsum([0, *map(int, entry.get("rle").split(","))])
    if edges[-1] != width * height or width * height > size[0] * size[1]:
        raise EntryError("bad RLE", "has runs that are not those of its box")
    part = np.zeros(width * height, bool)
    for start, end in list(pairwise(edges))[1::2]:
        part[start:end] = True
    return Shape(encode_mask(place_mask(part.reshape(height, width), left, top, size)))


# SA-1B: sa_1.json beside sa_1.jpg, with an RLE for each object and no classes
def _sa1b_images(content: Any, path: Path) -> Iterator[Image]:
    yield Image(
        content["image"]["file_name"], size_of(content["image"]), [(OBJECT, entry) for entry in content["annotations"]]
    )


def _coco_shape(entry: Any, size: Size) -> Shape:
    return Shape(entry["segmentation"])


# DeepFashion2: annos/000001.json beside image/000001.jpg, its boxes xyxy
def _deepfashion_images(content: Any, path: Path) -> Iterator[Image]:
    items = [value for key, value in content.items() if key.startswith("item")]
    yield Image(f"../image/{path.stem}", None, named(items, "category_name"))


# Scalabel, as BDD100K has it
def _scalabel_images(content: Any, path: Path) -> Iterator[Image]:
    for frame in content["frames"] if isinstance(content, dict) else content:
        yield Image(frame["name"], None, named(frame.get("labels") or [], "category"))


def _scalabel_shape(entry: Any, size: Size) -> Shape:
    if entry.get("rle"):
        return Shape(entry["rle"])
    if entry.get("poly2d"):
        if any("C" in part["types"] for part in entry["poly2d"]):
            raise EntryError("curves (export RLEs, or polygons of straight lines)", "is a Bézier curve")
        return Shape([points_of(part["vertices"]) for part in entry["poly2d"]])
    box = entry["box2d"]
    return Shape(None, [box["x1"], box["y1"], box["x2"] - box["x1"], box["y2"] - box["y1"]])


# ADE20K: ADE_train_1.json beside ADE_train_1.jpg; parts of objects are objects of a higher level
def _ade20k_images(content: Any, path: Path) -> Iterator[Image]:
    annotation = content["annotation"]
    wholes = [entry for entry in annotation["object"] if not entry["parts"]["part_level"]]
    height, width = annotation["imsize"][:2]
    yield Image(f"{path.stem}.jpg", (int(height), int(width)), named(wholes, "name"))


def _ade20k_shape(entry: Any, size: Size) -> Shape:
    return Shape([points_of(zip(entry["polygon"]["x"], entry["polygon"]["y"], strict=True))])


# Aperio's XML, as MoNuSeg and MoNuSAC have it: NAME.xml for NAME.tif; what an annotation is of is an attribute's name
def _aperio_images(content: Any, path: Path) -> Iterator[Image]:
    objects = []
    for annotation in content.iter("Annotation"):
        attribute = annotation.find("Attributes/Attribute")
        name = attribute.get("Name") if attribute is not None else None
        name = OBJECT if name in (None, "", "Description") else name
        objects += [(name, region) for region in annotation.iter("Region")]
    yield Image(path.stem, None, objects)


def _aperio_shape(entry: Any, size: Size) -> Shape:
    if entry.get("NegativeROA") == "1":
        raise EntryError("regions to be left out", "is a region to be left out")
    points = [(float(vertex.get("X")), float(vertex.get("Y"))) for vertex in entry.iter("Vertex")]
    if len(points) < 3:
        raise EntryError(NO_AREA, "is a point or line")
    return Shape([points_of(points)])


DIALECTS = (  # of public datasets, then of tools
    Dialect("SA-1B", (b'"image"', b'"image_id"', b'"annotations"', b'"predicted_iou"'), _sa1b_images, _coco_shape),
    Dialect("DeepFashion2", (b'"item1"', b'"category_name"'), _deepfashion_images, _coco_shape),
    Dialect("Scalabel", (b'"labels"', b'"poly2d"', b'"category"'), _scalabel_images, _scalabel_shape),
    Dialect("ADE20K", (b'"annotation"', b'"instance_mask"', b'"part_level"'), _ade20k_images, _ade20k_shape),
    Dialect("Aperio XML", (b"<Annotations", b"<Region", b"<Vertex"), _aperio_images, _aperio_shape),
    Dialect("Supervisely", (b'"classTitle"', b'"objects"'), _supervisely_images, _supervisely_shape),
    Dialect("ISAT", (b'"ISAT"', b'"objects"', b'"info"'), _isat_images, _isat_shape),
    Dialect("V7 Darwin", (b'"item"', b'"slots"', b'"annotations"'), _darwin_images, _darwin_shape),
    Dialect("V7 Darwin", (b'"image"', b'"original_filename"', b'"annotations"'), _darwin_images, _darwin_shape),
    Dialect("VoTT", (b'"asset"', b'"regions"', b'"tags"'), _vott_images, _vott_shape),
    Dialect("Datumaro", (b'"categories"', b'"labels"', b'"items"'), _datumaro_images, _datumaro_shape),
    Dialect("Label Studio", (b'"from_name"', b'"to_name"', b'"result"'), _label_studio_images, _label_studio_shape),
    Dialect(
        "Label Studio", (b'labels"', b'"annotation_id"', b'"annotator"'), _label_studio_images, _label_studio_shape
    ),
    Dialect("VIA 3", (b'"fname"', b'"attribute"', b'"metadata"'), _via3_images, _via3_shape),
    Dialect("CVAT for images", (b"<annotations>", b"<image ", b"label="), _cvat_images, _cvat_shape),
)


def dialect_of(head: bytes) -> Dialect | None:
    """The dialect that the beginning of a file is written in."""
    return next((dialect for dialect in DIALECTS if all(mark in head for mark in dialect.marks)), None)
