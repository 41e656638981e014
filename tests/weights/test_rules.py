"""Names and layouts: every tensor of the published files has its variable, and every number its place."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.weights.rules import (
    DETECTRON2,
    TORCHVISION,
    TORCHVISION_RESNET,
    ConvertedTensor,
    check_balance,
    convert,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"


def placeholders(shapes: dict[str, list[int]]) -> dict[str, Any]:
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def golden_shapes(name: str) -> dict[str, list[int]]:
    rows = json.loads((FIXTURES / "goldens" / f"state_dict_{name}.json").read_text(encoding="utf-8"))
    return {row["name"]: row["shape"] for row in rows}


def targets(shapes: dict[str, list[int]], naming: Any = TORCHVISION) -> list[str]:
    return list(convert(placeholders(shapes), naming, path="file"))


def test_every_torchvision_name_has_a_variable_of_its_own() -> None:
    names = targets(golden_shapes("maskrcnn_resnet50_fpn"))
    assert len(names) == 307
    assert "resnet/c5_block2_conv3/norm/moving_variance" in names
    assert "mask_head/upsample/kernel" in names

    shapes = golden_shapes("maskrcnn_resnet50_fpn_v2")
    counters = [name for name in shapes if name.endswith("num_batches_tracked")]
    assert len(targets(shapes)) == len(shapes) - len(counters) == 432 - len(counters)


def test_names_before_torchvision_0_13_mean_the_same() -> None:
    shapes = golden_shapes("maskrcnn_resnet50_fpn")
    old = json.loads((FIXTURES / "goldens" / "legacy_names_maskrcnn_resnet50_fpn.json").read_text(encoding="utf-8"))
    assert len(old) == 26
    assert targets({old.get(name, name): shape for name, shape in shapes.items()}) == targets(shapes)


@pytest.mark.parametrize(("depth", "tensors"), [(18, 100), (34, 180), (50, 265), (101, 520)])
def test_imagenet_names(depth: int, tensors: int) -> None:
    shapes = json.loads((FIXTURES / "checkpoints" / "resnet_names.json").read_text(encoding="utf-8"))
    assert len(targets(shapes[f"resnet{depth}"], TORCHVISION_RESNET)) == tensors


def test_convolution_by_hand() -> None:
    kernel = np.arange(2 * 3 * 1 * 2, dtype=np.float32).reshape(2, 3, 1, 2)  # (out, in, height, width)
    ours = convert({"conv1.weight": kernel}, TORCHVISION_RESNET, path="file")["resnet/stem/conv/kernel"].value
    assert ours.shape == (1, 2, 3, 2)  # (height, width, in, out)
    assert ours[0, 1, 2, 0] == kernel[0, 2, 0, 1] == 5


def test_transposed_convolution_by_hand() -> None:
    kernel = np.arange(3 * 2 * 2 * 2, dtype=np.float32).reshape(3, 2, 2, 2)  # (in, out, height, width)
    name = "roi_heads.mask_predictor.conv5_mask.weight"
    ours = convert({name: kernel}, TORCHVISION, path="file")["mask_head/upsample/kernel"].value
    assert ours.shape == (2, 2, 2, 3)  # (height, width, out, in)
    assert ours[0, 1, 1, 2] == kernel[2, 1, 0, 1] == 21


def test_first_dense_layer_by_hand(monkeypatch) -> None:
    weight = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 12)  # columns go by channel, row, column of 3 x 2 x 2
    tensors = {"roi_heads.box_head.fc6.weight": weight}
    monkeypatch.setattr("maskrcnn.weights.rules.POOL_SIZE", 2)
    ours = convert(tensors, TORCHVISION, path="file")["box_head/dense1/kernel"].value
    assert ours.shape == (12, 2)
    # row 1, column 0, channel 2: there 2 * 4 + 1 * 2 + 0 = 10, here (1 * 2 + 0) * 3 + 2 = 8
    assert ours[8, 1] == weight[1, 10] == 22


def test_classes_of_detectron2_by_hand() -> None:
    """Its rows are dog, cat, background for scores, and dog, cat for deltas and masks."""
    tensors = {
        "roi_heads.box_predictor.cls_score.bias": np.array([1, 2, 9], np.float32),
        "roi_heads.box_predictor.bbox_pred.bias": np.arange(1, 9, dtype=np.float32),
        "roi_heads.mask_head.predictor.bias": np.array([5, 6], np.float32),
    }
    ours = convert(tensors, DETECTRON2, path="file")
    np.testing.assert_array_equal(ours["box_head/classes/bias"].value, [9, 1, 2])
    np.testing.assert_array_equal(ours["box_head/deltas/bias"].value, [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    np.testing.assert_array_equal(ours["mask_head/masks/bias"].value, [0, 5, 6])


def test_constants_of_detectron2_are_ignored() -> None:
    constants = {"pixel_mean": [3, 1, 1], "proposal_generator.anchor_generator.cell_anchors.0": [3, 4]}
    assert targets(constants, DETECTRON2) == []


def test_unknown_tensors_are_listed() -> None:
    with pytest.raises(UserError, match=r"^file: 2 tensors are unknown: extra\.weight, conv1\.scale$"):
        convert(placeholders({"extra.weight": [1], "conv1.scale": [1]}), TORCHVISION_RESNET, path="file")


def test_two_tensors_for_one_variable_are_refused() -> None:
    with pytest.raises(UserError, match=r"rpn\.head\.conv\.weight and rpn\.head\.conv\.0\.0\.weight both stand for"):
        targets({"rpn.head.conv.0.0.weight": [1, 1, 3, 3], "rpn.head.conv.weight": [1, 1, 3, 3]})


def test_mismatches_are_listed() -> None:
    tensors = {"a": ConvertedTensor("their.a", np.zeros(2)), "b": ConvertedTensor("their.b", np.zeros((2, 3)))}
    message = (
        "file: 1 variables without a tensor: c; 1 tensors unused: their.a; "
        "1 tensors of the wrong shape: their.b (as b (2, 3), expected (3, 2))"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_balance(tensors, {"b": (3, 2), "c": (1,)}, path="file")
    check_balance(tensors, {"a": (2,), "b": (2, 3)}, path="file")
