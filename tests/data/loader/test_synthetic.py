import itertools

import numpy as np

from maskrcnn.config import Config
from maskrcnn.data.loader.pipeline import train_dataset
from maskrcnn.data.loader.synthetic import synthetic_dataset
from maskrcnn.data.splits import open_split


def test_batches_have_the_form_of_real_ones(coco):
    config = Config.tiny()
    real = train_dataset(open_split(coco.root, "train"), config, batch_size=3, seed=0)
    (first, *_, last) = list(itertools.islice(synthetic_dataset(config, batch_size=3).as_numpy_iterator(), 9))
    assert {key: (spec.dtype.as_numpy_dtype, spec.shape) for key, spec in real.element_spec.items()} == {
        key: (value.dtype, value.shape) for key, value in first.items()
    }
    np.testing.assert_array_equal(first["images"], last["images"])  # four batches, again and again
    assert first["valid"].any(axis=1).all()


def test_objects_are_within_the_canvas():
    (batch,) = itertools.islice(synthetic_dataset(Config.tiny(), batch_size=4).as_numpy_iterator(), 1)
    boxes = batch["boxes"][batch["valid"]]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= 128).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert not batch["boxes"][~batch["valid"]].any()
    assert not batch["masks"][~batch["valid"]].any()
