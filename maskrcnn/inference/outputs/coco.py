"""COCO results as JSON, and datasets in COCO's format, which annotation tools import."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from maskrcnn.config import Category
from maskrcnn.imaging.mask_paste import coco_mask
from maskrcnn.inference.outputs.conversions import to_polygons
from maskrcnn.inference.outputs.item import Item, Writer
from maskrcnn.input_files import as_text
from maskrcnn.runtime.files import replacing, writing_list

PREDICTIONS_FILE = "predictions.json"
ANNOTATIONS_FILE = "annotations.json"
POLYGONS_FILE = "polygons.json"


@contextlib.contextmanager
def writing_results(out_dir: Path) -> Iterator[Writer]:
    """Writes ``predictions.json``, a list of COCO results, image by image."""
    with writing_list(out_dir / PREDICTIONS_FILE) as add_result:

        def add(item: Item) -> None:
            source = {"file_name": as_text(item.file)} if item.file else {}
            for result in item.detections.to_coco(item.image_id):
                add_result({**result, **source, **item.extra})

        yield add


@contextlib.contextmanager
def writing_dataset(out_dir: Path, categories: tuple[Category, ...], *, polygons: bool = False) -> Iterator[Writer]:
    """Writes ``annotations.json``, a COCO dataset with run-length codes, or ``polygons.json``, one with polygons."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []

    def add(item: Item) -> None:
        height, width = item.detections.image_size
        file = item.listed_file
        images.append({"id": item.image_id, "file_name": file, "height": height, "width": width, **item.extra})
        outlines = to_polygons(item.detections) if polygons else []
        for i, result in enumerate(item.detections.to_coco(item.image_id)):
            segmentation = result["segmentation"]
            annotation = {**result, "area": int(coco_mask.area(segmentation)), "iscrowd": 0}
            if polygons:
                annotation["segmentation"] = [polygon.round(2).ravel().tolist() for polygon in outlines[i]]
            if annotation["area"]:
                annotations.append({"id": len(annotations) + 1, **annotation})

    with replacing(out_dir / (POLYGONS_FILE if polygons else ANNOTATIONS_FILE)) as path:
        yield add
        _shorten(images)
        listed = [{"id": category.id, "name": category.name} for category in categories]
        content = {"images": images, "annotations": annotations, "categories": listed}
        path.write_text(json.dumps(content), encoding="utf-8")


def _shorten(images: list[dict[str, Any]]) -> None:
    """Leaves out the folders of file names where no two images then have the same: annotation tools know no folders."""
    names = Counter(PurePath(image["file_name"]).name for image in images)
    if max(names.values(), default=1) == 1:
        for image in images:
            image["file_name"] = PurePath(image["file_name"]).name
