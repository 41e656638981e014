import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.formats.recognize import recognize
from tests.data.formats.drawing import (
    average_precision,
    class_counts,
    draw_image,
    iou,
    masks_of,
    read_all,
    rectangle_mask,
    save_mask,
)

OBJECTS = [rectangle_mask(4, 4, 20, 20), rectangle_mask(22, 10, 40, 36), rectangle_mask(45, 0, 64, 9)]
COLORS = [(140, 25, 143, 255), (0, 0, 7, 255), (25, 140, 7, 255)]
NAMES = ["cat", "dog", "cat"]


def draw_frame(folder, number, count=3, *, colored=True, image="rgb_{}.png"):
    draw_image(folder / image.format(number))
    prefix = "instance_segmentation"
    if colored:
        pixels = np.zeros((40, 64, 4), np.uint8)
        pixels[20:] = (0, 0, 0, 255)  # unlabelled
        for mask, color in zip(OBJECTS[:count], COLORS, strict=False):
            pixels[mask] = color
        Image.fromarray(pixels).save(folder / f"{prefix}_{number}.png")
        keys = ["(0, 0, 0, 0)", "(0, 0, 0, 255)", *map(str, COLORS)]
    else:
        pixels = sum((mask * value for value, mask in enumerate(OBJECTS[:count], start=2)), np.zeros((40, 64), int))
        pixels[39] = 1  # unlabelled
        save_mask(folder / f"{prefix}_{number}.png", pixels, "I;16")
        keys = ["0", "1", "2", "3", "4"]
    names = dict(zip(keys, ({"class": name} for name in ("BACKGROUND", "UNLABELLED", *NAMES)), strict=True))
    (folder / f"{prefix}_semantics_mapping_{number}.json").write_text(json.dumps(names))
    (folder / f"{prefix}_mapping_{number}.json").write_text(json.dumps({key: "/World/x" for key in keys}))


@pytest.mark.parametrize("colored", [True, False])
def test_frames(tmp_path, colored):
    for number in range(4):
        draw_frame(tmp_path, f"{number:04}", number, colored=colored)
    dataset = recognize(tmp_path)
    split = read_all(dataset)["all"]
    assert dataset.format == "Omniverse Replicator"
    assert class_counts(split) == {"cat": 4, "dog": 2}
    assert len(split.content["images"]) == 4  # one without objects
    found = masks_of(split, "rgb_0003.png")
    assert sorted(max(iou(mask, other) for other in found) for mask in OBJECTS) == [1.0, 1.0, 1.0]
    assert len(dataset.splits[0].list_files()) == 8
    assert split.notes == []
    assert average_precision(split, tmp_path) == (1.0, 1.0)


def test_cameras_and_splits(tmp_path):
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            folder = tmp_path / split / "Camera/instance_segmentation"
            draw_frame(folder, f"{number:04}", image="../rgb/rgb_{}.png")
    splits = read_all(recognize(tmp_path))
    assert {name: class_counts(split) for name, split in splits.items()} == {
        "train": {"cat": 4, "dog": 2},
        "val": {"cat": 2, "dog": 1},
    }


def test_problems_are_counted(tmp_path):
    for number in range(5):
        draw_frame(tmp_path, f"{number}")
    mapping = tmp_path / "instance_segmentation_semantics_mapping_{}.json"
    (tmp_path / "rgb_0.png").unlink()
    (tmp_path / "instance_segmentation_1.png").unlink()
    draw_image(tmp_path / "rgb_2.png", 8, 8)
    (tmp_path / mapping.name.format(3)).write_text('{"(0, 0, 0, 0)": 7}')
    (tmp_path / mapping.name.format(4)).write_text(json.dumps({str(COLORS[0]): {"class": "cat"}, "x": {}}))
    split = read_all(recognize(tmp_path))["all"]
    assert class_counts(split) == {"cat": 1}
    assert [note.partition(" (first")[0] for note in split.notes] == [
        "frames skipped whose rgb_, instance_segmentation_ or mapping file is missing or does not fit: 4",
        "objects skipped whose class is not named: 2",
    ]
