"""ResNet (arXiv:1512.03385): the bottom-up pathway, C2..C5."""

import dataclasses

import keras

from maskrcnn.config import BackboneConfig, NormConfig
from maskrcnn.model.layers import ConvNorm

# Blocks in each of the stages C2..C5; ResNet, Table 1.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
BOTTLENECK_EXPANSION = 4  # ResNet, Table 1: a bottleneck's last convolution has four times the channels


def resnet(config: BackboneConfig, norm: NormConfig, *, dtype=None) -> keras.Model:
    """Builds the backbone.

    Args:
        config: depth, width, the place of the strides, and the stages that stay frozen.
        norm: batch normalization of the stages that are not frozen.
        dtype: the layers' dtype policy; None takes Keras' global one.

    Returns:
        A model from normalized images [B, H, W, 3] to the list C2..C5, [B, H / 2^l, W / 2^l, channels] at level l.
    """
    frozen_norm = dataclasses.replace(norm, train=False)
    block = _bottleneck if config.depth >= 50 else _basic_block

    # Scales what each block adds, so that an untrained network keeps its variance, with a frozen norm too:
    # (1 + 1 / L)^L < e. Stable ResNet (arXiv:2010.12859), Sec. 3.2, for L blocks.
    residual_scale = sum(BLOCKS[config.depth]) ** -0.5

    images = keras.Input((None, None, 3), name="images", dtype="float32")
    stage_norm = frozen_norm if config.freeze_at >= 1 else norm
    x = ConvNorm(config.width, 7, strides=2, norm=stage_norm, relu=True, dtype=dtype, name="stem")(images)
    x = keras.layers.ZeroPadding2D(1, dtype=dtype, name="pool_pad")(x)  # zeros do no harm behind a ReLU
    x = keras.layers.MaxPooling2D(3, strides=2, dtype=dtype, name="pool")(x)

    outputs = []
    for stage, blocks in enumerate(BLOCKS[config.depth], start=2):  # the stage that ends in C2, C3, ...
        stage_norm = frozen_norm if config.freeze_at >= stage else norm
        for index in range(blocks):
            strides = 2 if stage > 2 and index == 0 else 1
            x = block(
                x,
                config.width * 2 ** (stage - 2),
                strides=strides,
                settings={"norm": stage_norm, "dtype": dtype},
                residual_scale=residual_scale,
                stride_in_1x1=config.stride_in_1x1,
                name=f"c{stage}_block{index}",
            )
        outputs.append(x)

    model = keras.Model(images, outputs, name="resnet")
    for layer in model.layers:
        stage = 1 if layer.name == "stem" else int(layer.name[1]) if layer.name[:1] == "c" else 0
        if stage and stage <= config.freeze_at:
            layer.trainable = False
    return model


def _bottleneck(
    x, channels: int, *, strides: int, settings: dict, residual_scale: float, stride_in_1x1: bool, name: str
):
    """1x1, 3x3, 1x1; ResNet, Fig. 5. The stride sits in the 3x3 ("v1.5") or in the first 1x1."""
    first, second = (strides, 1) if stride_in_1x1 else (1, strides)
    expanded = channels * BOTTLENECK_EXPANSION
    y = ConvNorm(channels, 1, strides=first, relu=True, name=f"{name}_conv1", **settings)(x)
    y = ConvNorm(channels, 3, strides=second, relu=True, name=f"{name}_conv2", **settings)(y)
    y = ConvNorm(expanded, 1, norm_scale=residual_scale, name=f"{name}_conv3", **settings)(y)
    return _add_shortcut(x, y, strides=strides, settings=settings, name=name)


def _basic_block(
    x, channels: int, *, strides: int, settings: dict, residual_scale: float, stride_in_1x1: bool, name: str
):
    """Two 3x3 convolutions; ResNet, Fig. 2. There is no 1x1 that could hold the stride."""
    del stride_in_1x1
    y = ConvNorm(channels, 3, strides=strides, relu=True, name=f"{name}_conv1", **settings)(x)
    y = ConvNorm(channels, 3, norm_scale=residual_scale, name=f"{name}_conv2", **settings)(y)
    return _add_shortcut(x, y, strides=strides, settings=settings, name=name)


def _add_shortcut(x, y, *, strides: int, settings: dict, name: str):
    """y + x, where x passes a 1x1 convolution if its shape differs; ResNet, Eq. 1 and 2."""
    if strides > 1 or x.shape[-1] != y.shape[-1]:
        x = ConvNorm(y.shape[-1], 1, strides=strides, name=f"{name}_shortcut", **settings)(x)
    dtype = settings["dtype"]
    y = keras.layers.Add(dtype=dtype, name=f"{name}_add")([x, y])
    return keras.layers.ReLU(dtype=dtype, name=f"{name}_relu")(y)
