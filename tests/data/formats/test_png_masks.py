import numpy as np
import pytest
from PIL import Image, ImageFilter

from maskrcnn.data.formats.png_masks import find
from maskrcnn.errors import UserError
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
NO_OBJECT = np.zeros((40, 64), bool)


def draw_per_image(root, name, masks):
    """DSB 2018: a folder an image, a PNG an object."""
    draw_image(root / name / "images" / f"{name}.png")
    (root / name / "masks").mkdir(parents=True)
    for number, mask in enumerate(masks):
        save_mask(root / name / "masks" / f"{number}.png", mask * 255)


def id_map(count, values=None):
    values = (values or [1, 2, 3])[:count]
    return sum((mask * value for mask, value in zip(OBJECTS[:count], values, strict=True)), np.zeros((40, 64), int))


def test_a_folder_an_image(tmp_path):
    for number in range(4):
        draw_per_image(tmp_path, f"n{number}", OBJECTS[:number])
    dataset = find(tmp_path)
    split = read_all(dataset)["all"]
    assert dataset.format == "PNG masks, one for each object"
    assert class_counts(split) == {"object": 6}
    assert len(split.content["images"]) == 4  # one without objects
    assert [iou(mask, OBJECTS[number]) for number, mask in enumerate(masks_of(split, "n3.png"))] == [1.0, 1.0, 1.0]
    assert len(dataset.splits[0].list_files()) == 6
    assert split.notes == []
    assert average_precision(split, tmp_path) == (1.0, 1.0)


def test_a_folder_an_image_with_splits(tmp_path):
    for split, count in (("stage1_train", 3), ("stage1_val", 2)):
        for number in range(count):
            draw_per_image(tmp_path / split, f"n{number}", OBJECTS)
    draw_image(tmp_path / "stage1_test/t/images/t.png")
    splits = read_all(find(tmp_path))
    assert {name: len(split.content["annotations"]) for name, split in splits.items()} == {"train": 9, "val": 6}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("image.png", "mask_{}.png"),
        ("img.jpg", "mask{}.png"),
        ("cat.png", "object-{}.tif"),
        ("rgb.png", "masks/{}.png"),
    ],
)
def test_a_folder_an_image_with_masks_beside_it(tmp_path, image, mask):
    for split, counts in {"train": (1, 2, 3), "val": (2,)}.items():
        for place, count in enumerate(counts):
            draw_image(tmp_path / split / f"sample_{place}" / image)
            for number in range(count):
                save_mask(tmp_path / split / f"sample_{place}" / mask.format(number + 1), OBJECTS[number] * 255)
    splits = read_all(find(tmp_path))
    assert {name: class_counts(split) for name, split in splits.items()} == {
        "train": {"object": 6},
        "val": {"object": 2},
    }
    assert len(splits["train"].content["images"]) == 3
    assert [iou(found, OBJECTS[number]) for number, found in enumerate(masks_of(splits["val"], image))] == [1.0, 1.0]
    assert not any(split.notes for split in splits.values())
    assert average_precision(splits["train"], tmp_path) == (1.0, 1.0)


def test_an_image_without_masks_is_counted_where_others_have_theirs_beside_them(tmp_path):
    for name in ("a", "b", "c"):
        draw_image(tmp_path / f"{name}/image.png")
    for number in range(2):
        save_mask(tmp_path / f"a/mask_{number}.png", OBJECTS[number] * 255)
        save_mask(tmp_path / f"b/mask_{number}.png", OBJECTS[number] * 255)
    split = read_all(find(tmp_path))["all"]
    assert [image["file_name"] for image in split.content["images"]] == ["a/image.png", "b/image.png"]
    assert split.notes == [f"images left out that have no mask: 1 (first: {tmp_path / 'c/image.png'})"]


