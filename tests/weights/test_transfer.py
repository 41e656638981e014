"""Initialization from other weights: classes are kept, mapped by name, or new."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import ops

from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.model import MaskRCNN
from maskrcnn.weights.architectures import read_checkpoint
from maskrcnn.weights.importing import import_checkpoint
from maskrcnn.weights.model_folder import load_model, save_model
from maskrcnn.weights.transfer import Transfer, format_transfers, load_backbone, load_start, load_whole, weights_config
from maskrcnn.weights.variables import model_variables
from tests.conftest import MICRO


def values_of(model: MaskRCNN) -> dict[str, Any]:
    return {name: np.array(ops.convert_to_numpy(v)) for name, v in model_variables(model).items()}


def make_config(state: dict[str, Any], names: tuple[str, ...], **settings: Any) -> Config:
    categories = tuple(Category(i, i, name) for i, name in enumerate(names, start=1))
    config = read_checkpoint(state, "file").config.override(settings)
    return Config(model=config.model, categories=categories)


def test_backbone_of_an_imagenet_file(resnet18_state, mask_rcnn_state, save) -> None:
    model = MaskRCNN(make_config(mask_rcnn_state, ("a",)))
    before = values_of(model)
    load_backbone(model, save(resnet18_state))
    after = values_of(model)
    np.testing.assert_array_equal(
        after["resnet/c5_block1_conv2/conv/kernel"], resnet18_state["layer4.1.conv2.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(after["resnet/stem/norm/gamma"], resnet18_state["bn1.weight"])
    assert all(np.array_equal(after[name], before[name]) for name in before if not name.startswith("resnet/"))


def test_backbone_of_a_whole_file_and_of_folders(resnet18_state, mask_rcnn_state, save, labels, tmp_path: Path) -> None:
    model = MaskRCNN(make_config(mask_rcnn_state, ("a",)))
    whole = save(mask_rcnn_state, "whole.safetensors")
    import_checkpoint(whole, tmp_path / "model", labels=labels)
    import_checkpoint(save(resnet18_state), tmp_path / "backbone")
    name = "resnet/stem/conv/kernel"
    kernels = {
        whole: mask_rcnn_state["backbone.body.conv1.weight"],
        tmp_path / "backbone": resnet18_state["conv1.weight"],
        tmp_path / "model": mask_rcnn_state["backbone.body.conv1.weight"],
    }
    for path, kernel in kernels.items():
        load_backbone(model, path)
        np.testing.assert_array_equal(values_of(model)[name], kernel.transpose(2, 3, 1, 0))


def test_backbone_of_another_depth_says_what_to_set(resnet18_state, save) -> None:
    deep = Config.tiny().override({**MICRO, "backbone.depth": 34, "backbone.width": 8})
    model = MaskRCNN(dataclasses.replace(deep, categories=(Category(1, 1, "a"),)))
    message = "other settings; add --set backbone.depth=18 --set backbone.width=4$"
    with pytest.raises(UserError, match=message):
        load_backbone(model, save(resnet18_state))


def test_a_missing_checkpoint_is_named(mask_rcnn_state) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pth: no such file or folder, and no published weights"):
        load_backbone(MaskRCNN(make_config(mask_rcnn_state, ("a",))), "nowhere.pth")


def test_backbone_of_keras_weights(mask_rcnn_state, tmp_path: Path) -> None:
    path, source = save_source(mask_rcnn_state, ("a",), tmp_path / "source")
    load_model(path)[0].resnet.save_weights(tmp_path / "backbone.weights.h5")
    model = MaskRCNN(make_config(mask_rcnn_state, ("a",)))
    load_backbone(model, tmp_path / "backbone.weights.h5")
    assert all(np.array_equal(values_of(model)[name], source[name]) for name in source if name.startswith("resnet/"))
    wider = MaskRCNN(make_config(mask_rcnn_state, ("a",), **{"backbone.width": 8}))
    for other in (path, tmp_path / "backbone.weights.h5"):
        with pytest.raises(UserError, match=r"another (backbone|architecture)"):
            load_backbone(wider, other)


def save_source(state: dict[str, Any], names: tuple[str, ...], folder: Path) -> tuple[Path, dict[str, Any]]:
    config = make_config(state, names)
    model = MaskRCNN(config)
    save_model(model, config, folder)
    return folder, values_of(model)


def test_same_classes_keep_everything(mask_rcnn_state, tmp_path: Path) -> None:
    path, source = save_source(mask_rcnn_state, ("cat", "dog"), tmp_path / "source")
    model = MaskRCNN(make_config(mask_rcnn_state, ("cat", "dog")))
    rows = load_whole(model, path)
    after = values_of(model)
    assert all(np.array_equal(after[name], source[name]) for name in source)
    assert rows[-1] == Transfer("mask_head/masks", 3, 0, 0, "classes")


def test_classes_are_mapped_by_name(mask_rcnn_state, tmp_path: Path) -> None:
    path, source = save_source(mask_rcnn_state, ("cat", "DOG", "horse"), tmp_path / "source")
    model = MaskRCNN(make_config(mask_rcnn_state, ("Dog", "zebra")))
    before = values_of(model)
    rows = load_whole(model, path)
    after = values_of(model)

    np.testing.assert_array_equal(after["rpn/conv1/conv/kernel"], source["rpn/conv1/conv/kernel"])
    layers = {"box_head/classes": 1, "box_head/deltas": 4, "mask_head/masks": 1}
    for layer, size in layers.items():
        for leaf in ("kernel", "bias"):
            name = f"{layer}/{leaf}"
            got = after[name].reshape(*after[name].shape[:-1], 3, size)
            old = source[name].reshape(*source[name].shape[:-1], 4, size)
            start = before[name].reshape(got.shape)
            np.testing.assert_array_equal(got[..., 0, :], old[..., 0, :])  # the background
            np.testing.assert_array_equal(got[..., 1, :], old[..., 2, :])  # dog
            np.testing.assert_array_equal(got[..., 2, :], start[..., 2, :])  # zebra is new
    assert rows[-3:] == [Transfer(layer, 1, 1, 1, "classes; new: zebra") for layer in layers]
    assert rows[0].part == "resnet"
    assert rows[0].kept == 100


def test_whole_model_of_a_file(mask_rcnn_state, save) -> None:
    model = MaskRCNN(make_config(mask_rcnn_state, ("cat",)))
    rows = load_whole(model, save(mask_rcnn_state))  # its classes have no names: all are new
    assert rows[-1].new == 1
    np.testing.assert_array_equal(
        values_of(model)["box_head/dense2/kernel"], mask_rcnn_state["roi_heads.box_head.fc7.weight"].T
    )


def test_whole_model_of_another_architecture_changes_nothing(mask_rcnn_state, tmp_path: Path) -> None:
    path, _ = save_source(mask_rcnn_state, ("cat",), tmp_path / "source")
    model = MaskRCNN(make_config(mask_rcnn_state, ("cat",), **{"rpn.convolutions": 2, "norm.epsilon": 0.001}))
    with pytest.raises(UserError, match=r"add --set norm\.epsilon=1e-05 --set rpn\.convolutions=1$"):
        load_whole(model, path)
    model = MaskRCNN(make_config(mask_rcnn_state, ("cat",), **{"mask_head.convolutions": 3}))
    before = values_of(model)
    with pytest.raises(UserError, match="2 tensors unused: mask_head/conv4/conv/kernel, mask_head/conv4/conv/bias"):
        load_whole(model, path)
    after = values_of(model)
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_backbone_is_no_whole_model(resnet18_state, mask_rcnn_state, save) -> None:
    model = MaskRCNN(make_config(mask_rcnn_state, ("cat",)))
    with pytest.raises(UserError, match="a backbone, not a whole model; give it as --backbone_checkpoint"):
        load_whole(model, save(resnet18_state))


def test_architecture_for_weights(mask_rcnn_state, save, tmp_path: Path) -> None:
    path, _ = save_source(mask_rcnn_state, ("cat",), tmp_path / "source")
    assert weights_config(path) == weights_config(save(mask_rcnn_state))
    assert weights_config(path).backbone.width == 4


def test_table() -> None:
    rows = [Transfer("resnet", 100, 0, 0, "variables"), Transfer("mask_head/masks", 1, 2, 3, "classes; new: a, b, c")]
    assert format_transfers(rows).splitlines() == [
        "part                 kept mapped    new",
        "resnet                100      0      0  variables",
        "mask_head/masks         1      2      3  classes; new: a, b, c",
    ]


def test_backbone_and_whole_model_exclude_each_other(mask_rcnn_state) -> None:
    model = MaskRCNN(make_config(mask_rcnn_state, ("cat",)))
    with pytest.raises(UserError, match="give either --weights or --backbone_checkpoint"):
        load_start(model, backbone_checkpoint="a.pth", weights="b")


def test_start_shows_the_table(mask_rcnn_state, tmp_path: Path, caplog) -> None:
    path, _ = save_source(mask_rcnn_state, ("cat",), tmp_path / "source")
    with caplog.at_level("INFO", logger="maskrcnn"):
        load_start(MaskRCNN(make_config(mask_rcnn_state, ("dog",))), backbone_checkpoint=None, weights=path)
    assert "classes; new: dog" in caplog.text
