"""The ground truth of an evaluation: COCO JSON, checked like any dataset, as COCOeval reads it."""

import functools
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_utils

from maskrcnn.data.coco.annotations import Annotation, load_coco, warn
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.coco.segmentation import encode_rle
from maskrcnn.input_files import open_regular

logger = logging.getLogger("maskrcnn")


def load_ground_truth(annotation_file: str | Path) -> dict[str, list[dict[str, Any]]]:
    """COCO's three lists, every annotation complete and its mask a run-length code; to be left unchanged.

    Annotations that cannot be used are left out, which is logged. The last file that was read is kept until it changes.

    Raises:
        UserError: the file is not COCO JSON.
    """
    path = Path(annotation_file)
    with open_regular(path) as file:
        state = os.fstat(file.fileno())
    return _load(path, state.st_ino, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _load(path: Path, *_: int) -> dict[str, list[dict[str, Any]]]:
    dataset = load_coco(path, None, skip_bad=True)
    annotations = [
        _complete(annotation, image) for image in dataset.images for annotation in dataset.annotations.get(image.id, ())
    ]
    warn([problem for problem in dataset.problems if problem.is_loss])
    crowds = sum(entry["iscrowd"] for entry in annotations)
    if crowds == len(annotations):
        found = (
            f"all {crowds} annotations are crowds" if crowds else f"none of {dataset.totals['annotation']} can be used"
        )
        logger.warning("%s: %s, so that no metric is defined; give other annotations", path, found)
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
