"""Each number of a config has a type and a range, whether it comes from a flag, `--set` or a file."""

import json
import math

import pytest

from maskrcnn.config import Config
from maskrcnn.config.typed_fields import field_paths
from maskrcnn.errors import UserError

HUGE = 10**30
NO_NUMBERS = (True, "many", {}, math.nan, math.inf, -math.inf, -HUGE)
NO_INTEGERS = (*NO_NUMBERS, 1.5, [1], HUGE)
NO_FLOATS = (*NO_NUMBERS, [1.0], "1e999", 10**400)

# Whole numbers: from 1, from 0, optional from 1
COUNTS = (
    *("image.min_side", "image.max_side", "backbone.width", "fpn.channels", "rpn.convolutions", "rpn.samples"),
    *("rpn.train_candidates", "rpn.train_proposals", "rpn.test_candidates", "rpn.test_proposals"),
    *("box_head.conv_channels", "box_head.dense_layers", "box_head.channels", "box_head.pool_size"),
    *("box_head.samples", "box_head.test_candidates", "box_head.detections", "mask_head.convolutions"),
    *("mask_head.channels", "mask_head.pool_size", "mask_head.slot_sizes", "roi_align.sampling_ratio"),
    *("train.epochs", "train.batch_size", "train.accumulate", "train.keep", "train.eval_batch_size"),
    *("data.max_instances", "train.steps_per_epoch", "train.eval_samples"),
)
FROM_ZERO = (
    *("backbone.freeze_at", "box_head.convolutions"),
    *("train.seed", "train.checkpoint_every", "train.evaluate_every", "train.patience"),
)
POSITIVE = (
    *("rpn.smooth_l1_beta", "box_head.smooth_l1_beta", "train.clip_norm", "train.max_time", "train.ema"),
    *("rpn.positive_iou", "box_head.positive_iou", "rpn.nms_iou", "box_head.nms_iou"),
)
NOT_NEGATIVE = (
    *("norm.epsilon", "norm.momentum", "rpn.positive_fraction", "box_head.positive_fraction", "rpn.min_size"),
    *("box_head.min_size", "data.val_fraction", "data.color_jitter", "data.copy_paste"),
    *("train.init_learning_rate", "train.momentum", "train.l2_weight_decay", "rpn.negative_iou"),
)
FRACTIONS = (
    *("norm.momentum", "rpn.positive_iou", "rpn.negative_iou", "rpn.positive_fraction", "rpn.nms_iou"),
    *("box_head.positive_fraction", "box_head.positive_iou", "box_head.score_threshold", "box_head.nms_iou"),
    *("data.val_fraction", "data.color_jitter", "data.copy_paste", "train.momentum", "train.ema"),
)
TUPLES = {
    "image.mean": ([], [1.0, 2.0], [1.0, 2.0, "3"], [math.nan] * 3, [1.0] * 4, "RGB", 5, [1e9] * 3),
    "image.std": ([], [0.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [math.inf] * 3, [1.0] * 2),
    "anchors.sizes": ([], [0, 1, 2, 3, 4], [-32, 64, 128, 256, 512], [32.5] * 5, [32] * 4, [HUGE] * 5, [math.nan] * 5),
    "anchors.aspect_ratios": ([], [0.0], [-1.0], [math.nan], [math.inf], ["1"], [1e-30], [1.0] * 1000),
    "box_head.delta_weights": ([], [1.0] * 3, [0.0] * 4, [-1.0] * 4, [math.nan] * 4, [1e30] * 4),
    "data.scale_jitter": ([], [1.0], [0.0, 1.0], [-1.0, 1.0], [2.0, 0.1], [math.nan, 1.0], [0.1, math.inf], [1, 1e6]),
    "train.learning_rate_values": ([], [-0.1, 0.1, 0.1], [math.nan] * 3, [math.inf] * 3, ["x"] * 3, [[0.1]] * 3),
    "train.learning_rate_boundaries": ([], [-1.0, 2, 3], [math.nan] * 3, [1, math.inf, 3], [3.0, 2.0, 1.0]),
}
TEXTS = {
    "backbone.depth": (0, 51, "50x", None, 50.5, True, [50]),
    "train.decay": ("", "step", 1, None, ["steps"]),
    "train.optimizer": ("", "lion", 1, None, {}),
    "train.precision": ("", "float8", 16, None),
    "data.eval_split": ("", "dev", 1, None),
    "backbone.name": (1, [], {}, True, "", "x" * 10_000, "a\0b", "os.system"),
    "data.train_file": (1, [], {}, True, "", "a\0b"),
    "data.val_file": (1, [], {}, True, "", "a\0b"),
    "data.test_file": (1, [], {}, True, "", "a\0b"),
    "data.image_dir": (1, [], {}, True, "", "a\0b"),
}
SWITCHES = (
    *("image.bgr", "norm.train", "backbone.stride_in_1x1", "backbone.float32", "fpn.norm", "anchors.rounded"),
    *("box_head.norm", "mask_head.norm", "roi_align.aligned", "data.masks_from_boxes", "data.crowds_as_objects"),
    *("data.horizontal_flip", "data.skip_bad", "train.xla", "train.eagerly"),
)
CASES = [
    *((name, value) for name in COUNTS for value in (*NO_INTEGERS, 0, -1, 10**9)),
    *((name, value) for name in FROM_ZERO for value in (*NO_INTEGERS, -1, 2**40)),
    *((name, value) for name in POSITIVE for value in (*NO_FLOATS, 0.0, -1.0)),
    *((name, value) for name in NOT_NEGATIVE for value in (*NO_FLOATS, -1e-9, -1)),
    *((name, value) for name in FRACTIONS for value in (1.001, 2, 1e300)),
    *((name, value) for name in SWITCHES for value in (0, 1, "yes", None, [], {})),
    *((name, value) for table in (TUPLES, TEXTS) for name, values in table.items() for value in values),
]


@pytest.mark.parametrize(
    ("name", "value"), CASES, ids=lambda item: repr(item)[:24] if not isinstance(item, str) else item[:40]
)
def test_a_wrong_value_is_refused(name, value):
    with pytest.raises(UserError) as error:
        Config().override({name: value})
    message = str(error.value)
    assert name.partition(".")[2] in message
    assert len(message) < 500


def test_each_number_of_a_config_is_in_the_tables():
    tested = {name for name, _ in CASES} | {"categories"}
    assert {path.removeprefix("model.") for path in field_paths(Config)} == tested


CATEGORIES = (
    *(1, "cat", {}, None, [1], [[]], [{}], [None]),
    [{"index": 0, "id": 1, "name": "background"}],
    [{"index": -1, "id": 1, "name": "a"}],
    [{"index": 10**9, "id": 1, "name": "a"}],
    [{"index": 1.5, "id": 1, "name": "a"}],
    [{"index": 1, "id": "1", "name": "a"}],
    [{"index": 1, "id": HUGE, "name": "a"}],
    [{"index": 1, "id": 1, "name": 1}],
    [{"index": 1, "id": 1}],
    [{"index": 1, "id": 1, "name": "a", "color": 2}],
    [{"index": 1, "id": 1, "name": "a"}, {"index": 1, "id": 2, "name": "b"}],
    [{"index": 1, "id": 1, "name": "a"}, {"index": 2, "id": 1, "name": "b"}],
)


@pytest.mark.parametrize("value", CATEGORIES, ids=lambda value: json.dumps(value)[:60])
def test_wrong_categories_are_refused(value):
    with pytest.raises(UserError, match=r"categories"):
        Config.from_dict({"categories": value})


@pytest.mark.parametrize(
    "values",
    [
        {"model": 1}, {"model": []}, {"model": None}, {"model": {"rpn": 3}}, {"model": {"rpn": {"nms": 0.5}}},
        {"train": {"epoch": 3}}, {"Train": {}}, {"": 1}, {"train": {"": 1}}, {"train.epochs": 3},
        {"model": {"rpn": {"positive_iou": 0.2, "negative_iou": 0.3}}},
        {"model": {"box_head": {"samples": 10**9}}},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_structures_are_refused(values):
    with pytest.raises(UserError):
        Config.from_dict(values)


# Values of papers, presets and other recipes, which must pass
GOOD = {
    "image.min_side": (32, 640, 800, 1024, 2048),
    "image.max_side": (32, 640, 1333, 4096),
    "image.std": ([1.0, 1.0, 1.0],),
    "image.mean": ([0.0, 0.0, 0.0], [103.53, 116.28, 123.675]),
    "norm.epsilon": (0.0, 1e-3),
    "norm.momentum": (0.0, 0.99),
    "backbone.width": (8, 64, 128),
    "backbone.freeze_at": (0, 5),
    "backbone.name": (None, "ConvNeXtTiny"),
    "anchors.sizes": ([16, 32, 64, 128, 256],),
    "anchors.aspect_ratios": ([1.0], [0.25, 0.5, 1, 2, 4]),
    "rpn.train_proposals": (100, 12_000),
    "rpn.test_candidates": (6000,),
    "rpn.min_size": (0.0, 16.0),
    "box_head.convolutions": (0, 4),
    "box_head.detections": (1, 300, 1000),
    "box_head.score_threshold": (0.0, 1e-4, 0.9),
    "roi_align.sampling_ratio": (1, 4),
    "train.epochs": (1, 400, 10_000),
    "train.batch_size": (1, 512),
    "train.learning_rate_values": ([0.0, 1, 0.5],),
    "train.learning_rate_boundaries": ([0, 0, 0], [0.5, 100.0, 300.0]),
    "train.momentum": (0, 0.99),
    "train.seed": (0, 2**32 - 1, None),
    "train.ema": (0.9999, None),
    "train.keep": (1, 100),
    "train.max_time": (0.1, 60 * 24 * 30, None),
    "data.scale_jitter": ([0.1, 2.0], [1, 1], None),
    "data.color_jitter": (0, 0.4),
    "data.copy_paste": (0, 1),
    "data.val_fraction": (0, 0.5),
    "data.max_instances": (1, 1000, None),
    "train.eval_samples": (1, 5000, None),
    "train.steps_per_epoch": (1, 10**6, None),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in GOOD.items() for value in values], ids=str
)
def test_values_in_use_pass(name, value):
    config = Config().override({name: value})
    assert Config.from_dict(json.loads(config.to_json())) == config
