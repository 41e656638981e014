"""The whole model: shapes, saving, precision, and that it learns."""

import dataclasses

import keras
import numpy as np
import pytest

from maskrcnn.config import Category, Config
from maskrcnn.model import MaskRCNN
from maskrcnn.model.mask_rcnn import LOSSES, normalize
from maskrcnn.model.structures import Detections, RoIs, RPNOutputs, Targets
from maskrcnn.ops.boxes import pairwise_iou
from maskrcnn.runtime import compiler

CATEGORIES = tuple(Category(index, 10 * index, name) for index, name in enumerate("abc", start=1))
COMPILED = {"jit_compile": keras.backend.backend() == "jax"}
# Tracing a step takes TensorFlow longer than ten steps; in eager mode JAX would compile each operation by itself.
QUICK = COMPILED if keras.backend.backend() == "jax" else {"run_eagerly": True}


@pytest.fixture(scope="module")
def config():
    return dataclasses.replace(Config.tiny().override({"train.seed": 1}), categories=CATEGORIES)


def make_batch(config, *, height=128, width=128, batch=2):
    """Bright squares on black: two in the first image, none in the second."""
    count = config.data.max_instances
    boxes = np.zeros((batch, count, 4), "float32")
    boxes[0, :2] = [[16, 16, 64, 64], [72, 40, 120, 104]]
    valid = np.zeros((batch, count), bool)
    valid[0, :2] = True
    classes = np.where(valid, [[1 + index % 3 for index in range(count)]], 0).astype("int32")
    images = np.zeros((batch, height, width, 3), "uint8")
    for (x1, y1, x2, y2), channel in zip(boxes[0, :2].astype(int), (0, 2), strict=True):
        images[0, y1:y2, x1:x2, channel] = 255
    return {
        "images": images,
        "image_sizes": np.full((batch, 2), [height, width], "float32"),
        "boxes": boxes,
        "classes": classes,
        "masks": np.ones((batch, count, 112, 112), "uint8"),
        "mask_regions": boxes,
        "valid": valid,
    }


def compute_losses(model, batch):
    """The five losses."""
    model.compile(keras.optimizers.SGD(0.0), **QUICK)
    logs = model.train_on_batch(batch, return_dict=True)
    return {name: float(logs[name]) for name in LOSSES}


def detect(model, batch):
    return model.predict_on_batch({name: batch[name] for name in ("images", "image_sizes")})


@pytest.fixture(scope="module")
def model(config):
    """An untrained model; tests/model/test_parity.py compiles one under TensorFlow too."""
    keras.utils.set_random_seed(0)
    model = MaskRCNN(config)
    model.compile(**QUICK)
    return model


def test_detections_are_sorted_and_padded(config, model):
    outputs = detect(model, make_batch(config, height=64))
    count = config.model.box_head.detections
    assert outputs["boxes"].shape == (2, count, 4)
    assert outputs["masks"].shape == (2, count, 28, 28)
    assert np.all(np.diff(outputs["scores"], axis=1) <= 0)
    assert np.all(outputs["valid"] == (outputs["scores"] > config.model.box_head.score_threshold))
    assert np.all((outputs["classes"] > 0) == outputs["valid"])
    assert np.all((outputs["boxes"] >= 0) & (outputs["boxes"] <= [128, 64, 128, 64]))


def test_both_orientations_pass_through_one_model(model):
    for height, width in ((64, 128), (128, 64)):
        batch = {
            "images": np.full((2, height, width, 3), 90, "uint8"),
            "image_sizes": np.array([[height - 5, width - 9]] * 2, "float32"),
        }
        outputs = detect(model, batch)
        boxes = outputs["boxes"][outputs["valid"]]
        assert np.all(boxes <= [width - 9, height - 5, width - 9, height - 5])


@pytest.mark.slow_under_jax
@pytest.mark.usefixtures("without_xla")
def test_an_image_without_objects_has_no_box_and_mask_loss(config):
    keras.utils.set_random_seed(0)
    batch = make_batch(config)
    batch["valid"][:] = False
    losses = compute_losses(MaskRCNN(config), batch)
    assert losses["rpn_box_loss"] == losses["box_loss"] == losses["mask_loss"] == 0
    assert 0.5 < losses["rpn_class_loss"] < 0.9  # near log 2: nothing is known yet


def test_a_saved_model_is_the_same_model(config, tmp_path):
    keras.utils.set_random_seed(0)
    model = MaskRCNN(config)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.config == config
    assert len(loaded.variables) == len(model.variables)
    for saved, read in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(read), np.asarray(saved))


