"""Checkpoints of TensorFlow under the names of NVIDIA's ResNet-50, written by TensorFlow itself."""

import numpy as np
import pytest
import tensorflow as tf

from maskrcnn.errors import UserError
from maskrcnn.weights.architectures import read_checkpoint
from maskrcnn.weights.formats.checkpoint_files import read_tensors
from maskrcnn.weights.published import find_weights

WIDTH = 2
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def nvidia_shapes():
    """Names and shapes of rn50_tf_amp_ckpt, narrow, with some of its optimizer's variables."""
    shapes = {"global_step": (), "loss_scale": (), "resnet50/output/dense/kernel": (64, 10)}

    def layer(name, side, inputs, outputs):
        shapes[f"{name}/conv2d/kernel"] = (side, side, inputs, outputs)
        shapes.update({f"{name}/BatchNorm/{leaf}": (outputs,) for leaf in NORM})
        shapes[f"{name}/conv2d/kernel/Momentum"] = (side, side, inputs, outputs)

    layer("resnet50/conv2d", 7, 3, WIDTH)
    inputs = WIDTH
    for group, blocks in enumerate((3, 4, 6, 3)):
        width = WIDTH * 2**group
        for index in range(blocks):
            block = f"resnet50/btlnck_block_{group}_{index}"
            layer(f"{block}/bottleneck_1", 1, inputs, width)
            layer(f"{block}/bottleneck_2", 3, width, width)
            layer(f"{block}/bottleneck_3", 1, width, 4 * width)
            if index == 0:
                layer(f"{block}/shortcut/conv2d", 1, inputs, 4 * width)
            inputs = 4 * width
    return shapes


@pytest.fixture(scope="module")
def nvidia(tmp_path_factory):
    random = np.random.default_rng(0)
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in nvidia_shapes().items()}
    tensors["global_step"] = np.int64(7)
    prefix = tmp_path_factory.mktemp("rn50_tf_amp_ckpt_v20.06.0") / "nvidia_rn50_tf_amp"
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=list(tensors), shape_and_slices=[""] * len(tensors), tensors=tensors.values()
    )
    return prefix, tensors


def test_nvidia_resnet50(nvidia):
    prefix, tensors = nvidia
    assert find_weights(str(prefix)) == prefix
    checkpoint = read_checkpoint(read_tensors(prefix), prefix)
    backbone = checkpoint.config.model.backbone
    assert (backbone.depth, backbone.width, checkpoint.num_classes) == (50, WIDTH, 0)
    assert len(checkpoint.tensors) == 5 * (1 + 16 * 3 + 4)
    for ours, theirs in {
        "stem/conv/kernel": "conv2d/conv2d/kernel",
        "stem/norm/moving_variance": "conv2d/BatchNorm/moving_variance",
        "c4_block5_conv2/conv/kernel": "btlnck_block_2_5/bottleneck_2/conv2d/kernel",
        "c5_block0_shortcut/norm/beta": "btlnck_block_3_0/shortcut/conv2d/BatchNorm/beta",
    }.items():
        np.testing.assert_array_equal(checkpoint.tensors[f"resnet/{ours}"].value, tensors[f"resnet50/{theirs}"])


def test_the_index_names_the_checkpoint_too(nvidia):
    prefix, tensors = nvidia
    read = read_tensors(prefix.with_suffix(".index"))
    assert read.keys() == tensors.keys() - {"global_step"}


def test_a_missing_data_file(nvidia, tmp_path):
    index = nvidia[0].with_suffix(".index").read_bytes()
    (tmp_path / "half.index").write_bytes(index)
    with pytest.raises(
        UserError, match=r"half: a damaged or incomplete TensorFlow checkpoint .* copy both its \.index"
    ):
        read_tensors(tmp_path / "half")
    (tmp_path / "half.index").write_bytes(index[:100])
    with pytest.raises(UserError, match="half: a damaged or incomplete TensorFlow checkpoint"):
        read_tensors(tmp_path / "half")