def test_a_folder_an_image_with_a_map_beside_it(tmp_path):
    for number in range(3):
        draw_image(tmp_path / f"{number}/image.png")
        save_mask(tmp_path / f"{number}/mask.png", id_map(number + 1))
    dataset = find(tmp_path)
    assert dataset.format == "PNG masks, one for each image"
    assert class_counts(read_all(dataset)["all"]) == {"object": 6}
    for number in range(3):
        save_mask(tmp_path / f"{number}/mask.png", (OBJECTS[0] | OBJECTS[1]) * 255)
    assert class_counts(read_all(find(tmp_path))["all"]) == {"object": 6}


def test_numbered_masks_beside_several_images_are_of_none(tmp_path):
    for stem in ("cat", "dog", "mask_1", "mask_2"):
        draw_image(tmp_path / f"photos/{stem}.png")
    assert find(tmp_path) is None
    for stem in ("mask_1", "mask_2"):
        save_mask(tmp_path / f"photos/{stem}.png", OBJECTS[0] * 255)
    assert find(tmp_path) is None
    save_mask(tmp_path / "alone/bird_mask.png", OBJECTS[0] * 255)
    draw_image(tmp_path / "alone/dog.png")
    assert find(tmp_path) is None


def test_an_outer_folder_of_an_archive(tmp_path):
    for number in range(2):
        draw_per_image(tmp_path / "nuclei", f"n{number}", OBJECTS)
        draw_image(tmp_path / f"cats/cats-2/images/{number}.jpg")
        save_mask(tmp_path / f"cats/cats-2/masks/{number}.png", id_map(number + 1))
    assert class_counts(read_all(find(tmp_path / "cats"))["all"]) == {"object": 3}
    (tmp_path / "wrapped").mkdir()
    (tmp_path / "nuclei").rename(tmp_path / "wrapped/nuclei")
    assert class_counts(read_all(find(tmp_path / "wrapped"))["all"]) == {"object": 6}


@pytest.mark.parametrize(
    ("mode", "values"),
    [("L", None), ("P", None), ("I;16", [300, 7, 65535]), ("L", [60, 120, 250]), ("RGB", None)],
)
def test_ids_of_objects(tmp_path, mode, values):
    for number in range(4):
        pixels = id_map(number, values)
        if mode == "RGB":
            pixels = np.array([(0, 0, 0), (0, 0, 9), (200, 0, 9), (9, 9, 9)], np.uint8)[pixels]
        draw_image(tmp_path / f"images/{number}.jpg")
        save_mask(tmp_path / f"masks/{number}.png", pixels, mode)
    dataset = find(tmp_path)
    split = read_all(dataset)["all"]
    assert dataset.format == "PNG masks, one for each image"
    assert class_counts(split) == {"object": 6}
    found = masks_of(split, "3.jpg")
    assert sorted(max(iou(mask, other) for other in found) for mask in OBJECTS) == [1.0, 1.0, 1.0]
    assert average_precision(split, tmp_path) == (1.0, 1.0)


def test_an_object_in_several_parts_is_one(tmp_path):
    draw_image(tmp_path / "images/0.jpg")
    save_mask(tmp_path / "masks/0.png", OBJECTS[0] * 1 + OBJECTS[1] * 2 + OBJECTS[2] * 1)
    masks = masks_of(read_all(find(tmp_path))["all"], "0.jpg")
    assert iou(masks[0], OBJECTS[0] | OBJECTS[2]) == iou(masks[1], OBJECTS[1]) == 1.0


@pytest.mark.parametrize("name", ["{}_1", "{}-1", "{}_mask_1", "{}/1", "{}_object1", "{}_007"])
def test_a_mask_an_object_named_after_its_image(tmp_path, name):
    for stem in ("cat_a", "cat_b"):
        draw_image(tmp_path / f"Images/{stem}.jpg")
        save_mask(tmp_path / "Masks" / f"{name.format(stem)}.png", OBJECTS[0] * 255)
        save_mask(tmp_path / "Masks" / f"{name.format(stem)}2.png", OBJECTS[1])
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"object": 4}
    assert iou(masks_of(split, "cat_a.jpg")[0], OBJECTS[0]) == 1.0
    assert split.notes == []


