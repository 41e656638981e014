import json
import shutil

import numpy as np
import pytest

from maskrcnn.data.formats.recognize import recognize
from maskrcnn.errors import UserError
from maskrcnn.input_files import dataset_folder
from tests.data.formats.drawing import draw_image, save_mask


def test_coco_is_recognized_also_in_the_folder_that_an_archive_was_unpacked_to(coco, tmp_path):
    assert recognize(coco.root).format == "COCO"
    shutil.move(coco.root, tmp_path / "outer" / "inner")
    (tmp_path / "outer" / "README.txt").touch()
    (split,) = recognize(tmp_path / "outer").splits
    assert split.read().image_dir == tmp_path / "outer" / "inner" / "train"


def test_one_line_says_what_is_there_and_what_is_understood(tmp_path):
    for name in ("a.txt", "b.txt", "sub/c.JPG", "sub/.hidden", "tfrecords/train-00000-of-00001.tfrecord"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError) as error:
        recognize(tmp_path)
    message = str(error.value)
    assert "no dataset recognized; it holds 2 .txt, 1 .jpg; there are only images; if their annotations lie" in message
    assert "understood are COCO JSON" in message
    assert "\n" not in message


LOOKS = {  # a file in the folder, its content, and what is said of it
    "train/instances.json": (
        '{"videos": [{"file_names": []}], "annotations": [{}]}',
        "videos (YouTube-VIS); write those of each frame",
    ),
    "panoptic.json": ('{"images": [], "annotations": [{"segments_info": []}]}', "panoptic annotations; convert them"),
    "createml.json": ('[{"image": "a.jpg", "annotations": [{"coordinates": {"x": 1}}]}]', "boxes without masks"),
    "labelbox.json": ('[{"Labeled Data": "https://example.org/a.jpg"}]', "Labelbox export"),
    "area.geojson.json": ('{"type": "FeatureCollection", "features": []}', "convert it to COCO in pixels"),
    "_annotations.csv": ("filename,width,height,class,xmin,ymin,xmax,ymax\n", "boxes without masks; export it"),
    "gtFine/a.json": ('{"imgHeight": 5, "imgWidth": 5, "objects": []}', "polygons of Cityscapes' form; make instance"),
    "masks/a.jpg": ("", "masks/a.jpg is a mask as a JPEG file that is not black and white, whose values are not exact"),
    "inst/a.mat": ("", "MATLAB files, as SBD has them; save each image's masks as a PNG"),
    "masks.npy": ("", "NumPy arrays that are not one map an image; save each"),
    "labels.json": ('[{"label_hash": "a", "data_units": {}}]', "an Encord export; export it from there as COCO"),
    "hasty.json": ('{"export_format_version": "1.1", "images": []}', "a Hasty export; export it from there as COCO"),
    "a.jpg.json": ('{"metadata": {}, "instances": [{"className": "cat"}]}', "a SuperAnnotate export; export it"),
    "json/a.json": ('{"annotations": [{"coordinates": [[{"x": 1}]]}]}', "a Dataloop export; export it from there"),
    "samples.json": (
        '{"samples": [{"filepath": "a.jpg"}]}',
        "a FiftyOne dataset; export it from there as a COCODetect",
    ),
    "lines.json": ('{"image": "a.jpg"}\n{"image": "b.jpg"}\n', "lines.json holds JSON Lines; write what they hold as"),
    "annotations.xml": ('<annotations><track id="0"></track></annotations>', "CVAT's annotations of a video; export"),
    "dicts.json": (
        '[{"file_name": "a.jpg", "height": 1}]',
        "dicts.json is in an unknown format (it begins with file_name",
    ),
    "shapes.xml": (
        "<root><shape/></root>",
        "shapes.xml is in an unknown format (it begins with root, shape); convert",
    ),
    "slide.xml": ("<ASAP_Annotations></ASAP_Annotations>", "annotations of ASAP, of slides; write those"),
    "data.parquet": ("", "Parquet files, as Hugging Face has them"),
    "dataset.zip": ("", "dataset.zip is packed; unpack it"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_what_is_not_read_is_named_with_its_remedy(tmp_path, name):
    draw_image(tmp_path / "images/a.jpg")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(LOOKS[name][0])
    with pytest.raises(UserError) as error:
        recognize(tmp_path)
    assert LOOKS[name][1] in str(error.value)


def test_masks_of_classes_are_named(tmp_path):
    for number in range(8):
        draw_image(tmp_path / f"images/{number}.jpg")
        save_mask(tmp_path / f"masks/{number}.png", np.arange(40 * 64).reshape(40, 64) % 3)
    with pytest.raises(
        UserError, match=r"its masks \(masks\) look like classes or shades, not like objects; save each"
    ):
        recognize(tmp_path)


def test_of_several_folders_inside_each_other_the_format_counts_not_the_depth(tmp_path):
    root = tmp_path / "archive/inner"
    draw_image(root / "JPEGImages/a.jpg")
    for folder in ("SegmentationObject", "SegmentationClass"):
        save_mask(root / folder / "a.png", np.arange(40 * 64).reshape(40, 64) // 800 % 2)
    assert recognize(tmp_path).format == "Pascal VOC segmentation"


def test_a_table_goes_before_another_dataset_that_lies_beside_its_images(tmp_path):
    draw_image(tmp_path / "train/0.png")
    (tmp_path / "train.csv").write_text("id,annotation,cell_type\n0,1 50 90 50,astro\n")
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}
    for folder, format in (("annotations", "COCO"), ("LIVECell/annotations/LIVECell", "run lengths in CSV")):
        path = tmp_path / folder / "train.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
        assert recognize(tmp_path).format == format
        path.unlink()


def test_files_of_classes_and_borders_are_named(tmp_path):
    draw_image(tmp_path / "images/a.jpg")
    save_mask(tmp_path / "annotations/trimaps/a.png", np.ones((40, 64)))  # Oxford-IIIT Pets
    with pytest.raises(
        UserError, match="the files in trimaps look like classes, borders or shades, not like objects; sa"
    ):
        recognize(tmp_path)


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="it holds no files"):
        recognize(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", r"'': no such folder; give the folder of a dataset"),
        ("data.zip", r"data.zip: is not a folder but an archive; unpack it, and give the folder with --data_dir"),
        ("a.json", r"a.json: is not a folder; give its folder, .*, with --data_dir, and the file with --train_file$"),
        ("data.yaml", r"data.yaml: is not a folder; give its folder, .*, with --data_dir$"),
    ],
)
def test_a_file_in_place_of_the_folder(tmp_path, name, expected):
    (tmp_path / (name or "x")).touch()
    with pytest.raises(UserError, match=expected):
        dataset_folder(str(tmp_path / name) if name else "")
    assert dataset_folder(str(tmp_path)) == tmp_path
