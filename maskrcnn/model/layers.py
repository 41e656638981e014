"""Convolution, normalization and activation as the published checkpoints have them."""

import keras
from keras import ops

from maskrcnn.config import NormConfig
from maskrcnn.ops.fast.winograd import convolve3x3
from maskrcnn.runtime import hardware

WINOGRAD_CHANNELS = 128  # in and out; with fewer the transforms take the time that the products leave


class ConvNorm(keras.layers.Layer):
    """A convolution with symmetric padding, then batch norm and ReLU where asked.

    TensorFlow's "same" pads a strided convolution more at the bottom and the right; ResNet's authors and torchvision
    pad alike on all sides, so that is what happens here: ``kernel_size // 2`` pixels.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        strides: int = 1,
        norm: NormConfig | None = None,
        norm_scale: float = 1.0,
        relu: bool = False,
        kernel_initializer: str | keras.initializers.Initializer = "he_normal",
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.relu = relu
        padding = kernel_size // 2 if strides > 1 else 0
        self.pad = keras.layers.ZeroPadding2D(padding, dtype=self.dtype_policy) if padding else None
        self.conv = keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="valid" if padding else "same",
            use_bias=norm is None,
            kernel_initializer=kernel_initializer,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm = None
        if norm is not None:
            self.norm = keras.layers.BatchNormalization(
                epsilon=norm.epsilon,
                momentum=norm.momentum,
                gamma_initializer=keras.initializers.Constant(norm_scale),
                trainable=norm.train,  # a frozen batch norm uses its moving statistics, in training too
                dtype=self.dtype_policy,
                name="norm",
            )

    def build(self, input_shape) -> None:
        if self.pad is not None:
            self.pad.build(input_shape)  # Keras runs a model eagerly, before compiling it, if any layer is not built
        self.conv.build(input_shape)
        if self.norm is not None:
            self.norm.build((*input_shape[:-1], self.conv.filters))

    def call(self, inputs, training=False):
        outputs = inputs if self.pad is None else self.pad(inputs)
        if self.norm is None:
            outputs = self._convolve(outputs, self.conv.kernel, self.conv.bias, padding=self.conv.padding)
        elif training and self.norm.trainable:
            outputs = self._convolve(outputs, self.conv.kernel, padding=self.conv.padding)
            outputs = self.norm(outputs, training=True)
        else:
            outputs = self._convolve_folded(outputs)
        return ops.relu(outputs) if self.relu else outputs

    def unpadded(self, inputs):
        """The same convolution where the input brings its own margin of ``kernel_size // 2`` cells; without a norm."""
        outputs = self._convolve(inputs, self.conv.kernel, self.conv.bias, padding="valid")
        return ops.relu(outputs) if self.relu else outputs

    def _convolve_folded(self, inputs):
        """Convolution and norm in one: the moving statistics are constants, which the kernel and a bias can hold.

        A norm by itself would read and write the whole map once more. In half precision this also rounds less.
        """
        assert self.norm is not None
        scale = self.norm.gamma * ops.rsqrt(self.norm.moving_variance + self.norm.epsilon)
        shift = self.norm.beta - self.norm.moving_mean * scale
        return self._convolve(inputs, self.conv.kernel * scale, shift, padding=self.conv.padding)

    def _convolve(self, inputs, kernel, bias=None, *, padding: str):
        inputs, kernel = (ops.cast(tensor, self.compute_dtype) for tensor in (inputs, kernel))
        if self._suits_winograd(kernel, padding):
            outputs = convolve3x3(inputs, kernel)
        else:
            outputs = ops.conv(inputs, kernel, self.conv.strides, padding, data_format="channels_last")
        return outputs if bias is None else ops.add(outputs, ops.cast(bias, self.compute_dtype))

    def _suits_winograd(self, kernel, padding: str) -> bool:
        """On a CPU, oneDNN and XLA compute all products; a GPU's library chooses among algorithms itself."""
        return (
            self.conv.kernel_size == (3, 3)
            and self.conv.strides == (1, 1)
            and padding == "same"
            and self.compute_dtype == "float32"
            and min(kernel.shape[2:]) >= WINOGRAD_CHANNELS
            and hardware.computes_on_cpu()
        )

    def compute_output_shape(self, input_shape):
        shape = input_shape if self.pad is None else self.pad.compute_output_shape(input_shape)
        return self.conv.compute_output_shape(shape)