@pytest.mark.parametrize("name", ["{}", "{}_mask", "{}_instances", "{}_label"])
def test_a_map_an_image_named_after_it(tmp_path, name):
    for stem in "ab":
        draw_image(tmp_path / f"imgs/{stem}.png")
        save_mask(tmp_path / "labels" / f"{name.format(stem)}.png", id_map(3))
    assert class_counts(read_all(find(tmp_path))["all"]) == {"object": 6}


@pytest.mark.parametrize(("images", "masks"), [("{}/images", "{}/masks"), ("images/{}", "masks/{}")])
def test_splits(tmp_path, images, masks):
    for split, stems in (("train", "abc"), ("val", "a"), ("test", "ab")):
        for stem in stems:
            draw_image(tmp_path / images.format(split) / f"{stem}.jpg")
            save_mask(tmp_path / masks.format(split) / f"{stem}.png", id_map(2))
    splits = read_all(find(tmp_path))
    assert {name: len(split.content["annotations"]) for name, split in splits.items()} == {
        "train": 6,
        "val": 2,
        "test": 4,
    }


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("PNGImages/{}.png", "PedMasks/{}_mask.png"),  # Penn-Fudan
        ("A1/{}_rgb.png", "A1/{}_label.png"),  # CVPPP
        ("{}_img.png", "{}_masks.png"),  # Cellpose
        ("{}.tif", "{}_cp_masks.png"),  # its program
        ("detection/train/images/{}.png", "detection/train/masks/{}.png"),  # MinneApple
        ("train/{}.jpg", "train_masks/{}_mask.gif"),  # Carvana
        ("human bladder/tissue images/{}.png", "human bladder/label masks/{}.tif"),  # NuInsSeg
        ("train/img/{}.png", "train/label/{}.png"),  # StrawDI
        ("images/training/{}.jpg", "annotations_instance/training/{}.png"),  # ADE20K
        ("{}.jpg", "{}_label_ground-truth.png"),  # Segments.ai
        ("BF/{}_im.tif", "BF/{}_mask.tif"),  # YeaZ
        ("imgs/{}.jpeg", "gt_inst/{}.jpeg.png"),
        ("traincrop/{}.jpg", "traincrop/{}.png"),  # Crack500
    ],
)
def test_pairs_of_public_datasets(tmp_path, image, mask):
    for stem in ("a0001", "b0002"):
        draw_image(tmp_path / image.format(stem))
        save_mask(tmp_path / mask.format(stem), id_map(3))
        save_mask(tmp_path / mask.replace("label.", "fg.").format(stem), id_map(3) > 0) if "A1" in mask else None
    (split,) = read_all(find(tmp_path)).values()
    assert class_counts(split) == {"object": 6}
    assert len(split.content["images"]) == 2
    assert split.notes == []


@pytest.mark.parametrize(
    ("image", "mask"),
    [("images/image_{}.png", "masks/mask_{}.png"), ("img/{}.tif", "seg/seg{}.tif"), ("a/im{}.jpg", "a/labels/L{}.png")],
)
def test_numbers_tell_where_the_rest_of_a_name_is_image_or_mask(tmp_path, image, mask):
    mask = mask.replace("L", "label")
    for number in range(3):
        draw_image(tmp_path / image.format(f"{number:03}"))
        save_mask(tmp_path / mask.format(f"{number:03}"), id_map(2))
    (split,) = read_all(find(tmp_path)).values()
    assert class_counts(split) == {"object": 6}
    assert split.notes == []


def test_numbered_masks_beside_their_image(tmp_path):
    for number in (1, 2):  # BUSI
        draw_image(tmp_path / f"benign/benign ({number}).png")
        save_mask(tmp_path / f"benign/benign ({number})_mask.png", OBJECTS[0] * 255)
    save_mask(tmp_path / "benign/benign (1)_mask_1.png", OBJECTS[1] * 255)
    (split,) = read_all(find(tmp_path)).values()
    assert [len(masks_of(split, f"benign ({number}).png")) for number in (1, 2)] == [2, 1]
    assert len(split.content["images"]) == 2


