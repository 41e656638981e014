"""ResNet (arXiv:1512.03385): the bottom-up pathway, C2..C5."""

import dataclasses

import keras

from maskrcnn.config import BackboneConfig, NormConfig
from maskrcnn.model.layers import ConvNorm, InitialWeights
from maskrcnn.ops.typing import Float, Tensor

Map = Float[Tensor, "B H W C"]
# Blocks in each of the stages C2..C5; ResNet, Table 1.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
BOTTLENECK_EXPANSION = 4  # ResNet, Table 1: a bottleneck's last convolution has four times the channels


def resnet(config: BackboneConfig, norm: NormConfig, *, dtype: str | keras.DTypePolicy | None = None) -> keras.Model:
    """Builds the backbone.

    Args:
        config: depth, width, the place of the strides, and the stages that stay frozen.
        norm: batch normalization of the stages that are not frozen.
        dtype: the layers' dtype policy; None takes Keras' global one.

    Returns:
        A model from normalized images [B, H, W, 3] to the list C2..C5, [B, H / 2^l, W / 2^l, channels] at level l.
    """
    block = _bottleneck if config.depth >= 50 else _basic_block
    norms = {  # of the stem, 1, and the stages that end in C2..C5
        stage: dataclasses.replace(norm, train=False) if config.freeze_at >= stage else norm for stage in range(1, 6)
    }

    # Scales what each block adds, so that an untrained network keeps its variance, with a frozen norm too:
    # (1 + 1 / L)^L < e. Stable ResNet (arXiv:2010.12859), Sec. 3.2, for L blocks.
    residual = InitialWeights(norm_scale=sum(BLOCKS[config.depth]) ** -0.5)

    images = keras.Input((None, None, 3), name="images", dtype="float32")
    x = ConvNorm(config.width, 7, strides=2, norm=norms[1], relu=True, dtype=dtype, name="stem")(images)
    x = keras.layers.ZeroPadding2D(1, dtype=dtype, name="pool_pad")(x)  # zeros do no harm behind a ReLU
    x = keras.layers.MaxPooling2D(3, strides=2, dtype=dtype, name="pool")(x)

    outputs = []
    for stage, blocks in enumerate(BLOCKS[config.depth], start=2):
        settings = _BlockSettings(norms[stage], dtype, residual, config.stride_in_1x1)
        for index in range(blocks):
            strides = 2 if stage > 2 and index == 0 else 1
            x = block(x, config.width * 2 ** (stage - 2), strides, settings, name=f"c{stage}_block{index}")
        outputs.append(x)

    model = keras.Model(images, outputs, name="resnet")
    for layer in model.layers:
        stage = 1 if layer.name == "stem" else int(layer.name[1]) if layer.name[:1] == "c" else 0
        if stage and stage <= config.freeze_at:
            layer.trainable = False
    return model


@dataclasses.dataclass(frozen=True)
class _BlockSettings:
    """Settings that the blocks of a stage share."""

    norm: NormConfig
    dtype: str | keras.DTypePolicy | None
    residual: InitialWeights  # of the last convolution in a block
    stride_in_1x1: bool

    def conv(self, filters: int, kernel_size: int, **kwargs) -> ConvNorm:
        return ConvNorm(filters, kernel_size, norm=self.norm, dtype=self.dtype, **kwargs)


def _bottleneck(x: Map, channels: int, strides: int, settings: _BlockSettings, *, name: str) -> Map:
    """1x1, 3x3, 1x1; ResNet, Fig. 5. The stride sits in the 3x3 ("v1.5") or in the first 1x1."""
    first, second = (strides, 1) if settings.stride_in_1x1 else (1, strides)
    y = settings.conv(channels, 1, strides=first, relu=True, name=f"{name}_conv1")(x)
    y = settings.conv(channels, 3, strides=second, relu=True, name=f"{name}_conv2")(y)
    y = settings.conv(channels * BOTTLENECK_EXPANSION, 1, initial=settings.residual, name=f"{name}_conv3")(y)
    return _add_shortcut(x, y, strides, settings, name=name)


def _basic_block(x: Map, channels: int, strides: int, settings: _BlockSettings, *, name: str) -> Map:
    """Two 3x3 convolutions; ResNet, Fig. 2. There is no 1x1 that could hold the stride."""
    y = settings.conv(channels, 3, strides=strides, relu=True, name=f"{name}_conv1")(x)
    y = settings.conv(channels, 3, initial=settings.residual, name=f"{name}_conv2")(y)
    return _add_shortcut(x, y, strides, settings, name=name)


def _add_shortcut(x: Map, y: Map, strides: int, settings: _BlockSettings, *, name: str) -> Map:
    """y + x, where x passes a 1x1 convolution if its shape differs; ResNet, Eq. 1 and 2."""
    if strides > 1 or x.shape[-1] != y.shape[-1]:
        x = settings.conv(y.shape[-1], 1, strides=strides, name=f"{name}_shortcut")(x)
    y = keras.layers.Add(dtype=settings.dtype, name=f"{name}_add")([x, y])
    return keras.layers.ReLU(dtype=settings.dtype, name=f"{name}_relu")(y)
