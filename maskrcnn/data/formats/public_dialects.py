"""How public datasets write their annotations where no tool's form is theirs; see `dialects`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskrcnn.data.coco.problems import EntryError
from maskrcnn.data.formats.content import Size
from maskrcnn.data.formats.dialect import NO_AREA, OBJECT, Dialect, Image, Shape, named, points_of, size_of


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


PUBLIC = (
    Dialect("SA-1B", (b'"image"', b'"image_id"', b'"annotations"', b'"predicted_iou"'), _sa1b_images, _coco_shape),
    Dialect("DeepFashion2", (b'"item1"', b'"category_name"'), _deepfashion_images, _coco_shape),
    Dialect("Scalabel", (b'"labels"', b'"poly2d"', b'"category"'), _scalabel_images, _scalabel_shape),
    Dialect("ADE20K", (b'"annotation"', b'"instance_mask"', b'"part_level"'), _ade20k_images, _ade20k_shape),
    Dialect("Aperio XML", (b"<Annotations", b"<Region", b"<Vertex"), _aperio_images, _aperio_shape),
)