def test_numbered_files_have_the_class_of_their_folder(tmp_path):
    for name, objects in {"benign": 1, "malignant": 2, "normal": 0}.items():  # BUSI
        for number in (1, 2):
            draw_image(tmp_path / f"{name}/{name} ({number}).png")
            save_mask(tmp_path / f"{name}/{name} ({number})_mask.png", OBJECTS[0] * 255 * min(objects, 1))
        if objects == 2:
            save_mask(tmp_path / f"{name}/{name} (1)_mask_1.png", OBJECTS[1] * 255)
    (split,) = read_all(find(tmp_path)).values()
    assert {name: count for name, count in class_counts(split).items() if count} == {"benign": 2, "malignant": 3}
    assert len(split.content["images"]) == 6


def test_a_photograph_of_the_same_name_is_no_mask(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3))
    for number in range(2):
        draw_image(tmp_path / f"{number}.jpg")
        save_mask(tmp_path / f"{number}.png", noise)
    assert find(tmp_path) is None


def test_versions_of_the_masks_must_be_chosen_from(tmp_path):
    for split in ("training", "validation"):  # Mapillary Vistas 2
        draw_image(tmp_path / f"{split}/images/a.jpg")
        for version in ("v1.2", "v2.0"):
            save_mask(tmp_path / f"{split}/{version}/instances/a.png", id_map(2))
    with pytest.raises(UserError, match=r"several sorts of masks \(v1.2/instances, v2.0/instances\); keep the one"):
        find(tmp_path)


def test_black_and_white_masks_as_jpeg(tmp_path):
    mask = np.zeros((200, 300), bool)
    mask[40:150, 50:240] = True
    for stem in "abc":  # Kvasir-SEG
        draw_image(tmp_path / f"images/{stem}.jpg", 200, 300)
        save_mask(tmp_path / f"masks/{stem}.jpg", mask * (0 if stem == "c" else 255))
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"object": 2}
    assert iou(masks_of(split, "a.jpg")[0], mask) > 0.98


def test_numbers_as_jpeg_are_not_masks(tmp_path):
    for stem in "ab":
        draw_image(tmp_path / f"images/{stem}.jpg")
        save_mask(tmp_path / f"masks/{stem}.jpg", id_map(3, [80, 120, 240]))
    assert find(tmp_path) is None


def test_exact_masks_go_before_jpeg(tmp_path):
    for stem in "ab":
        draw_image(tmp_path / f"images/{stem}.jpg")
        save_mask(tmp_path / f"masks/{stem}.jpg", id_map(3) * 80)
        save_mask(tmp_path / f"masks/{stem}.png", id_map(3))
    assert class_counts(read_all(find(tmp_path))["all"]) == {"object": 6}


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float64", "bool"])
def test_arrays_of_numpy(tmp_path, dtype):
    for stem in "ab":
        draw_image(tmp_path / f"images/{stem}.jpg")
        (tmp_path / "masks").mkdir(exist_ok=True)
        np.save(tmp_path / f"masks/{stem}.npy", id_map(3).astype(dtype))
    assert class_counts(read_all(find(tmp_path))["all"]) == {"object": 6}


@pytest.mark.parametrize("values", [np.full((40, 64), 0.5), np.full((40, 64), np.nan), np.zeros((2, 40, 64), int)])
def test_other_arrays_are_not_masks(tmp_path, values):
    draw_image(tmp_path / "images/a.jpg")
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks/a.npy", values)
    assert find(tmp_path) is None


