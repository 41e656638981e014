from pathlib import Path

import numpy as np
import pytest

from maskrcnn.config import Category, Config
from maskrcnn.data.records.split import Split, fit_config, max_instances
from maskrcnn.data.records.tfrecord import RecordIndex


def split(*objects):
    counts = np.array(objects, np.int32)
    empty = np.zeros((len(counts), 3), np.int64)
    index = RecordIndex((Path("a"),), empty, empty[:, :2], np.arange(len(counts)), counts)
    return Split("train", index, (Category(1, 7, "cow"),), None)


@pytest.mark.parametrize(("most", "fitting"), [(0, 20), (3, 20), (20, 20), (21, 40), (93, 100), (299, 300), (700, 300)])
def test_max_instances_fits_the_data(most, fitting):
    assert max_instances(Config().data, split(0, most)) == fitting


def test_copied_objects_need_room_too():
    assert max_instances(Config().override({"data.copy_paste": 0.5}).data, split(30)) == 60


def test_a_number_that_is_given_stays():
    assert max_instances(Config().override({"data.max_instances": 7}).data, split(50)) == 7


def test_the_config_gets_classes_and_limit_and_what_is_beyond_is_reported(caplog):
    config = fit_config(Config(), split(3, 310, 302))
    assert (config.categories, config.data.max_instances) == ((Category(1, 7, "cow"),), 300)
    assert caplog.messages == [
        "12 objects in 2 images are beyond --max_instances 300 and are not trained on; the fullest image has 310"
    ]
    caplog.clear()
    fit_config(Config(), split(3, 40))
    assert not caplog.messages
