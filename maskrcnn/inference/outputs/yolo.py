"""YOLO's segmentation labels, a text file an image."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maskrcnn.config import Category
from maskrcnn.inference.outputs.conversions import to_polygons
from maskrcnn.inference.outputs.item import Item, Writer
from maskrcnn.runtime.files import replacing


@contextlib.contextmanager
def writing_yolo(out_dir: Path, categories: tuple[Category, ...]) -> Iterator[Writer]:
    """Writes ``yolo/labels/NAME.txt`` and ``yolo/data.yaml`` with the classes.

    YOLO has one polygon an object: its parts are joined by lines there and back.
    """
    folder = out_dir / "yolo"
    indices = {category.index: number for number, category in enumerate(categories)}
    with replacing(folder / "data.yaml") as path:
        lines = ["path: .", "train: images", "val: images", "names:"]
        lines += [f"  {number}: {json.dumps(category.name)}" for number, category in enumerate(categories)]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def add(item: Item) -> None:
        height, width = item.detections.image_size
        lines = []
        for index, parts in zip(item.detections.classes.tolist(), to_polygons(item.detections), strict=True):
            if parts and index in indices:
                first, *others = parts
                rings = [first, *(np.concatenate([first[:1], part, part[:1]]) for part in others)]
                points = (np.concatenate(rings) / (width, height)).clip(0, 1)
                lines.append(" ".join([str(indices[index]), *(f"{value:.6g}" for value in points.ravel())]))
        with replacing(folder / "labels" / f"{item.name}.txt") as path:
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    yield add