def test_an_alpha_that_is_never_full_is_part_of_the_number(tmp_path):
    for count in (2, 3):  # BDD100K's bitmasks
        colors = np.zeros((40, 64, 4), np.uint8)
        for number, mask in enumerate(OBJECTS[:count], start=1):
            colors[mask] = (3, 0, 0, number)
        draw_image(tmp_path / f"images/{count}.jpg")
        save_mask(tmp_path / f"bitmasks/{count}.png", colors)
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"object": 5}
    assert split.notes == []


def test_cell_tracking_challenge(tmp_path):
    for video, count in (("01", 3), ("02", 2)):
        for frame in ("000", "001"):
            draw_image(tmp_path / f"{video}/t{frame}.tif")
            save_mask(tmp_path / f"{video}_GT/TRA/man_track{frame}.tif", id_map(1), "I;16")
        save_mask(tmp_path / f"{video}_GT/SEG/man_seg001.tif", id_map(count), "I;16")
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"object": 5}
    assert [image["file_name"] for image in split.content["images"]] == ["01/t001.tif", "02/t001.tif"]
    assert len(masks_of(split, "t001.tif")) == 3
    assert [note.split(" (first")[0] for note in split.notes] == ["images left out that have no mask: 2"]


def test_images_of_one_name_in_several_folders_stay_apart(tmp_path):
    for video, count in (("bear", 1), ("camel", 3)):  # as in DAVIS
        for frame in ("00000", "00001"):
            draw_image(tmp_path / f"JPEGImages/480p/{video}/{frame}.jpg")
            save_mask(tmp_path / f"Annotations/480p/{video}/{frame}.png", id_map(count))
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/train.txt").write_text("bear\n")
    (tmp_path / "ImageSets/2017/val.txt").write_text("camel\n")
    splits = read_all(find(tmp_path))
    assert {name: class_counts(split) for name, split in splits.items()} == {
        "train": {"object": 2},
        "val": {"object": 6},
    }


def test_images_that_no_list_names_are_left_out_and_noted(tmp_path):
    for stem in "abc":
        draw_image(tmp_path / f"images/{stem}.jpg")
        save_mask(tmp_path / f"masks/{stem}.png", id_map(2))
    (tmp_path / "train.txt").write_text("a.png\nb.png\n")
    split = read_all(find(tmp_path))["train"]
    assert class_counts(split) == {"object": 4}
    assert split.notes == [f"images left out that belong to no split: 1 (first: {tmp_path}/images/c.jpg)"]


def test_several_sorts_of_masks_must_be_chosen_from(tmp_path):
    for stem in "ab":
        draw_image(tmp_path / f"images/{stem}.jpg")
        for sort in ("plant_instances", "leaf_instances", "semantics"):
            save_mask(tmp_path / f"{sort}/{stem}.png", id_map(2))
    with pytest.raises(UserError, match=r"several sorts of masks \(leaf instances, plant instances\); keep the one"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["{}/a.png", "{}/a_1.png", "a/{}/1.png"])
def test_folders_of_classes(tmp_path, name):
    draw_image(tmp_path / "images/a.jpg")
    for kind, mask in (("cat", OBJECTS[0]), ("dog", OBJECTS[1])):
        save_mask(tmp_path / "masks" / name.format(kind), mask * 255)
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"cat": 1, "dog": 1}
    assert iou(masks_of(split, "a.jpg")[0], OBJECTS[0]) == 1.0


def test_a_binary_mask_of_an_image_is_read_as_its_parts_and_noted(tmp_path):
    for stem in "ab":
        draw_image(tmp_path / f"images/{stem}.jpg")
        save_mask(tmp_path / f"masks/{stem}.png", (OBJECTS[0] | OBJECTS[1]) * 255)
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"object": 4}
    assert [iou(mask, OBJECTS[number]) for number, mask in enumerate(masks_of(split, "a.jpg"))] == [1.0, 1.0]
    (note,) = split.notes
    assert note.startswith("binary masks of whole images, of which each connected part is read as an object")
    assert note.endswith(f": 2 (first: {tmp_path}/masks/a.png)")


