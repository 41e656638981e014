"""Feature Pyramid Network (arXiv:1612.03144): the top-down pathway, P2..P6."""

import keras

from maskrcnn.config import FPNConfig, NormConfig
from maskrcnn.model.layers import ConvNorm, InitialWeights
from maskrcnn.model.structures import Pyramid
from maskrcnn.ops.typing import Float, Tensor


class FPN(keras.layers.Layer):
    """Turns C2..C5 into P2..P6, each of the same number of channels; FPN, Fig. 3."""

    def __init__(self, config: FPNConfig, norm: NormConfig, **kwargs):
        super().__init__(autocast=False, **kwargs)
        settings = {
            "norm": norm if config.norm else None,
            "initial": InitialWeights(kernel="lecun_uniform"),  # unit gain: no activation follows
            "dtype": self.dtype_policy,
        }
        self.laterals = [ConvNorm(config.channels, 1, name=f"lateral{level}", **settings) for level in range(2, 6)]
        self.outputs = [ConvNorm(config.channels, 3, name=f"output{level}", **settings) for level in range(2, 6)]
        self.channels = config.channels

    def build(self, input_shape) -> None:
        for lateral, output, shape in zip(self.laterals, self.outputs, input_shape, strict=True):
            lateral.build(shape)
            output.build((None, None, None, self.channels))

    def call(self, features: Pyramid, training: bool = False) -> Pyramid:
        """[C2, .., C5] -> [P2, .., P6], P_l: [B, H / 2^l, W / 2^l, channels]."""
        merged = [lateral(c, training=training) for lateral, c in zip(self.laterals, features, strict=True)]
        for level in range(len(merged) - 2, -1, -1):
            merged[level] = _add_upsampled(merged[level], merged[level + 1])
        pyramid = [output(m, training=training) for output, m in zip(self.outputs, merged, strict=True)]
        p6 = pyramid[-1][:, ::2, ::2, :]  # FPN, Sec. 4.1: "simply a stride two subsampling of P5"
        return [*pyramid, p6]


def _add_upsampled(lateral: Float[Tensor, "B 2H 2W C"], top: Float[Tensor, "B H W C"]) -> Float[Tensor, "B 2H 2W C"]:
    """Adds the upper level, doubled by nearest neighbor; the rows are doubled in the sum itself, without a copy."""
    shape = keras.ops.shape(lateral)
    columns = keras.ops.repeat(top, 2, axis=2)
    rows = keras.ops.reshape(lateral, (shape[0], shape[1] // 2, 2, shape[2], shape[3]))
    return keras.ops.reshape(rows + columns[:, :, None], shape)
