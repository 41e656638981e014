"""Detections as polygons, crops and mask files, and as the objects of supervision and pandas."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from maskrcnn.imaging.large_image import Pixels
from maskrcnn.imaging.mask_paste import coco_mask
from maskrcnn.imaging.polygons import Polygon, trace_polygons
from maskrcnn.imaging.rle_crop import decode_crop, mask_place
from maskrcnn.runtime.extras import import_extra
from maskrcnn.runtime.files import replacing

if TYPE_CHECKING:
    from maskrcnn.config import Category
    from maskrcnn.inference.detections import Detections

COLUMNS = ("class_name", "score", "x1", "y1", "x2", "y2", "area_px", "track_id")  # of `to_rows`
DENSE_BYTES = 1 << 28  # 256 MiB: of more mask pixels supervision gets its compact form


def to_polygons(detections: "Detections", tolerance: float | None = None) -> list[list[Polygon]]:
    """See `Detections.to_polygons`."""
    found = []
    for rle in detections.rles:
        place = mask_place(rle)
        found.append([polygon + place[:2] for polygon in trace_polygons(decode_crop(rle, place), tolerance)])
    return found


def to_rows(detections: "Detections") -> list[dict[str, Any]]:
    """A dictionary of plain values for each detection."""
    tracks = [None] * len(detections) if detections.track_ids is None else detections.track_ids.tolist()
    areas = [int(coco_mask.area(rle)) for rle in detections.rles]  # of a list it takes up to 255
    fields = zip(detections.names, detections.scores, detections.boxes.tolist(), areas, tracks, strict=True)
    return [
        {
            "class_name": name,
            "score": round(float(score), 6),
            **dict(zip(("x1", "y1", "x2", "y2"), (round(value, 3) for value in box), strict=True)),
            "area_px": area,
            "track_id": track,
        }
        for name, score, box, area, track in fields
    ]


def to_dataframe(detections: "Detections") -> Any:
    """See `Detections.to_dataframe`."""
    return import_extra("pandas").DataFrame(to_rows(detections), columns=COLUMNS)


def to_supervision(detections: "Detections") -> Any:
    """See `Detections.to_supervision`."""
    supervision = import_extra("supervision")
    height, width = detections.image_size
    masks: Any = None
    if len(detections):
        if len(detections) * height * width <= DENSE_BYTES:
            masks = detections.masks
        else:
            places = np.array([mask_place(rle) for rle in detections.rles], np.float32) - (0, 0, 1, 1)
            masks = supervision.CompactMask.from_coco_rle(detections.rles, places, (height, width))
    return supervision.Detections(
        xyxy=detections.boxes.astype(np.float32),
        mask=masks,
        confidence=detections.scores.astype(np.float32),
        class_id=detections.classes.astype(int) - 1,
        tracker_id=None if detections.track_ids is None else detections.track_ids.astype(int),
        data={"class_name": np.array(detections.names, dtype=str)},
    )


def write_masks(detections: "Detections", folder: Path, name: str) -> list[Path]:
    """See `Detections.to_masks_png`."""
    folders = folder_names(detections.categories)
    height, width = detections.image_size
    files: list[Path] = []
    for i, (index, rle) in enumerate(zip(detections.classes.tolist(), detections.rles, strict=True), start=1):
        place = mask_place(rle)
        mask = Image.new("L", (width, height))
        mask.paste(Image.fromarray(decode_crop(rle, place).astype(np.uint8) * 255), place[:2])
        files.append(folder / folders.get(index, f"class {index}") / f"{name}_object_{i}.png")
        save_png(mask, files[-1])
    return files


def crop(detections: "Detections", image: Pixels, padding: int, *, masked: bool) -> list[Image.Image]:
    """See `Detections.crop`."""
    height, width = detections.image_size
    crops = []
    for box, rle in zip(detections.boxes, detections.rles, strict=True):
        left, top = (max(int(value) - padding, 0) for value in box[:2])
        right = min(max(int(np.ceil(box[2])) + padding, left + 1), width)
        bottom = min(max(int(np.ceil(box[3])) + padding, top + 1), height)
        pixels = Image.fromarray(np.asarray(image[top:bottom, left:right]))
        if masked:
            pixels.putalpha(Image.fromarray(decode_crop(rle, (left, top, right, bottom)).astype(np.uint8) * 255))
        crops.append(pixels)
    return crops


def save_png(image: Image.Image, path: Path) -> None:
    """Saves a PNG with compression level 1: several times as fast as the default, and a tenth larger."""
    with replacing(path) as temporary:
        image.save(temporary, compress_level=1)


def folder_names(categories: Iterable["Category"]) -> dict[int, str]:
    """A name of a folder for each class index: the category's own, where file systems allow it."""
    names: dict[int, str] = {}
    for category in categories:
        name = re.sub(r"[^\w \-.]", "_", category.name).strip(" .")[:100] or f"class {category.index}"
        taken = name.lower() in {other.lower() for other in names.values()}
        names[category.index] = f"{name}_{category.index}" if taken else name
    return names
