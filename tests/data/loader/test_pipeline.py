import itertools
from dataclasses import replace

import numpy as np
import pytest

from maskrcnn.config import Category, Config
from maskrcnn.data.loader.pipeline import Shard, eval_dataset, train_dataset, training_image_ids
from maskrcnn.errors import UserError

CONFIG = Config.tiny().override({"image.min_side": 50, "image.max_side": 90})  # canvases 64 x 96 and 96 x 64


def open_coco(coco):
    dataset = coco.dataset()
    dataset.convert("train", progress=False)
    return dataset.open("train")


def take(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def assert_same(first, second):
    assert len(first) == len(second)
    for left, right in zip(first, second, strict=True):
        assert left.keys() == right.keys()
        for key in left:
            np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def test_training_batches_have_the_promised_form(coco):
    dataset = train_dataset(open_coco(coco), CONFIG, batch_size=2, seed=0)
    (batch,) = take(dataset, 1)
    form = {key: (value.dtype.name, value.shape[1:]) for key, value in batch.items() if key != "images"}
    assert form == {
        "image_sizes": ("float32", (2,)),
        "boxes": ("float32", (16, 4)),
        "classes": ("int32", (16,)),
        "masks": ("uint8", (16, 112, 112)),
        "mask_regions": ("float32", (16, 4)),
        "valid": ("bool", (16,)),
    }
    assert batch["images"].dtype == np.uint8
    assert all(spec.shape[0] == 2 for spec in dataset.element_spec.values())
    assert dataset.element_spec["images"].shape.as_list() == [2, None, None, 3]


def test_square_canvases_are_static_and_mix_orientations(coco):
    config = CONFIG.override({"image.min_side": 64, "image.max_side": 64})
    dataset = train_dataset(open_coco(coco), config, batch_size=5, seed=0)
    assert dataset.element_spec["images"].shape == [5, 64, 64, 3]
    (batch,) = take(dataset, 1)
    assert len({tuple(size) for size in batch["image_sizes"]}) > 2


def test_batches_hold_one_orientation(coco):
    shapes = [batch["images"].shape for batch in take(train_dataset(open_coco(coco), CONFIG, batch_size=2, seed=0), 12)]
    assert set(shapes) == {(2, 64, 96, 3), (2, 96, 64, 3)}


def test_every_epoch_shows_every_image_in_another_order(coco):
    config = replace(CONFIG, data=replace(CONFIG.data, horizontal_flip=False))
    config = config.override({"image.min_side": 64, "image.max_side": 64})
    batches = take(train_dataset(open_coco(coco), config, batch_size=1, seed=0), 15)
    keys = [hash(batch["images"].tobytes()) for batch in batches]
    epochs = [keys[start : start + 5] for start in (0, 5, 10)]
    assert all(len(set(epoch)) == 5 and set(epoch) == set(keys) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_same_seed_gives_the_same_batches(coco):
    split = open_coco(coco)
    first, second, other = (take(train_dataset(split, CONFIG, batch_size=2, seed=seed), 6) for seed in (3, 3, 4))
    assert_same(first, second)
    assert any((a["boxes"] != b["boxes"]).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("skip", [1, 5])
def test_skipping_gives_the_tail_of_the_whole(coco, skip):
    split = open_coco(coco)
    whole = take(train_dataset(split, CONFIG, batch_size=2, seed=0), 8)
    tail = take(train_dataset(split, CONFIG, batch_size=2, seed=0, skip_batches=skip), 8 - skip)
    assert_same(whole[skip:], tail)


def test_shares_together_are_the_batches_of_one(coco):
    """Two processes of two devices each, cut into a batch for each device, against one of all eight images."""
    split = open_coco(coco)
    (whole,) = take(train_dataset(split, CONFIG, batch_size=4, seed=3, skip_batches=2), 1)
    parts = []
    for process in (0, 1):
        shard = Shard(process, count=2, pieces=2)
        parts += take(train_dataset(split, CONFIG, batch_size=4, seed=3, skip_batches=2, shard=shard), 2)
    joined = {key: np.concatenate([part[key] for part in parts]) for key in whole}
    assert_same([joined], [whole])


def test_the_images_of_a_batch_are_known_without_reading_it(coco):
    config, split = CONFIG.override({"data.horizontal_flip": False}), open_coco(coco)
    batch = take(train_dataset(split, config, batch_size=2, seed=3), 3)[2]
    ids = training_image_ids(split, config, batch_size=2, seed=3, batch=2)
    rows = [split.index.image_ids.tolist().index(number) for number in ids]
    only = replace(split.index, spans=split.index.spans[rows], sizes=split.index.sizes[rows], image_ids=np.array(ids))
    (shown,) = take(eval_dataset(replace(split, index=only), config, batch_size=2), 1)
    np.testing.assert_array_equal(batch["images"], shown["images"])


def test_objects_arrive_on_the_canvas(coco):
    config = replace(CONFIG, data=replace(CONFIG.data, horizontal_flip=False))
    for batch in take(train_dataset(open_coco(coco), config, batch_size=1, seed=0), 10):
        if not batch["valid"].any():
            continue
        height, width = batch["image_sizes"][0]
        original = {(50, 80): (40, 64), (80, 50): (64, 40), (45, 90): (30, 60), (90, 45): (60, 30)}[(height, width)]
        ratio = np.array([width / original[1], height / original[0]] * 2)
        np.testing.assert_allclose(batch["boxes"][0, 0], np.array([4.5, 6, 24.5, 16]) * ratio, rtol=1e-5)
        np.testing.assert_array_equal(batch["boxes"], batch["mask_regions"])
        assert batch["masks"][0, 0].all()
        assert not batch["masks"][0, 1:].any()
        expected = {(40, 64): 3, (64, 40): 1, (30, 60): 2, (60, 30): 3}[original]  # of ids 90, 0, 7, 90
        assert batch["classes"][0].tolist() == [expected] + [0] * 15


def test_crowds_are_not_trained_on_and_too_many_objects_are_cut(coco):
    coco.content["annotations"][0]["iscrowd"] = 1
    for left in range(20):
        coco.add_box(100, 7, [left, 1, 5, 5])
    coco.content["images"] = coco.content["images"][:1]
    coco.content["annotations"] = [entry for entry in coco.content["annotations"] if entry["image_id"] == 100]
    coco.write()
    (batch,) = take(train_dataset(open_coco(coco), CONFIG, batch_size=1, seed=0), 1)
    assert batch["valid"].all()
    assert (batch["classes"] == 2).all()


def test_a_model_of_other_categories_is_refused(coco):
    config = replace(CONFIG, categories=(Category(1, 90, "cat"),))
    with pytest.raises(UserError, match=r"categories 0 \(dog\), 7 \(cow\) are unknown to the model"):
        train_dataset(open_coco(coco), config, batch_size=1, seed=0)


def test_classes_are_those_of_the_model(coco):
    categories = (Category(7, 0, "dog"), Category(5, 7, "cow"), Category(4, 90, "cat"))
    config = replace(CONFIG, categories=categories)
    seen = {
        int(batch["classes"][0, 0]) for batch in take(train_dataset(open_coco(coco), config, batch_size=1, seed=0), 10)
    }
    assert seen == {7, 5, 4, 0}


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_evaluation_shows_every_image_once(coco, batch_size):
    batches = list(eval_dataset(open_coco(coco), CONFIG, batch_size=batch_size).as_numpy_iterator())
    assert {len(batch["images"]) for batch in batches} == {batch_size}
    valid = np.concatenate([batch["image_valid"] for batch in batches])
    ids = np.concatenate([batch["image_ids"] for batch in batches])[valid]
    sizes = np.concatenate([batch["original_sizes"] for batch in batches])[valid]
    assert sorted(ids) == [100, 101, 102, 103, 104]
    assert sizes[list(ids).index(101)].tolist() == [64, 40]
    assert ids.dtype == np.int64


@pytest.mark.parametrize("processes", [2, 3, 12])
def test_shares_of_an_evaluation_have_every_image_once(coco, processes):
    split = open_coco(coco)
    seen = []
    for process in range(processes):
        batches = eval_dataset(split, CONFIG, batch_size=2, shard=Shard(process, processes)).as_numpy_iterator()
        seen += [number for batch in batches for number in batch["image_ids"][batch["image_valid"]].tolist()]
    assert sorted(seen) == sorted(split.index.image_ids.tolist())


def test_evaluation_of_some(coco):
    batches = list(eval_dataset(open_coco(coco), CONFIG, batch_size=2, num_samples=3).as_numpy_iterator())
    ids = [id for batch in batches for id, valid in zip(batch["image_ids"], batch["image_valid"], strict=True) if valid]
    assert sorted(ids) == [100, 101, 102]


def test_evaluation_and_training_see_the_same_pixels(coco):
    config = replace(CONFIG, data=replace(CONFIG.data, horizontal_flip=False))
    split = open_coco(coco)
    trained = {batch["images"].tobytes() for batch in take(train_dataset(split, config, batch_size=1, seed=0), 10)}
    assert {
        batch["images"].tobytes() for batch in eval_dataset(split, config, batch_size=1).as_numpy_iterator()
    } == trained


def test_a_three_pixel_wide_image_goes_through(coco):
    coco.add_image(200, 60, 3, suffix=".png")
    coco.add_box(200, 7, [0, 0, 3, 60])
    coco.content["images"] = coco.content["images"][-1:]
    coco.content["annotations"] = coco.content["annotations"][-1:]
    coco.write()
    (batch,) = take(train_dataset(open_coco(coco), CONFIG, batch_size=1, seed=0), 1)
    assert batch["image_sizes"].tolist() == [[90, 4]]
    np.testing.assert_allclose(batch["boxes"][0, 0], [0, 0, 4, 90], rtol=1e-5)
