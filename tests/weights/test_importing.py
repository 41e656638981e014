"""Importing checkpoints: the numbers arrive, and files that do not fit leave nothing behind."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from keras import ops

import maskrcnn
from maskrcnn.config import load_config
from maskrcnn.errors import UserError
from maskrcnn.weights.architectures import read_checkpoint
from maskrcnn.weights.importing import import_checkpoint, open_model, read_labels
from maskrcnn.weights.model_folder import load_model
from maskrcnn.weights.rules import DETECTRON2, convert
from maskrcnn.weights.variables import model_variables


@pytest.mark.slow_under_jax
def test_torchvision_model(mask_rcnn_state, save, labels, tmp_path: Path) -> None:
    done = import_checkpoint(save(mask_rcnn_state), tmp_path / "model", labels=labels)
    assert done.num_tensors == len(mask_rcnn_state)

    model, config = load_model(tmp_path / "model")
    assert [(c.index, c.name) for c in config.categories] == [(1, "cat"), (2, "dog"), (3, "bird")]
    assert (config.model.backbone.depth, config.model.backbone.width) == (18, 4)
    assert (config.model.image.min_side, config.model.image.max_side) == (800, 1333)
    variables = {name: np.asarray(ops.convert_to_numpy(v)) for name, v in model_variables(model).items()}
    np.testing.assert_array_equal(
        variables["resnet/c3_block0_shortcut/conv/kernel"],
        mask_rcnn_state["backbone.body.layer2.0.downsample.0.weight"].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(
        variables["box_head/classes/kernel"], mask_rcnn_state["roi_heads.box_predictor.cls_score.weight"].T
    )
    images = np.zeros((1, 64, 64, 3), np.uint8)
    outputs = model.predict_on_batch({"images": images, "image_sizes": np.array([[64, 64]], np.float32)})
    assert np.isfinite(outputs["scores"]).all()


def test_imagenet_backbone(resnet18_state, save, tmp_path: Path) -> None:
    import_checkpoint(save(resnet18_state), tmp_path / "backbone")
    assert {path.name for path in (tmp_path / "backbone").iterdir()} == {"config.json", "backbone.weights.h5"}
    assert load_config(tmp_path / "backbone" / "config.json").model.backbone.depth == 18


def detectron2_state(state):
    """The same model as Detectron2 would name it: the background's row last, and none for deltas and masks."""
    names = (
        (r"backbone\.body\.conv1", "backbone.bottom_up.stem.conv1"),
        (r"backbone\.body\.bn1", "backbone.bottom_up.stem.conv1.norm"),
        (r"backbone\.body\.layer(\d)\.(\d)\.downsample\.0", r"backbone.bottom_up.res#\1.\2.shortcut"),
        (r"backbone\.body\.layer(\d)\.(\d)\.downsample\.1", r"backbone.bottom_up.res#\1.\2.shortcut.norm"),
        (r"backbone\.body\.layer(\d)\.(\d)\.conv(\d)", r"backbone.bottom_up.res#\1.\2.conv\3"),
        (r"backbone\.body\.layer(\d)\.(\d)\.bn(\d)", r"backbone.bottom_up.res#\1.\2.conv\3.norm"),
        (r"backbone\.fpn\.inner_blocks\.(\d)\.0", r"backbone.fpn_lateral##\1"),
        (r"backbone\.fpn\.layer_blocks\.(\d)\.0", r"backbone.fpn_output##\1"),
        (r"rpn\.head\.conv\.0\.0", "proposal_generator.rpn_head.conv"),
        (r"rpn\.head\.cls_logits", "proposal_generator.rpn_head.objectness_logits"),
        (r"rpn\.head\.bbox_pred", "proposal_generator.rpn_head.anchor_deltas"),
        (r"roi_heads\.box_head\.fc6", "roi_heads.box_head.fc1"),
        (r"roi_heads\.box_head\.fc7", "roi_heads.box_head.fc2"),
        (r"roi_heads\.mask_head\.(\d)\.0", r"roi_heads.mask_head.mask_fcn#\1"),
        (r"roi_heads\.mask_predictor\.conv5_mask", "roi_heads.mask_head.deconv"),
        (r"roi_heads\.mask_predictor\.mask_fcn_logits", "roi_heads.mask_head.predictor"),
        (r"(roi_heads\.box_predictor\.\w+)", r"\1"),
    )
    renamed = {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        found = next((re.fullmatch(old, module), new) for old, new in names if re.fullmatch(old, module))
        theirs = found[0].expand(found[1])
        theirs = re.sub("#+([0-9])", lambda digits: str(int(digits[1]) + len(digits[0]) - 1), theirs)
        if "cls_score" in theirs:
            value = np.concatenate([value[1:], value[:1]])
        elif "roi_heads.box_predictor" in theirs:
            value = value[4:]
        elif "predictor" in theirs:
            value = value[1:]
        renamed[f"{theirs}.{leaf}"] = value
    return renamed


def test_detectron2_model_means_the_same(mask_rcnn_state) -> None:
    theirs = convert(detectron2_state(mask_rcnn_state), DETECTRON2, path="file")
    expected = read_checkpoint(mask_rcnn_state, "file").tensors
    assert theirs.keys() == expected.keys()
    for name, tensor in expected.items():
        actual, expected_value = theirs[name].value, tensor.value.copy()
        if name.startswith("box_head/deltas"):
            expected_value[..., :4] = 0  # the background's
        elif name.startswith("mask_head/masks"):
            expected_value[..., :1] = 0
        np.testing.assert_array_equal(actual, expected_value, err_msg=name)


def test_detectron2_settings(mask_rcnn_state, save, labels, tmp_path: Path) -> None:
    import_checkpoint(save(detectron2_state(mask_rcnn_state)), tmp_path / "model", labels=labels)
    model = load_config(tmp_path / "model" / "config.json").model
    assert model.backbone.stride_in_1x1
    assert model.roi_align.aligned
    assert not model.anchors.rounded
    assert model.image.bgr
    assert model.image.mean == (123.675, 116.28, 103.53)
    assert model.image.std == (1.0, 1.0, 1.0)


def old_names(state):
    """Renames tensors as torchvision did before 0.13."""
    rules = (
        (r"(backbone\.fpn\.\w+_blocks\.\d)\.0\.", r"\1."),
        (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
        (r"mask_head\.(\d)\.0\.", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}."),
    )
    renamed = {}
    for name, value in state.items():
        for expression, new in rules:
            name = re.sub(expression, new, name)
        renamed[name] = value
    return renamed


def with_classes(state, classes: int):
    state = dict(state)
    for layer, rows in (("box_predictor.cls_score", 1), ("box_predictor.bbox_pred", 4), ("mask_fcn_logits", 1)):
        for name in [name for name in state if layer in name]:
            state[name] = np.resize(state[name], (rows * classes, *state[name].shape[1:]))
    return state


def test_a_checkpoint_is_used_without_a_model_folder(mask_rcnn_state, resnet18_state, save, tmp_path: Path) -> None:
    path = save(with_classes(mask_rcnn_state, 91))
    import_checkpoint(path, tmp_path / "model")
    config = maskrcnn.load(str(tmp_path / "model")).config
    opened = open_model(path)
    assert opened.config == config
    for value, expected in zip(
        opened.load(config).get_weights(), load_model(tmp_path / "model")[0].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(value, expected)
    assert maskrcnn.load(path).config == config
    with pytest.raises(UserError, match="a backbone, not a whole model; train with --backbone_checkpoint"):
        open_model(save(resnet18_state))


def test_epsilon_is_zero_for_torchvisions_coco_release_alone(mask_rcnn_state) -> None:
    coco = with_classes(mask_rcnn_state, 91)
    assert read_checkpoint(old_names(coco), "renamed.pth").config.model.norm.epsilon == 0.0
    assert read_checkpoint(coco, "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth").config.model.norm.epsilon == 0.0
    unsure = read_checkpoint(coco, "own.pth")
    assert unsure.config.model.norm.epsilon == 1e-5
    assert unsure.hint.endswith("import it with --set norm.epsilon=0")
    assert not read_checkpoint(mask_rcnn_state, "own.pth").hint
    assert read_checkpoint(old_names(mask_rcnn_state), "own.pth").config.model.norm.epsilon == 1e-5


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_depth_is_detected_from_the_tensors(depth: int) -> None:
    path = Path(__file__).parents[1] / "fixtures" / "checkpoints" / "resnet_names.json"
    shapes = json.loads(path.read_text(encoding="utf-8"))[f"resnet{depth}"]
    state = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    backbone = read_checkpoint(state, "file").config.model.backbone
    assert (backbone.depth, backbone.width) == (depth, 64)


def test_settings_override_detected_ones(mask_rcnn_state, save, labels, tmp_path: Path) -> None:
    settings = {"norm.epsilon": "0.001"}
    done = import_checkpoint(save(mask_rcnn_state), tmp_path / "model", labels=labels, settings=settings)
    assert done.config.model.norm.epsilon == 0.001


def test_coco_categories_are_detected(mask_rcnn_state, save, tmp_path: Path) -> None:
    done = import_checkpoint(save(with_classes(mask_rcnn_state, 91)), tmp_path / "model")
    assert len(done.config.categories) == 80
    assert done.config.num_classes == 91
    assert {(c.index, c.id, c.name) for c in done.config.categories} >= {(90, 90, "toothbrush"), (13, 13, "stop sign")}

    state = detectron2_state(with_classes(mask_rcnn_state, 81))
    done = import_checkpoint(save(state), tmp_path / "contiguous")
    assert {(c.index, c.id, c.name) for c in done.config.categories} >= {(80, 90, "toothbrush"), (12, 13, "stop sign")}


def break_missing(state):
    del state["backbone.body.layer2.1.bn2.running_var"]
    return r"1 variables without a tensor: resnet/c3_block1_conv2/norm/moving_variance"


def break_extra(state):
    state["roi_heads.keypoint_head.weight"] = np.zeros(3, np.float32)
    return r"1 tensors are unknown: roi_heads\.keypoint_head\.weight"


def break_extra_layer(state):
    state["backbone.body.layer2.0.conv3.weight"] = np.zeros((8, 8, 1, 1), np.float32)
    return r"1 tensors unused: backbone\.body\.layer2\.0\.conv3\.weight"


def break_shape(state):
    state["rpn.head.bbox_pred.weight"] = np.zeros((12, 5, 1, 1), np.float32)
    return r"rpn\.head\.bbox_pred\.weight \(as rpn/deltas/conv/kernel \(1, 1, 5, 12\), expected \(1, 1, 6, 12\)\)"


def break_scalar(state):
    state["roi_heads.box_predictor.cls_score.bias"] = np.array(1, np.float32)
    return r"roi_heads\.box_predictor\.cls_score\.bias \(as box_head/classes/bias \(\), expected \(4,\)\)"


def break_depth(state):
    for name in [name for name in state if ".layer3.1." in name]:
        del state[name]
    return r"a ResNet of 2\+2\+1\+2 blocks; the supported depths are 18, 34, 50, 101"


@pytest.mark.parametrize(
    "damage", [break_missing, break_extra, break_extra_layer, break_shape, break_scalar, break_depth]
)
def test_mismatches_are_named_and_nothing_is_written(damage, mask_rcnn_state, save, labels, tmp_path: Path) -> None:
    state = dict(mask_rcnn_state)
    message = damage(state)
    with pytest.raises(UserError, match=message) as caught:
        import_checkpoint(save(state), tmp_path / "model", labels=labels)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_truncated_file_writes_nothing(mask_rcnn_state, save, labels, tmp_path: Path) -> None:
    path = save(mask_rcnn_state)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged or truncated"):
        import_checkpoint(path, tmp_path / "model", labels=labels)
    assert not (tmp_path / "model").exists()


def test_unknown_architecture_is_refused(save, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"an unknown architecture \(its tensors: query"):
        import_checkpoint(save({"query": np.zeros(3, np.float32)}), tmp_path / "model")


def test_other_classes_than_cocos_need_labels(mask_rcnn_state, save, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 3 classes, not COCO's; name them with .* --labels"):
        import_checkpoint(save(mask_rcnn_state), tmp_path / "model")


def test_folder_with_a_model_is_left_alone(mask_rcnn_state, save, labels, tmp_path: Path) -> None:
    (tmp_path / "model" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="already holds a model"):
        import_checkpoint(save(mask_rcnn_state), tmp_path / "model", labels=labels)


def coco_labels(*ids: int) -> str:
    return json.dumps({"categories": [{"id": id_, "name": f"c{id_}"} for id_ in ids]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat\ndog\nbird\n", [(1, 1, "cat"), (2, 2, "dog"), (3, 3, "bird")]),
        ("__background__\ncat\nN/A\nbird", [(1, 1, "cat"), (3, 3, "bird")]),
        (coco_labels(9, 4, 7), [(1, 4, "c4"), (2, 7, "c7"), (3, 9, "c9")]),
        (coco_labels(3, 1), [(1, 1, "c1"), (3, 3, "c3")]),
    ],
)
def test_labels(text: str, expected: list[tuple[int, int, str]], tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text(text, encoding="utf-8")
    assert [tuple(vars(category).values()) for category in read_labels(path, 4)] == expected


@pytest.mark.parametrize("text", ["cat\ndog\n", "", '{"images": []}', "{not json"])
def test_wrong_labels_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=str(path)):
        read_labels(path, 4)
