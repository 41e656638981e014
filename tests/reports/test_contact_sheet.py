"""The contact sheet shows the annotations as training sees them."""

import numpy as np
import pytest

from maskrcnn.data.coco.annotations import load_coco
from maskrcnn.data.records.rasterize import decode_mask
from maskrcnn.data.shapes import write_shapes
from maskrcnn.data.splits import open_split
from maskrcnn.reports.contact_sheet import write_contact_sheet
from maskrcnn.reports.gallery import read_instances, spread_mask


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    return write_shapes(folder, train_images=6, val_images=2, image_size=128, seed=1, progress=False)


def test_a_mask_covers_the_pixels_of_its_box():
    mask = np.zeros((112, 112), np.uint8)
    mask[:, :56] = 1
    spread = spread_mask(mask, np.array([2, 1, 6, 4], np.float32), 5, 8)
    expected = np.zeros((5, 8), bool)
    expected[1:4, 2:4] = True
    np.testing.assert_array_equal(spread, expected)


def test_what_is_drawn_is_what_was_annotated(shapes):
    split = open_split(shapes, "train")
    dataset = load_coco(shapes / "annotations" / "instances_train.json", shapes / "train")
    names = {category.id: category.name for category in dataset.categories}
    for position, entry in enumerate(dataset.images):
        annotations = dataset.annotations.get(entry.id, ())
        image, instances = read_instances(split, position)
        assert image.shape == (128, 128, 3)
        assert [instance.label for instance in instances] == [names[item.category_id] for item in annotations]
        for instance, annotation in zip(instances, annotations, strict=True):
            truth = decode_mask(annotation, 128, 128).astype(bool)
            assert (instance.mask & truth).sum() / (instance.mask | truth).sum() > 0.8


def test_the_sheet_is_one_page(shapes, tmp_path):
    path = write_contact_sheet(shapes, tmp_path / "sheet", split="train", num_images=4)
    page = path.read_text()
    assert path.name == "train.html"
    assert page.count("<figure>") == 4
    assert "4 of 6 images" in page
    assert "http" not in page
