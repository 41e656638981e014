"""Convolutions with their batch norms folded in: the weights in ONNX's layout, and the nodes that take them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError
from maskrcnn.export.graph import Graph, Value

Array = NDArray[Any]


class FoldedWeights:
    """Weights by the names of `maskrcnn.weights.variables.model_variables`; keeps track of those that were read.

    Args:
        values: all variables of a model.
        epsilon: of its batch norms.
    """

    def __init__(self, values: Mapping[str, Array], epsilon: float) -> None:
        self._values = values
        self._epsilon = epsilon
        self._read: set[str] = set()

    def __contains__(self, layer: str) -> bool:
        return any(f"{layer}/{kernel}" in self._values for kernel in ("conv/kernel", "kernel"))

    def count(self, template: str, first: int = 1) -> int:
        """The number of layers named by filling ``{}`` with ``first``, ``first`` + 1, ..."""
        index = first
        while template.format(index) in self:
            index += 1
        return index - first

    @property
    def num_classes(self) -> int:
        """Channels of the class-wise heads, with the background."""
        return len(self._values["box_head/classes/bias"])

    def convolution(self, layer: str) -> tuple[Array, Array]:
        """Kernel [out, in, h, w] and bias [out] of a convolution, with its batch norm if it has one."""
        kernel = self._take(f"{layer}/conv/kernel")
        if f"{layer}/norm/gamma" not in self._values:
            return _oihw(kernel), self._take(f"{layer}/conv/bias")
        gamma, beta, mean, variance = (
            self._take(f"{layer}/norm/{name}") for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + np.float32(self._epsilon))
        return _oihw(kernel * scale), beta - mean * scale

    def plain_convolution(self, layer: str) -> tuple[Array, Array]:
        """Kernel [out, in, h, w] and bias of a Keras Conv2D; of a Conv2DTranspose the kernel is [in, out, h, w]."""
        return _oihw(self._take(f"{layer}/kernel")), self._take(f"{layer}/bias")

    def dense(self, layer: str) -> tuple[Array, Array]:
        """Kernel [in, out] and bias [out]."""
        return self._take(f"{layer}/kernel"), self._take(f"{layer}/bias")

    def unread(self) -> list[str]:
        """Names of the weights that were never read."""
        return sorted(set(self._values) - self._read)

    def _take(self, name: str) -> Array:
        if name not in self._values:
            raise UserError(f"the model has no weight {name}; only models with a ResNet of the config can be exported")
        self._read.add(name)
        return np.asarray(self._values[name], np.float32)


def convolution(
    graph: Graph, weights: FoldedWeights, x: Value, layer: str, *, strides: int = 1, relu: bool = False
) -> Value:
    """A `ConvNorm`: padded by ``kernel_size // 2`` on all sides, its batch norm folded in; x is [B, C, H, W]."""
    kernel, bias = weights.convolution(layer)
    side = kernel.shape[-1]
    x = graph("Conv", x, kernel, bias, name=layer, strides=[strides] * 2, pads=[side // 2] * 4, kernel_shape=[side] * 2)
    return graph("Relu", x) if relu else x


def _oihw(kernel: Array) -> Array:
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
