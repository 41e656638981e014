"""The ground truth of an evaluation: COCO JSON, checked like any dataset, as COCOeval reads it."""

import functools
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_utils

from maskrcnn.data.coco.annotations import coco_content, load_coco, warn
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
    annotations = []
    for image in dataset.images:
        for annotation in dataset.annotations.get(image.id, ()):
            rle: Any = encode_rle(annotation.segmentation, image.height, image.width)
            area = float(mask_utils.area(rle)) if annotation.area is None else annotation.area
            annotations.append(annotation.to_coco(rle, area))
    warn([problem for problem in dataset.problems if problem.is_loss])
    crowds = sum(entry["iscrowd"] for entry in annotations)
    if crowds == len(annotations):
        found = (
            f"all {crowds} annotations are crowds" if crowds else f"none of {dataset.totals['annotation']} can be used"
        )
        logger.warning("%s: %s, so that no metric is defined; give other annotations", path, found)
    return coco_content([asdict(image) for image in dataset.images], annotations, dataset.categories)
