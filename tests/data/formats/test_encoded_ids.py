"""Cityscapes, KITTI, Mapillary Vistas, ADE20K and BBBC039: values that tell more than the number of an object."""

import json

import numpy as np
import pytest

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


def test_mots_of_cvat_has_classes_of_its_own(tmp_path):
    draw_image(tmp_path / "train/images/frame_000000.png")
    save_mask(tmp_path / "train/instances/frame_000000.png", id_map([1000, 1001, 2000], 0), "I;16")
    (tmp_path / "train/instances/labels.txt").write_text("cell\nnucleus\n")
    split = read_all(find(tmp_path))["train"]
    assert class_counts(split) == {"cell": 2, "nucleus": 1}


@pytest.mark.parametrize("config", ["config.json", "config_v1.2.json"])
def test_mapillary_vistas(tmp_path, config):
    labels = [("Bird", True), ("Curb", False), ("Car", True)]
    listed = [{"readable": name, "instances": has_objects} for name, has_objects in labels]
    (tmp_path / config).write_text(json.dumps({"labels": listed}))
    for split in ("training", "validation"):
        draw_image(tmp_path / f"{split}/images/a.jpg")
        save_mask(tmp_path / f"{split}/instances/a.png", id_map([1, 2 * 256 + 1, 2 * 256 + 2], 256), "I;16")
        save_mask(tmp_path / f"{split}/labels/a.png", id_map([0, 2, 2], 1))
        save_mask(tmp_path / f"{split}/panoptic/a.png", np.stack([id_map([3, 4, 5], 9)] * 3, -1))
    dataset = find(tmp_path)
    splits = read_all(dataset)
    assert (dataset.format, list(splits)) == ("Mapillary Vistas", ["train", "val"])
    assert class_counts(splits["train"]) == {"Bird": 1, "Car": 2}
    found = masks_of(splits["train"], "a.jpg")
    assert sorted(max(iou(mask, other) for other in found) for mask in OBJECTS) == [1.0, 1.0, 1.0]


def test_the_config_of_the_version_of_mapillary_vistas(tmp_path):
    for version, name in (("v1.2", "Bird"), ("v2.0", "Car")):
        listed = {"labels": [{"readable": name, "instances": True}]}
        (tmp_path / f"config_{version}.json").write_text(json.dumps(listed))
    draw_image(tmp_path / "training/images/a.jpg")
    save_mask(tmp_path / "training/v2.0/instances/a.png", id_map([1, 2, 3], 1), "I;16")
    assert class_counts(read_all(find(tmp_path))["train"]) == {"Car": 3}


@pytest.mark.parametrize("names", [None, "Instance_id\tSemantic_id\tname\n1\t8\tbed\n2\t9\twindowpane, window\n"])
def test_instances_of_ade20k(tmp_path, names):
    colors = np.zeros((40, 64, 3), int)
    for mask, color in zip(OBJECTS, [(1, 1, 0), (1, 2, 0), (2, 3, 0)], strict=True):
        colors[mask] = color
    for split in ("training", "validation"):
        draw_image(tmp_path / f"images/{split}/a.jpg")
        save_mask(tmp_path / f"annotations_instance/{split}/a.png", colors)
        save_mask(tmp_path / f"annotations/{split}/a.png", id_map([8, 8, 9], 1))
    if names:
        (tmp_path / "categoryMapping.txt").write_text(names)
    splits = read_all(find(tmp_path))
    counts = {name: count for name, count in class_counts(splits["val"]).items() if count}
    assert counts == ({"bed": 2, "windowpane, window": 1} if names else {"class 1": 2, "class 2": 1})


def draw_reds(root, values):
    """BBBC039: objects that do not touch share a shade of red."""
    reds = id_map(values, 0)[..., None] * (1, 0, 0, 0) + (0, 0, 0, 255)
    for stem in ("IXMtest_A02", "IXMtest_B03"):
        draw_image(root / f"images/{stem}.tif")
        save_mask(root / f"masks/{stem}.png", reds)


@pytest.mark.parametrize("values", [[1, 1, 2], [1, 1, 1], [1, 2, 3]])
def test_bbbc039(tmp_path, values):
    draw_reds(tmp_path, values)
    assert values != [1, 1, 2] or class_counts(read_all(find(tmp_path))["all"]) == {"object": 4}  # with no such list
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/training.txt").write_text("IXMtest_A02.png\n")
    (tmp_path / "metadata/validation.txt").write_text("IXMtest_B03.png\n")
    dataset = find(tmp_path)
    splits = read_all(dataset)
    assert (dataset.format, list(splits)) == ("BBBC039", ["train", "val"])
    assert class_counts(splits["train"]) == class_counts(splits["val"]) == {"object": 3}
    found = masks_of(splits["val"], "IXMtest_B03.tif")
    assert sorted(max(iou(mask, other) for other in found) for mask in OBJECTS) == [1.0, 1.0, 1.0]


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


@pytest.mark.parametrize(
    ("image", "mask", "factor"),
    [
        ("leftImg8bit/default/a_leftImg8bit.png", "gtFine/default/a_gtFine_instanceIds.png", 1000),
        ("default/image_2/a.png", "default/instance/a.png", 256),
    ],
)
def test_forms_of_cityscapes_and_kitti_with_other_classes(tmp_path, image, mask, factor):
    draw_image(tmp_path / image)  # of CVAT
    save_mask(tmp_path / mask, id_map([factor + 1, factor + 2, 9 * factor + 1], 0), "I;16")
    (tmp_path / "default/semantic").mkdir(parents=True, exist_ok=True)
    (tmp_path / "label_colors.txt").write_text("0 0 0 background\n50 50 50 wild cat\n")
    (split,) = read_all(find(tmp_path)).values()
    assert class_counts(split) == {"wild cat": 2}
    assert split.notes == [f"objects skipped whose class has no name: 1 (first: {tmp_path / mask})"]


def test_semantic_masks_of_roboflow(tmp_path):
    for split in ("train", "valid"):
        draw_image(tmp_path / f"{split}/a_jpg.rf.1.jpg")
        save_mask(tmp_path / f"{split}/a_jpg.rf.1_mask.png", id_map([1, 2, 1], 0))
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    dataset = find(tmp_path)
    splits = read_all(dataset)
    assert dataset.format == "Roboflow semantic masks"
    assert [class_counts(splits[name]) for name in ("train", "val")] == [{"cat": 2, "dog": 1}] * 2
    assert "each connected part is read as an object" in splits["val"].notes[0]
