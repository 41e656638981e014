"""Convolution layers that choose, when they are built, how they compute on a CPU.

A GPU's library chooses among algorithms itself, and gets Keras' own layers.
"""

import functools
from collections.abc import Callable

import keras
from keras import ops

from maskrcnn.ops.fast import kernel_gradient, winograd
from maskrcnn.ops.typing import Float, Tensor
from maskrcnn.runtime import compiler, hardware
from maskrcnn.runtime.backend import active_backend

MIN_WINOGRAD_CHANNELS = 128  # in and out; with fewer the transforms take the time that the products leave

Map = Float[Tensor, "B H W C"]
Kernel = Float[Tensor, "k k C D"]


class CpuConv2D(keras.layers.Conv2D):
    """A `keras.layers.Conv2D` by Winograd's algorithm, as a product of matrices, or with a gradient by hand."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:  # noqa: D102
        super().build(input_shape)
        plain = self.dilation_rate == (1, 1) and self.groups == 1
        self.algorithm = self._choose(input_shape[-1] or 0) if plain and hardware.computes_on_cpu() else None

    def _choose(self, channels: int) -> Callable[[Map, Kernel], Map] | None:
        """The function that computes this convolution; None for Keras' own."""
        xla = active_backend() == "jax"
        if self.kernel_size == (1, 1):
            # oneDNN's convolution for AVX2 adds what TensorFlow fuses with it (the residual, ReLU) value by value:
            # ResNet-50's 16 sums take 1,079 ms in float32 at 832x1344 on two cores, and 380 as products of matrices.
            multiplies = xla or (self.strides == (1, 1) and hardware.uses_avx512() is False)
            return functools.partial(multiply, strides=self.strides) if multiplies else None
        if self.kernel_size != (3, 3) or self.strides != (1, 1) or self.padding != "same":
            return None
        if self.compute_dtype == "float32" and min(channels, self.filters) >= MIN_WINOGRAD_CHANNELS:
            return winograd.convolve3x3
        return kernel_gradient.convolve if xla else None

    def convolution_op(self, inputs: Map, kernel: Kernel) -> Map:  # noqa: D102
        if self.algorithm and not compiler.traces_plainly():
            return self.algorithm(inputs, kernel)
        return super().convolution_op(inputs, kernel)


class UpsamplingConv2D(keras.layers.Conv2DTranspose):
    """A `keras.layers.Conv2DTranspose` whose stride is its kernel's side, as the one product of matrices that it is.

    So written, XLA's CPU compiler needs 0.4 s for the gradients of 64 RoIs of 14x14x256, and 25 without
    (`kernel_gradient` says why); TensorFlow needs 0.14 s instead of 0.17.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:  # noqa: D102
        super().build(input_shape)
        self.multiplies = hardware.computes_on_cpu()

    def call(self, inputs: Map) -> Float[Tensor, "B kH kW D"]:  # noqa: D102
        if not self.multiplies:
            return super().call(inputs)
        side, _, filters, channels = self.kernel.shape
        height, width = ops.shape(inputs)[1:3]
        kernel = ops.reshape(ops.transpose(self.kernel, (3, 0, 1, 2)), (1, 1, channels, side * side * filters))
        blocks = ops.reshape(multiply(inputs, kernel), (-1, height, width, side, side, filters))
        outputs = ops.reshape(ops.transpose(blocks, (0, 1, 3, 2, 4, 5)), (-1, side * height, side * width, filters))
        return self.activation(ops.add(outputs, self.bias))


def multiply(inputs: Map, kernel: Kernel, strides: tuple[int, int] = (1, 1)) -> Float[Tensor, "B H/s W/s D"]:
    """A 1x1 convolution as the product of matrices that it is."""
    maps = inputs[:, :: strides[0], :: strides[1]]
    channels, filters = kernel.shape[2:]
    # As two matrices: TensorFlow would keep a gradient of the kernel for each row of the maps, and then add them up.
    products = ops.matmul(ops.reshape(maps, (-1, channels)), kernel[0, 0])
    return ops.reshape(products, (-1, *ops.shape(maps)[1:3], filters))
