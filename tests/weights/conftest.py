"""Checkpoints of small models in the publishers' names and layouts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

State = dict[str, NDArray[Any]]
Shapes = dict[str, tuple[int, ...]]

WIDTH, CHANNELS, DENSE = 4, 6, 10
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.{leaf}": (channels,) for leaf in ("weight", "bias", "running_mean", "running_var")}


def layer(name: str, *shape: int, outputs: int | None = None) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": (shape[0] if outputs is None else outputs,)}


def torchvision_resnet(depth: int, prefix: str = "") -> Shapes:
    """Names of the real files, see tests/fixtures/checkpoints/resnet_names.json."""
    expansion = 1 if depth < 50 else 4
    shapes = {f"{prefix}conv1.weight": (WIDTH, 3, 7, 7), **norm(f"{prefix}bn1", WIDTH)}
    inputs = WIDTH
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        width = WIDTH * 2 ** (stage - 1)
        for index in range(blocks):
            block = f"{prefix}layer{stage}.{index}."
            kernels = [(width, inputs, 3), (width, width, 3)]
            if depth >= 50:
                kernels = [(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]
            for number, (out, into, side) in enumerate(kernels, start=1):
                shapes[f"{block}conv{number}.weight"] = (out, into, side, side)
                shapes |= norm(f"{block}bn{number}", out)
            if inputs != width * expansion or (stage > 1 and index == 0):
                shapes[f"{block}downsample.0.weight"] = (width * expansion, inputs, 1, 1)
                shapes |= norm(f"{block}downsample.1", width * expansion)
            inputs = width * expansion
    return shapes


def torchvision_heads(depth: int, classes: int) -> Shapes:
    shapes: Shapes = {}
    for level in range(4):
        inputs = WIDTH * 2**level * (1 if depth < 50 else 4)
        shapes |= layer(f"backbone.fpn.inner_blocks.{level}.0", CHANNELS, inputs, 1, 1)
        shapes |= layer(f"backbone.fpn.layer_blocks.{level}.0", CHANNELS, CHANNELS, 3, 3)
        shapes |= layer(f"roi_heads.mask_head.{level}.0", CHANNELS, CHANNELS, 3, 3)
    return {
        **shapes,
        **layer("rpn.head.conv.0.0", CHANNELS, CHANNELS, 3, 3),
        **layer("rpn.head.cls_logits", 3, CHANNELS, 1, 1),
        **layer("rpn.head.bbox_pred", 12, CHANNELS, 1, 1),
        **layer("roi_heads.box_head.fc6", DENSE, CHANNELS * 49),
        **layer("roi_heads.box_head.fc7", DENSE, DENSE),
        **layer("roi_heads.box_predictor.cls_score", classes, DENSE),
        **layer("roi_heads.box_predictor.bbox_pred", 4 * classes, DENSE),
        **layer("roi_heads.mask_predictor.conv5_mask", CHANNELS, CHANNELS, 2, 2),
        **layer("roi_heads.mask_predictor.mask_fcn_logits", classes, CHANNELS, 1, 1),
    }


def random_state(shapes: Shapes, seed: int = 0) -> State:
    random = np.random.default_rng(seed)
    return {name: random.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def resnet18_state() -> State:
    """An ImageNet checkpoint of a narrow ResNet-18."""
    shapes = {**torchvision_resnet(18), "fc.weight": (10, 8 * WIDTH), "fc.bias": (10,)}
    return random_state(shapes)


@pytest.fixture(scope="session")
def mask_rcnn_state() -> State:
    """A narrow ResNet-18 Mask R-CNN of three classes and the background."""
    return random_state({**torchvision_resnet(18, "backbone.body."), **torchvision_heads(18, 4)}, seed=1)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(state: State, name: str = "model.safetensors") -> Path:
        path = tmp_path / name
        save_file({key: np.array(value, order="C") for key, value in state.items()}, path)
        return path

    return write


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\nbird\n", encoding="utf-8")
    return path
