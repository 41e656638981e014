import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.formats.csv_masks import find
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

OBJECTS = [rectangle_mask(4, 4, 20, 20), rectangle_mask(22, 10, 40, 36)]


def runs(mask, order):
    """Kaggle's text: starts from 1, and lengths."""
    edges = np.flatnonzero(np.diff(np.r_[0, mask.ravel(order=order), 0])).reshape(-1, 2)
    return " ".join(f"{start + 1} {end - start}" for start, end in edges)


@pytest.mark.parametrize(
    ("order", "header", "kinds"),
    [
        ("F", "ImageId,EncodedPixels", None),
        ("C", "id,annotation,cell_type", "yes"),
        ("F", "ImageId,ClassId,EncodedPixels", "yes"),
    ],
)
def test_run_lengths(tmp_path, order, header, kinds):
    columns = header.split(",")
    lines = [header]
    for stem in "ab":
        draw_image(tmp_path / f"train/{stem}.png")
        for number, mask in enumerate(OBJECTS):
            row = {columns[0]: stem, "cell_type": f"k{number}", "ClassId": f"k{number}"}
            lines.append(",".join(row.get(column, runs(mask, order)) for column in columns))
    draw_image(tmp_path / "train/empty.png")
    lines.append(",".join("empty" if column == columns[0] else "" for column in columns))
    draw_image(tmp_path / "test/c.png")
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "sample_submission.csv").write_text("ImageId,EncodedPixels\nc.png,1 2\n")
    split = read_all(find(tmp_path))["train"]
    assert class_counts(split) == ({"k0": 2, "k1": 2} if kinds else {"object": 4})
    assert len(split.content["images"]) == 3
    assert [iou(mask, OBJECTS[number]) for number, mask in enumerate(masks_of(split, "a.png"))] == [1.0, 1.0]
    assert split.notes == []
    assert average_precision(split, tmp_path) == (1.0, 1.0)


@pytest.mark.parametrize("header", ["ImageId_ClassId", "Image_Label"])
def test_a_row_for_each_image_and_class(tmp_path, header):
    lines = [f"{header},EncodedPixels"]
    for stem in "ab":
        draw_image(tmp_path / f"train_images/{stem}_1.jpg")
        lines += [f"{stem}_1.jpg_{kind},{runs(OBJECTS[kind], 'F') if kind < 2 else ''}" for kind in range(4)]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    split = read_all(find(tmp_path))["train"]
    assert class_counts(split) == {"0": 2, "1": 2}
    assert [iou(mask, OBJECTS[number]) for number, mask in enumerate(masks_of(split, "a_1.jpg"))] == [1.0, 1.0]
    assert split.notes == []


@pytest.mark.parametrize(("header", "val"), [("split", "val"), ("Set", "valid"), ("subset", "Validation")])
def test_a_column_names_the_split(tmp_path, header, val):
    lines = [f"image,rle,{header}"]
    for stem, split in {"a": "train", "b": "train", "c": val, "d": "test"}.items():
        draw_image(tmp_path / f"images/{stem}.png")
        lines += [f"{stem}.png,{runs(mask, 'F')},{split}" for mask in OBJECTS[: 1 + (stem != "c")]]
    (tmp_path / "masks.csv").write_text("\n".join(lines))
    dataset = find(tmp_path)
    splits = read_all(dataset)
    assert [split.name for split in dataset.splits] == ["train", "val", "test"]
    assert {name: class_counts(split)["object"] for name, split in splits.items()} == {"train": 4, "val": 1, "test": 2}
    assert iou(masks_of(splits["val"], "c.png")[0], OBJECTS[0]) == 1.0
    assert not any(split.notes for split in splits.values())


