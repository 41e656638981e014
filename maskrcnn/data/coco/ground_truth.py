"""The ground truth of an evaluation: COCO JSON, checked like any dataset, as COCOeval reads it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_utils

from maskrcnn.data.coco.annotations import Annotation, load_coco
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.coco.segmentation import encode_rle


def load_ground_truth(annotation_file: str | Path) -> dict[str, list[dict[str, Any]]]:
    """COCO's three lists, every annotation complete and its mask a run-length code; unusable ones are left out.

    Raises:
        UserError: the file is not COCO JSON.
    """
    dataset = load_coco(annotation_file, None, skip_bad=True)
    annotations = [
        _complete(annotation, image) for image in dataset.images for annotation in dataset.annotations.get(image.id, ())
    ]
    return {
        "images": [asdict(image) for image in dataset.images],
        # numbered from 1: COCOeval takes 0 for "not matched", and two that are equal for one object
        "annotations": [{**entry, "id": number} for number, entry in enumerate(annotations, start=1)],
        "categories": [{"id": category.id, "name": category.name} for category in dataset.categories],
    }


def _complete(annotation: Annotation, image: ImageEntry) -> dict[str, Any]:
    rle: Any = encode_rle(annotation.segmentation, image.height, image.width)
    x1, y1, x2, y2 = annotation.box
    return {
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": rle,
        "area": float(mask_utils.area(rle)) if annotation.area is None else annotation.area,
        "iscrowd": int(annotation.is_crowd),
    }
