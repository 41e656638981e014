"""A small COCO folder, written anew for each test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import DataConfig
from maskrcnn.data.splits import Dataset, find_dataset

SIZES = [(40, 64), (64, 40), (48, 48), (30, 60), (60, 30)]  # height, width


class CocoFolder:
    """COCO JSON in memory and on the disk; ``content`` may be changed before ``write``."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.images = root / name
        self.path = root / "annotations" / f"instances_{name}.json"
        self.content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}

    def add_image(self, image_id: int, height: int, width: int, *, suffix: str = ".jpg") -> None:
        pixels = np.random.default_rng(image_id).integers(0, 256, (height, width, 3), np.uint8)
        self.images.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(self.images / f"{image_id}{suffix}")
        entry = {"id": image_id, "file_name": f"{image_id}{suffix}", "height": height, "width": width}
        self.content["images"].append(entry)

    def add_box(self, image: int, category: int, box: list[float], **changes: Any) -> dict[str, Any]:
        """An annotation whose mask fills its box."""
        x, y, w, h = box
        entry = {
            "id": len(self.content["annotations"]) + 1,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            "area": w * h,
            "iscrowd": 0,
            **changes,
        }
        self.content["annotations"].append(entry)
        return entry

    def dataset(self, **options: Any) -> Dataset:
        """The dataset as training finds it; all images are for training unless the options say otherwise."""
        return find_dataset(self.root, DataConfig(**{"val_fraction": 0.0, **options}))

    def write(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content))
        return self.path


@pytest.fixture
def coco(tmp_path: Path) -> CocoFolder:
    """Five images of both orientations, categories 0, 7 and 90; the third image has no objects."""
    folder = CocoFolder(tmp_path / "data", "train")
    folder.content["categories"] = [{"id": 90, "name": "cat"}, {"id": 0, "name": "dog"}, {"id": 7, "name": "cow"}]
    for number, (height, width) in enumerate(SIZES):
        folder.add_image(100 + number, height, width)
        if number != 2:
            folder.add_box(100 + number, (90, 0, 0, 7, 90)[number], [4.5, 6, 20, 10])
    folder.write()
    return folder