def test_a_column_that_names_no_split_leaves_it_to_the_file(tmp_path):
    draw_image(tmp_path / "a.png")
    draw_image(tmp_path / "b.png")
    rows = [f"a,{runs(OBJECTS[0], 'F')},A", f"b,{runs(OBJECTS[1], 'F')},", f"b,{runs(OBJECTS[0], 'F')},"]
    (tmp_path / "train.csv").write_text("\n".join(["id,rle,set", *rows]))
    assert {name: class_counts(split) for name, split in read_all(find(tmp_path)).items()} == {"train": {"object": 3}}


def test_a_mask_of_a_whole_image_is_read_as_its_parts_and_noted(tmp_path):
    lines = ["id,rle"]
    for stem in "ab":
        draw_image(tmp_path / f"train/{stem}.png")
        lines.append(f"{stem},{runs(OBJECTS[0] | OBJECTS[1], 'F')}")
    (tmp_path / "train.csv").write_text("\n".join(lines))
    split = read_all(find(tmp_path))["train"]
    assert class_counts(split) == {"object": 4}
    (note,) = split.notes
    assert note.startswith("masks of whole images, of which each connected part is read as an object")
    (tmp_path / "train.csv").write_text("\n".join([*lines, f"b,{runs(OBJECTS[0], 'F')}"]))  # a row for each object
    split = read_all(find(tmp_path))["train"]
    assert class_counts(split) == {"object": 3}
    assert split.notes == []


def test_open_images(tmp_path):
    lines = ["MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"]
    draw_image(tmp_path / "images/00aa.jpg")
    for number, mask in enumerate(OBJECTS):
        save_mask(tmp_path / f"masks/00aa_m0{number}_{number}.png", np.kron(mask, np.ones((2, 2))) * 255)
        lines.append(f"00aa_m0{number}_{number}.png,00aa,/m/0{number},{number},0,1,0,1,0.9,")
    lines.append("absent.png,00aa,/m/00,9,0,1,0,1,0.9,")
    (tmp_path / "train-annotations-object-segmentation.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "class-descriptions-boxable.csv").write_text("/m/00,Apple\n/m/01,Person\n/m/02,Never\n")
    dataset = find(tmp_path)
    split = read_all(dataset)["train"]
    assert dataset.format == "OpenImages"
    assert class_counts(split) == {"Apple": 1, "Person": 1}
    assert [iou(mask, OBJECTS[number]) for number, mask in enumerate(masks_of(split, "00aa.jpg"))] == [1.0, 1.0]
    (note,) = split.notes
    assert note.startswith("masks skipped that cannot be read or do not fit their image: 1 (first: ")


def test_problems_are_counted(tmp_path):
    draw_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    rows = [
        "a.png,1 9999999",
        "a.png,0 4",
        "a.png,5",
        "a.png,one two",
        "a.png,-1",
        "b.png,1 2",
        "c.png,1 2",
        "a.png,1 7 41 7",
    ]
    (tmp_path / "x.csv").write_text("\n".join(["ImageId,EncodedPixels", *rows]))
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"object": 1}
    assert [note.partition(" (first")[0] for note in split.notes] == [
        "unreadable images skipped: 1",
        "missing images skipped: 1",
        "masks skipped that cannot be read or do not fit their image: 4",
    ]


def test_other_tables_are_not_taken(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("filename,width,height,class,xmin,ymin,xmax,ymax\na.png,8,8,cat,1,1,2,2\n")
    (tmp_path / "b.csv").write_text("")
    assert find(tmp_path) is None


def test_a_second_table_of_a_split_is_counted(tmp_path):
    draw_image(tmp_path / "train/a.png")
    for name in ("train", "train_folds"):
        (tmp_path / f"{name}.csv").write_text(f"ImageId,EncodedPixels\na,{runs(OBJECTS[0], 'F')}\n")
    split = read_all(find(tmp_path))["train"]
    assert class_counts(split) == {"object": 1}
    assert [note.partition(": ")[0] for note in split.notes] == [
        "CSV files left out that list the split of another (join their rows in one file)"
    ]
    assert "train_folds.csv" in split.notes[0]
