import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data import shapes
from maskrcnn.data.coco.annotations import load_coco
from maskrcnn.data.records.rasterize import decode_mask
from maskrcnn.data.shapes import CLASSES, MIN_VISIBLE, draw_image, write_shapes
from maskrcnn.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shapes(
        tmp_path_factory.mktemp("shapes"), train_images=40, val_images=3, image_size=128, seed=5, progress=False
    )


def test_it_is_a_faultless_coco_data_set(folder):
    for name, count in (("train", 40), ("val", 3)):
        dataset = load_coco(folder / "annotations" / f"instances_{name}.json", folder / name)
        assert len(dataset.images) == count
        assert [category.name for category in dataset.categories] == list(CLASSES)
        with Image.open(folder / name / dataset.images[0].file_name) as image:
            assert (image.size, image.mode) == ((128, 128), "RGB")


def test_it_is_varied(folder):
    content = json.loads((folder / "annotations" / "instances_train.json").read_text())
    annotations = content["annotations"]
    assert {entry["category_id"] for entry in annotations} == set(range(1, len(CLASSES) + 1))
    forms = [isinstance(entry["segmentation"], list) for entry in annotations]
    assert 0.2 < np.mean(forms) < 0.8
    sides = np.array([max(entry["bbox"][2:]) for entry in annotations])
    assert sides.min() < 20
    assert sides.max() > 50
    assert len({entry["image_id"] for entry in annotations}) < 40  # some images are empty


def test_the_same_seed_draws_the_same(folder, tmp_path):
    again = write_shapes(tmp_path, train_images=4, val_images=3, image_size=128, seed=5, progress=False)
    for path in sorted(again.rglob("*.jpg")):
        assert path.read_bytes() == (folder / path.relative_to(again)).read_bytes()
    other = write_shapes(tmp_path / "other", train_images=1, val_images=1, image_size=128, seed=6, progress=False)
    assert (other / "train" / "000001.jpg").read_bytes() != (folder / "train" / "000001.jpg").read_bytes()


def test_masks_are_what_can_be_seen(monkeypatch):
    """With plain fills and no noise, the pixels of a mask have the color of its shape and no others."""
    colors = iter(range(10, 250, 6))
    monkeypatch.setattr(shapes, "_texture", lambda rng, size, **_: np.full((size, size, 3), next(colors), np.float32))
    monkeypatch.setattr(shapes, "MIN_CONTRAST", -1)
    for seed in range(30):
        colors = iter(range(10, 250, 6))
        picture, drawn = draw_image(_NoNoise(seed), 192)
        union = np.zeros((192, 192), int)
        for number, shape in enumerate(drawn):
            union += shape.visible
            distance = np.abs(picture[shape.visible][:, 0].astype(int) - (10 + 6 * (number + 1)))
            assert np.mean(distance <= 1) > 0.75  # all but the blended rim
            assert shape.visible.sum() >= MIN_VISIBLE * shape.area
        assert union.max(initial=0) <= 1


class _NoNoise:
    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)

    def standard_normal(self, shape, dtype):
        return np.zeros(shape, dtype)

    def __getattr__(self, name):
        return getattr(self._rng, name)


def test_polygons_agree_with_the_pixels(folder):
    dataset = load_coco(folder / "annotations" / "instances_train.json", folder / "train")
    areas = [
        (decode_mask(annotation, 128, 128).sum(), annotation.area)
        for group in dataset.annotations.values()
        for annotation in group
        if isinstance(annotation.segmentation, list)
    ]
    assert len(areas) > 10
    for polygon, pixels in areas:
        assert polygon == pytest.approx(pixels, rel=0.1, abs=12)


def test_wrong_numbers_and_folders(tmp_path):
    with pytest.raises(UserError, match="at least 1 image"):
        write_shapes(tmp_path, train_images=0)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text('{"images": []}')
    with pytest.raises(UserError, match="holds something else"):
        write_shapes(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_shapes(tmp_path / "file")