def test_smoothed_borders_are_no_objects(tmp_path):
    mask = np.zeros((200, 300), bool)
    mask[40:150, 50:240] = True
    for stem in "ab":
        draw_image(tmp_path / f"images/{stem}.jpg", 200, 300)
        soft = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(3))
        save_mask(tmp_path / f"masks/{stem}.png", np.asarray(soft))
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"object": 2}
    assert iou(masks_of(split, "a.jpg")[0], mask) > 0.98


@pytest.mark.parametrize(
    "classes",
    [
        [[1, 2, 5], [2, 5], [1, 5]],  # numbers that no object of the image has
        [[1, 2, 3]] * 8,  # the same in all images
    ],
)
def test_maps_of_classes_are_not_recognized(tmp_path, classes):
    for number, values in enumerate(classes):
        draw_image(tmp_path / f"images/{number}.jpg")
        save_mask(tmp_path / f"masks/{number}.png", id_map(len(values), values))
    assert find(tmp_path) is None


def test_classes_are_in_many_places(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = np.zeros((40, 64), int)
        for value in (60 + number, 90, 148):  # as in ADE20K's maps of scenes
            for _ in range(5):
                y, x = rng.integers(0, 5, 2) * (8, 12)
                pixels[y : y + 5, x : x + 6] = value
        draw_image(tmp_path / f"images/{number}.jpg")
        save_mask(tmp_path / f"annotations/{number}.png", pixels)
    assert find(tmp_path) is None


@pytest.mark.parametrize("count", [1, 2])
def test_maps_without_background_are_not_recognized(tmp_path, count):
    for number in range(2):
        draw_image(tmp_path / f"images/{number}.jpg")
        save_mask(tmp_path / f"masks/{number}.png", id_map(count) + 1)
    assert find(tmp_path) is None


def test_gray_photographs_beside_images_are_not_masks(tmp_path):
    noise = np.random.default_rng(0).integers(1, 256, (40, 64))
    for number in range(2):
        draw_image(tmp_path / f"images/{number}.jpg")
        save_mask(tmp_path / f"gt/{number}.png", noise)
    assert find(tmp_path) is None


def test_masks_of_other_images_are_not_recognized(tmp_path):
    draw_image(tmp_path / "images/a.jpg")
    for stem in "bcd":
        save_mask(tmp_path / f"masks/{stem}.png", id_map(2))
    assert find(tmp_path) is None
    assert find(tmp_path / "images") is None


def test_problems_are_counted(tmp_path):
    for stem in "abcdefg":
        draw_image(tmp_path / f"images/{stem}.jpg")
        save_mask(tmp_path / f"masks/{stem}.png", id_map(2))
    save_mask(tmp_path / "masks/stranger.png", id_map(2))
    draw_image(tmp_path / "images/b.jpg", 20, 20)
    (tmp_path / "images/c.jpg").write_bytes(b"no image")
    (tmp_path / "masks/d.png").write_bytes(b"no image")
    draw_image(tmp_path / "images/unlabeled.jpg")
    split = read_all(find(tmp_path))["all"]
    assert sum(class_counts(split).values()) == 8
    assert split.notes == [
        f"masks skipped that belong to no image: 1 (first: {tmp_path}/masks/stranger.png)",
        f"images left out that have no mask: 1 (first: {tmp_path}/images/unlabeled.jpg)",
        f"masks skipped whose size is not their image's: 1 (first: {tmp_path}/masks/b.png)",
        f"unreadable images skipped: 1 (first: {tmp_path}/images/c.jpg)",
        f"masks skipped that cannot be read: 1 (first: {tmp_path}/masks/d.png)",
    ]


def test_empty_masks_are_counted(tmp_path):
    draw_per_image(tmp_path, "a", [OBJECTS[0], NO_OBJECT])
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"object": 1}
    assert split.notes == [f"empty masks skipped: 1 (first: {tmp_path}/a/masks/1.png)"]
