"""The images that an int8 file is calibrated on."""

import numpy as np
import pytest
from PIL import Image

from maskrcnn.errors import UserError
from maskrcnn.export.calibration import calibration_images, fill

pytestmark = pytest.mark.no_backend


@pytest.fixture
def photos(tmp_path):
    """Three landscape images, one portrait."""
    for number, size in enumerate([(90, 60), (90, 60), (60, 90), (90, 60)]):
        Image.new("RGB", size, (number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_a_folder_of_images(photos, micro):
    config = micro.override({"image.max_side": 96})
    batches = list(calibration_images(photos, config, None))
    assert [batch["images"].shape for batch in batches].count((1, 96, 64, 3)) == 1
    assert sorted(int(batch["images"][0, 0, 0, 0]) for batch in batches) == [0, 1, 2, 3]
    assert batches[0]["images"].dtype == np.uint8
    assert batches[0]["image_sizes"].tolist() == [[64, 96]]


def test_the_train_split_of_a_dataset(shapes_dir, micro):
    batches = list(calibration_images(shapes_dir, micro, None))
    assert len(batches) == 6
    assert {name: batch.dtype for name, batch in batches[0].items()} == {"images": np.uint8, "image_sizes": np.float32}


def test_images_of_other_canvases_do_not_count(photos, micro):
    config = micro.override({"image.max_side": 96})
    assert [batch["images"].shape[1:3] for batch in calibration_images(photos, config, (96, 64))] == [(96, 64)]
    with pytest.raises(UserError, match="no image for a canvas of 128x128 px to calibrate on"):
        list(calibration_images(photos, config, (128, 128)))


def test_a_folder_without_images_is_refused(tmp_path, micro):
    with pytest.raises(UserError, match="no image in this folder"):
        list(calibration_images(tmp_path, micro, None))


def test_batches_are_filled_up_with_empty_images():
    one = {"images": np.ones((1, 2, 3, 3), np.uint8), "image_sizes": np.ones((1, 2), np.float32)}
    filled = fill(one, 3)
    assert filled["images"].shape == (3, 2, 3, 3)
    assert filled["image_sizes"].tolist() == [[1, 1], [0, 0], [0, 0]]
