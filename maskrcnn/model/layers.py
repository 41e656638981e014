"""Convolution, normalisation and activation as the published checkpoints have them."""

import keras

from maskrcnn.config import NormConfig


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
        outputs = self.conv(outputs)
        if self.norm is not None:
            outputs = self.norm(outputs, training=training)
        return keras.ops.relu(outputs) if self.relu else outputs

    def compute_output_shape(self, input_shape):
        shape = input_shape if self.pad is None else self.pad.compute_output_shape(input_shape)
        return self.conv.compute_output_shape(shape)
