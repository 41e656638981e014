"""Images, masks and checks that the tests of the formats share."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as mask_utils

from maskrcnn.data.coco.segmentation import encode_rle, normalize_segmentation
from maskrcnn.data.formats.found_dataset import FoundDataset, RawSplit
from tests.ground_truth import evaluate_ground_truth

ORIENTATION = 0x0112
HEIGHT, WIDTH = 40, 64


def draw_image(path: Path, height: int = HEIGHT, width: int = WIDTH, *, orientation: int | None = None) -> Path:
    """Saves a gray image; ``height`` and ``width`` are those of the file's pixels, before EXIF's turning."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION] = orientation
    Image.new("RGB", (width, height), (90, 90, 90)).save(path, exif=exif)
    return path


def save_mask(path: Path, pixels: np.ndarray, mode: str = "L") -> Path:
    """Saves values as a gray ("L"), 16-bit ("I;16"), palette ("P") or color ("RGB") PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image = image.convert("L").copy()
        palette = Image.new("P", image.size)
        palette.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
        palette.frombytes(image.tobytes())
        image = palette
    image.save(path)
    return path


def rectangle_mask(left: int, top: int, right: int, bottom: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def polygon_mask(points: list[tuple[float, float]], size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Pillow's rasterization, independent of pycocotools'."""
    image = Image.new("1", (size[1] * 8, size[0] * 8))
    ImageDraw.Draw(image).polygon([(x * 8, y * 8) for x, y in points], fill=1)
    return np.asarray(image).reshape(size[0], 8, size[1], 8).mean((1, 3)) > 0.5


def masks_of(split: RawSplit, file_name: str) -> list[np.ndarray]:
    """The masks of an image, in the order of its annotations."""
    image = next(image for image in split.content["images"] if Path(image["file_name"]).name == file_name)
    annotations = [entry for entry in split.content["annotations"] if entry["image_id"] == image["id"]]
    return [decode(entry["segmentation"], image["height"], image["width"]) for entry in annotations]


def decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    assert normalize_segmentation(segmentation, (height, width), pytest.fail) == segmentation
    rle: Any = encode_rle(segmentation, height, width)
    return mask_utils.decode(rle).astype(bool)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def class_counts(split: RawSplit) -> dict[str, int]:
    names = {category["id"]: category["name"] for category in split.content["categories"]}
    counts = dict.fromkeys(names.values(), 0)
    for entry in split.content["annotations"]:
        counts[names[entry["category_id"]]] += 1
    return counts


def read_all(dataset: FoundDataset | None) -> dict[str, RawSplit]:
    """The splits by name, each checked: ids, files, sizes as Pillow decodes them, categories alike."""
    assert dataset is not None
    splits = {split.name: split.read() for split in dataset.splits}
    for split, found in zip(splits.values(), dataset.splits, strict=True):
        assert found.list_files()
        assert all(path.is_file() for path in found.list_files())
        assert split.content["categories"] == next(iter(splits.values())).content["categories"]
        for entry in split.content["images"]:
            with Image.open(split.image_dir / entry["file_name"]) as image:
                turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
                assert (entry["width"], entry["height"]) == (image.size[::-1] if turned else image.size)
        ids = [entry["id"] for entry in split.content["annotations"]]
        assert len(set(ids)) == len(ids)
    return splits


def average_precision(split: RawSplit, folder: Path) -> tuple[float, float]:
    """AP of boxes and masks of the split's ground truth, written as COCO JSON, taken as detections."""
    path = folder / "as_coco.json"
    path.write_text(json.dumps(split.content))
    metrics = evaluate_ground_truth(path)
    return round(metrics["bbox"]["AP"], 12), round(metrics["segm"]["AP"], 12)