@pytest.mark.slow_under_jax
def test_mask_head_gives_the_same_results_on_a_padding_bucket(micro):
    config = dataclasses.replace(micro.override({"box_head.samples": 32}), categories=CATEGORIES)
    batch = {name: keras.ops.convert_to_tensor(value) for name, value in make_batch(config).items()}
    buckets, plain = MaskRCNN(config.override({"mask_head.slot_sizes": 3})), MaskRCNN(config)
    buckets.set_weights(plain.get_weights())
    assert buckets.mask_head.bucket_sizes(8, training=True) == [2, 4, 8]
    pyramid = plain.fpn(plain.features(batch["images"], batch["image_sizes"]))
    targets = Targets(*(batch[name] for name in Targets._fields))
    positive = np.array([[True, True, *[False] * 6], [False] * 8])  # the first two entries: the smallest bucket
    rois = RoIs(batch["boxes"], np.zeros((2, 8), "int32"), positive, positive)
    actual, expected = (float(model.mask_head.losses(pyramid, rois, targets)) for model in (buckets, plain))
    assert actual == pytest.approx(expected, rel=1e-5)
    detections = Detections(batch["boxes"], batch["classes"], positive * 0.5, positive)
    actual, expected = (np.asarray(model.mask_head.predict(pyramid, detections)) for model in (buckets, plain))
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert (actual[positive] > 0).all()


@pytest.mark.slow_under_jax
def test_a_step_on_padding_buckets_is_that_on_all_entries(micro, monkeypatch):
    """Compiled, with gradients through the branches of the mask head and of the RPN's matching.

    The mask head is as wide as the default one: behind its convolutions, which are Winograd's, TensorFlow knows no size
    if it does not know the batch's, as from a generator.
    """
    wide = {"fpn.channels": 128, "mask_head.channels": 128, "mask_head.convolutions": 1}
    config = dataclasses.replace(micro.override({"data.max_instances": 8, **wide}), categories=CATEGORIES)
    batch = make_batch(config)
    images = {name: batch[name] for name in ("images", "image_sizes")}

    def step(mask_sizes, min_bucketed, options):
        monkeypatch.setattr("maskrcnn.model.rpn.MIN_BUCKETED", min_bucketed)
        keras.utils.set_random_seed(0)
        model = MaskRCNN(config.override({"mask_head.slot_sizes": mask_sizes, "train.seed": 0}))
        model.compile(keras.optimizers.SGD(0.01), **options)
        history = model.fit(((one,) for one in [batch]), steps_per_epoch=1, shuffle=False, verbose=0)
        assert np.isfinite(history.history["mask_loss"]).all()
        return model

    with compiler.tracing_without_xla():
        plain = step(1, 1000, QUICK)
    model = step(2, 8, COMPILED)
    for actual, expected in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    outputs = model.predict(((one,) for one in [images]), steps=1, verbose=0)
    assert np.isfinite(outputs["masks"]).all()


@pytest.fixture(scope="module")
def narrow(config):
    """Of few channels, as TensorFlow has no fast convolution in float16."""
    channels = {"backbone.width": 8, "fpn.channels": 8, "box_head.channels": 16, "mask_head.channels": 8}
    return config.override(channels)


@pytest.fixture(scope="module")
def exact_losses(narrow):
    """A model's losses in float32, and its weights."""
    keras.utils.set_random_seed(0)
    model = MaskRCNN(narrow)
    weights = model.get_weights()
    with compiler.tracing_without_xla():
        return compute_losses(model, near_edge_batch(narrow)), weights


@pytest.fixture
def without_xla():
    """RoIAlign as it is written: compiling it takes longer than a step on small images."""
    with compiler.tracing_without_xla():
        yield


def near_edge_batch(config):
    batch = make_batch(config)
    batch["image_sizes"][:] = 127.9  # float16 would make this 127.875
    return batch


# Under JAX one of the two, as it compiles each for half a minute.
@pytest.mark.slow_under_jax
@pytest.mark.bfloat16
@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"][keras.backend.backend() == "jax" :])
def test_half_precision_keeps_boxes_in_float32(narrow, exact_losses, policy):
    exact, weights = exact_losses
    batch = near_edge_batch(narrow)
    model = MaskRCNN(narrow, dtype=policy)
    model.set_weights(weights)
    pyramid = model.fpn(model.features(batch["images"], batch["image_sizes"]))
    assert keras.backend.standardize_dtype(pyramid[0].dtype) == policy.removeprefix("mixed_")
    anchors = np.array([[[-500.0, -500.0, 500.0, 500.0]]] * 2, "float32")
    zeros = np.zeros((2, 1), "float32")
    sizes = keras.ops.convert_to_tensor(batch["image_sizes"])
    outputs = RPNOutputs([zeros], [zeros[..., None] * np.zeros(4, "float32")], [anchors[0]], pyramid)
    boxes = model.rpn.propose(outputs, sizes, training=False)
    assert float(np.asarray(boxes.boxes).max()) == np.float32(127.9)
    ours = compute_losses(model, batch)
    for name in LOSSES:
        assert ours[name] == pytest.approx(exact[name], rel=0.1, abs=0.02), name


