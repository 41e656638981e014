import json

import pytest

from maskrcnn.config import DataConfig
from maskrcnn.data.check import check_folder
from tests.data.formats.drawing import draw_image, rectangle_mask, save_mask


def check(coco, **options):
    return check_folder(coco.root, DataConfig(**options), progress=False)


@pytest.fixture
def mixed(coco):
    """Two splits with a crowd, an object without mask, a degenerate box and a phantom category."""
    coco.content["categories"].insert(0, {"id": 3, "name": "animal", "supercategory": "none"})
    for category in coco.content["categories"][1:]:
        category["supercategory"] = "animal"
    coco.add_box(100, 7, [1, 1, 5, 5], iscrowd=1)
    coco.add_box(101, 7, [1, 1, 5, 5], segmentation=[])
    coco.add_box(101, 0, [1, 1, 0, 5], segmentation=[[1, 1, 5, 1, 5, 9]])
    coco.write()
    val = {**coco.content, "annotations": coco.content["annotations"][:2]}
    (coco.root / "val").mkdir()
    for path in coco.images.iterdir():
        (coco.root / "val" / path.name).write_bytes(path.read_bytes())
    coco.path.with_name("instances_val.json").write_text(json.dumps(val))
    return coco


def test_the_report_equals_an_independent_count(mixed, tmp_path):
    report = check(mixed)
    report.write_json(tmp_path / "report.json")
    actual = json.loads((tmp_path / "report.json").read_text())
    expected = {}
    for name in ("train", "val"):
        content = json.loads(mixed.path.with_name(f"instances_{name}.json").read_text())
        flags = [entry["iscrowd"] for entry in content["annotations"]]
        expected[name] = {"images": len(content["images"]), "objects": flags.count(0), "crowds": flags.count(1)}
    assert list(actual) == ["format", "splits", "classes", "problems"]
    assert (actual["format"], actual["splits"]) == ("COCO", expected)
    assert actual["classes"] == [
        {"name": "dog", "objects": 3},  # two of them in train
        {"name": "cow", "objects": 2},
        {"name": "cat", "objects": 3},
    ]
    assert {problem["kind"]: problem["count"] for problem in actual["problems"]} == {
        "no mask": 1,
        "box from mask": 1,
        "class dropped": 1,
    }
    assert "annotation 6" in next(p for p in actual["problems"] if p["kind"] == "no mask")["examples"][0]
    assert report.errors == []


def test_the_summary_says_all_of_it(mixed):
    lines = list(check(mixed).lines())
    assert lines[0] == "COCO, 5 + 5 images, 3 classes"
    assert lines[2].split() == ["train", "5", "6", "1"]
    assert lines[3].split() == ["val", "5", "2", "0"]
    assert lines[4].split() == ["test", "missing"]
    assert "objects by class: dog 3, cat 3, cow 2" in lines
    assert "image sizes: 60 x 30 to 64 x 40 px" in lines
    assert "usable objects per image: 0.7 on average, 2 at most" in lines
    assert "object areas: 7 small (under 32 x 32 px), 0 medium, 0 large (from 96 x 96 px)" in lines
    assert "skipped: 1 x no mask" in lines


def test_what_a_reader_skipped_is_shown_in_its_own_words(tmp_path):
    for number in range(20):
        draw_image(tmp_path / f"images/{number}.jpg")
        save_mask(tmp_path / f"masks/{number}.png", rectangle_mask(4, 4, 20, 20) * 255)
    save_mask(tmp_path / "masks/stranger.png", rectangle_mask(4, 4, 20, 20) * 255)
    lines = list(check_folder(tmp_path, progress=False).lines())
    assert "while reading:" in lines
    assert f"  masks skipped that belong to no image: 1 (first: {tmp_path}/masks/stranger.png)" in lines
    assert not any("repaired" in line for line in lines)


def test_a_folder_of_empty_masks_is_no_class(tmp_path):
    for name, value in {"benign": 255, "malignant": 255, "normal": 0}.items():  # BUSI
        for number in range(10):
            draw_image(tmp_path / f"{name}/{name} ({number}).png")
            save_mask(tmp_path / f"{name}/{name} ({number})_mask.png", rectangle_mask(4, 4, 20, 20) * value)
    report = check_folder(tmp_path, progress=False)
    assert report.classes == {"benign": 10, "malignant": 10}
    assert sum(counts["images"] for counts in report.splits.values()) == 30
    said = [line for line in report.lines() if "normal" in line]
    assert len(said) == 1
    assert "'normal' is a folder whose masks are empty; its images have no objects, and it is no class" in said[0]


def test_a_dataset_of_empty_masks_is_refused(tmp_path):
    for number in range(2):
        draw_image(tmp_path / f"normal/normal ({number}).png")
        save_mask(tmp_path / f"normal/normal ({number})_mask.png", rectangle_mask(0, 0, 0, 0))
    assert "no object to learn from" in check_folder(tmp_path, progress=False).errors[0]


def test_a_missing_val_split_is_counted_as_it_is_held_out(coco):
    report = check(coco, val_fraction=0.4)
    counts = report.splits
    assert {key: counts["train"][key] + counts["val"][key] for key in counts["val"]} == {
        "images": 5,
        "objects": 4,
        "crowds": 0,
    }
    assert report.held_out


def test_damaged_images_are_found_too(coco):
    (coco.images / "100.jpg").write_bytes(b"no image")
    (coco.images / "104.jpg").unlink()
    report = check(coco)
    assert {problem.kind for problem in report.problems} == {"damaged image", "missing image", "refused"}
    assert "2 of 5 images cannot be used" in report.errors[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"segmentation": []}, "boxes without masks"), ({"iscrowd": 1}, "--crowds_as_objects")],
)
def test_a_dataset_without_a_usable_object_is_refused(coco, change, said):
    for entry in coco.content["annotations"]:
        entry.update(change)
    coco.write()
    report = check(coco)
    assert said in report.errors[0]
    assert report.to_json()["problems"][-1]["kind"] in ("refused", "mostly crowds")


def test_all_problems_go_to_a_file(coco, tmp_path):
    for entry in coco.content["annotations"]:
        entry["bbox"] = [1, 1, 0, 0]
    coco.write()
    report = check(coco)
    assert not report.is_shown_in_full()
    assert sum("annotation" in line for line in report.lines()) == 3
    report.write_problems(tmp_path / "problems.txt")
    assert len((tmp_path / "problems.txt").read_text().splitlines()) == 4


def test_records_are_counted_as_what_they_were_made_of(mixed):
    before = check(mixed)
    mixed.dataset().convert("train", "val", progress=False)
    report = check_folder(mixed.root / "tfrecords", progress=False)
    assert report.format == "TFRecords"
    assert report.splits["val"] == before.splits["val"]
    assert report.splits["train"] == {"images": 5, "objects": 5, "crowds": 1}  # one had no mask
    assert report.classes == {"dog": 3, "cow": 1, "cat": 3}
