"""Cityscapes, KITTI and KITTI MOTS: class and number of an object in one value."""

import numpy as np

from maskrcnn.data.formats.encoded_ids import CITYSCAPES, KITTI, MOTS
from maskrcnn.data.formats.png_masks import find
from tests.data.formats.drawing import class_counts, draw_image, iou, masks_of, read_all, rectangle_mask, save_mask

OBJECTS = [rectangle_mask(4, 4, 20, 20), rectangle_mask(22, 10, 40, 36), rectangle_mask(45, 0, 64, 9)]


def id_map(values, background):
    pixels = np.full((40, 64), background)
    for mask, value in zip(OBJECTS, values, strict=True):
        pixels[mask] = value
    return pixels


def test_cityscapes(tmp_path):
    for split, city in (("train", "aachen"), ("val", "munster")):
        stem = f"{city}_000000_000019"
        draw_image(tmp_path / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png")
        fine = tmp_path / f"gtFine/{split}/{city}/{stem}_gtFine"
        save_mask(fine.with_name(f"{fine.name}_instanceIds.png"), id_map([26001, 24000, 26], 7), "I;16")
        save_mask(fine.with_name(f"{fine.name}_labelIds.png"), id_map([26, 24, 26], 7))
        save_mask(fine.with_name(f"{fine.name}_color.png"), id_map([1, 2, 3], 0))
    dataset = find(tmp_path)
    splits = read_all(dataset)
    assert (dataset.format, list(splits)) == ("Cityscapes", ["train", "val"])
    counts = class_counts(splits["train"])
    assert {name: count for name, count in counts.items() if count} == {"car": 2, "person": 1}
    crowds = [entry["iscrowd"] for entry in splits["train"].content["annotations"]]
    assert sorted(crowds) == [0, 0, 1]  # the bare class is a group of cars
    found = masks_of(splits["train"], "aachen_000000_000019_leftImg8bit.png")
    assert sorted(max(iou(mask, other) for other in found) for mask in OBJECTS) == [1.0, 1.0, 1.0]


def test_kitti(tmp_path):
    draw_image(tmp_path / "training/image_2/000000_10.png")
    save_mask(
        tmp_path / "training/instance/000000_10.png", id_map([26 * 256 + 1, 24 * 256 + 1, 26 * 256], 7 * 256), "I;16"
    )
    save_mask(tmp_path / "training/semantic/000000_10.png", id_map([26, 24, 26], 7))
    dataset = find(tmp_path)
    split = read_all(dataset)["train"]
    assert dataset.format == "KITTI"
    assert {name: count for name, count in class_counts(split).items() if count} == {"car": 2, "person": 1}
    assert sorted(entry["iscrowd"] for entry in split.content["annotations"]) == [0, 0, 1]


def test_kitti_mots(tmp_path):
    for video in ("0000", "0001"):
        draw_image(tmp_path / f"training/image_02/{video}/000000.png")
        save_mask(tmp_path / f"instances/{video}/000000.png", id_map([1000, 2003, 10000], 0), "I;16")
    dataset = find(tmp_path)
    split = read_all(dataset)["train"]
    assert dataset.format == "KITTI MOTS"
    assert class_counts(split) == {"car": 2, "pedestrian": 2}


def test_values():
    assert [CITYSCAPES.decode(value) for value in (0, 7, 26, 26000, 26123, 40000)] == [
        None, None, ("car", True), ("car", False), ("car", False), None]  # fmt: skip
    assert [KITTI.decode(value) for value in (0, 26, 26 * 256, 26 * 256 + 3)] == [
        None,
        None,
        ("car", True),
        ("car", False),
    ]
    assert [MOTS.decode(value) for value in (0, 1, 1000, 2001, 10000)] == [
        None, None, ("car", False), ("pedestrian", False), None]  # fmt: skip