def test_normalize_leaves_the_padding_at_zero(config):
    image = config.model.image
    images = np.full((1, 4, 6, 3), 255, "uint8")
    actual = np.asarray(normalize(images, np.array([[3.0, 5.0]], "float32"), image))
    expected = (255 - np.array(image.mean)) / np.array(image.std)
    np.testing.assert_allclose(actual[0, :3, :5], np.broadcast_to(expected, (3, 5, 3)), rtol=1e-5)
    assert np.all(actual[0, 3:] == 0)
    assert np.all(actual[0, :, 5:] == 0)
    swapped = np.asarray(normalize(images, np.array([[4.0, 6.0]], "float32"), dataclasses.replace(image, bgr=True)))
    np.testing.assert_allclose(swapped[0, 0, 0], expected[::-1], rtol=1e-5)


def test_frozen_parts_do_not_train(config):
    frozen = config.override({"norm.train": False, "backbone.freeze_at": 2})
    names = [variable.path for variable in MaskRCNN(frozen).trainable_variables]
    assert not [name for name in names if "norm" in name or "stem" in name or "c2_" in name]
    assert [name for name in names if "c3_block0_conv1/conv/kernel" in name]


def test_weight_decay_is_of_kernels_only(config):
    from maskrcnn.model.losses import l2_loss

    model = MaskRCNN(config)
    kernels = [np.asarray(v) for v in model.trainable_variables if v.path.endswith("kernel")]
    expected = 0.5 * 1e-4 * sum(float(np.square(kernel).sum()) for kernel in kernels)
    assert float(l2_loss(model.trainable_variables, 1e-4)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow  # a minute; the overfitting of `make soak` and the demonstration show the same
def test_it_learns_two_squares(config):
    """The whole chain at once: after 80 steps both squares are found, with their classes and full masks."""
    keras.utils.set_random_seed(0)
    model = MaskRCNN(config)
    batch = make_batch(config)
    model.compile(keras.optimizers.Adam(2e-3), **COMPILED)
    for _ in range(80):
        model.train_on_batch(batch)
    losses = model.get_metrics_result()
    assert np.isfinite(float(losses["loss"]))
    outputs = detect(model, batch)
    found = outputs["classes"][0, :2].tolist()  # the two best detections
    assert sorted(found) == [1, 2]
    boxes, masks = outputs["boxes"][0, :2][np.argsort(found)], outputs["masks"][0, :2][np.argsort(found)]
    overlaps = np.asarray(pairwise_iou(boxes, batch["boxes"][0, :2]))
    assert overlaps.diagonal().min() > 0.7
    assert np.mean(masks > 0.5) > 0.9
    assert not (outputs["scores"][1] > 0.5).any()


@pytest.mark.slow_under_jax
@pytest.mark.usefixtures("without_xla")
def test_four_batches_of_one_give_the_gradient_of_one_batch_of_four(config):
    """The loss is a mean over images, so with fixed norms and every anchor and RoI sampled nothing else differs."""
    config = config.override({"norm.train": False, "rpn.samples": 10**5, "box_head.samples": 10**5})
    batch = make_batch(config, batch=4)
    rng = np.random.default_rng(0)
    batch["images"] = rng.integers(0, 255, batch["images"].shape, "uint8")
    batch["boxes"][2, 0], batch["classes"][2, 0], batch["valid"][2, 0] = [30, 10, 90, 50], 2, True

    def updated(size):
        keras.utils.set_random_seed(0)
        model = MaskRCNN(config)
        steps = 4 // size
        optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=steps if steps > 1 else None)
        model.compile(optimizer, **QUICK)
        before = model.get_weights()
        for start in range(0, 4, size):
            model.train_on_batch({name: value[start : start + size] for name, value in batch.items()})
        return [after - first for after, first in zip(model.get_weights(), before, strict=True)]

    once, accumulated = updated(4), updated(1)
    assert max(np.abs(change).max() for change in once) > 0.01
    for ours, theirs in zip(once, accumulated, strict=True):
        if ours.dtype == np.float32:
            np.testing.assert_allclose(theirs, ours, atol=1e-5)
