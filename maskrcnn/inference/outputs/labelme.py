"""labelme's files, one JSON an image, with polygons."""

import json
import os
from pathlib import Path

from maskrcnn.config import Category
from maskrcnn.inference.outputs.conversions import to_polygons
from maskrcnn.inference.outputs.item import Item
from maskrcnn.runtime.files import replacing

VERSION = "5.5.0"  # of labelme, whose fields these are


def write_labelme(item: Item, out_dir: Path, categories: tuple[Category, ...]) -> None:
    """Writes ``labelme/NAME.json``, which names the image by its path from there; parts of an object share a group."""
    folder = out_dir / "labelme"
    found = item.detections
    shapes = [
        {
            "label": name,
            "points": polygon.round(2).tolist(),
            "group_id": group if len(parts) > 1 else None,
            "description": f"score {score:.3f}",
            "shape_type": "polygon",
            "flags": {},
        }
        for group, (name, score, parts) in enumerate(
            zip(found.names, found.scores, to_polygons(found), strict=True), start=1
        )
        for polygon in parts
    ]
    height, width = found.image_size
    file = item.listed_file
    content = {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": os.path.relpath(file, folder) if "://" not in file else file,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    with replacing(folder / f"{item.name}.json") as path:
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
