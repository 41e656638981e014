"""Convolution, normalization and activation as the published checkpoints have them, and the heads' RoIAlign."""

from dataclasses import dataclass

import keras
from keras import ops

from maskrcnn.config import NormConfig, RoIAlignConfig
from maskrcnn.model.structures import Boxes, Pyramid
from maskrcnn.ops.fast.cpu_convolution import CpuConv2D
from maskrcnn.ops.roi_align import multilevel_roi_align
from maskrcnn.ops.typing import Float, Tensor


@dataclass(frozen=True)
class InitialWeights:
    """The weights that training starts from."""

    kernel: str | keras.initializers.Initializer = "he_normal"
    norm_scale: float = 1.0


class ConvNorm(keras.layers.Layer):
    """A convolution with symmetric padding, then batch norm and ReLU if requested.

    TensorFlow's "same" pads a strided convolution more at the bottom and the right; ResNet's authors and torchvision
    pad alike on all sides, and so does this layer: ``kernel_size // 2`` pixels.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        strides: int = 1,
        norm: NormConfig | None = None,
        relu: bool = False,
        initial: InitialWeights = InitialWeights(),
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.relu = relu
        self.padding = kernel_size // 2 if strides > 1 else 0
        self.conv = CpuConv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="valid" if self.padding else "same",
            data_format="channels_last",
            use_bias=norm is None,
            kernel_initializer=initial.kernel,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm = None
        if norm is not None:
            self.norm = keras.layers.BatchNormalization(
                epsilon=norm.epsilon,
                momentum=norm.momentum,
                gamma_initializer=keras.initializers.Constant(initial.norm_scale),
                trainable=norm.train,  # a frozen batch norm uses its moving statistics, in training too
                dtype=self.dtype_policy,
                name="norm",
            )

    def build(self, input_shape) -> None:
        self.conv.build(input_shape)
        if self.norm is not None:
            self.norm.build((*input_shape[:-1], self.conv.filters))

    def call(self, inputs: Float[Tensor, "B H W C"], training: bool = False) -> Float[Tensor, "B H W D"]:
        x, padding = ops.cast(inputs, self.compute_dtype), (self.padding, self.padding)
        if self.padding:
            x = ops.pad(x, ((0, 0), padding, padding, (0, 0)))
        if training and self.norm is not None and self.norm.trainable:
            kernel = ops.cast(self.conv.kernel, self.compute_dtype)
            x = self.norm(self.conv.convolution_op(x, kernel), training=True)
        else:
            kernel, bias = self.fold()
            x = ops.add(self.conv.convolution_op(x, kernel), bias)
        return ops.relu(x) if self.relu else x

    def fold(self) -> tuple[Float[Tensor, "k k C D"], Float[Tensor, " D"]]:
        """Kernel and bias of convolution and norm in one: the moving statistics are constants.

        A norm by itself would read and write the whole map once more: ResNet-50 takes 0.97 instead of 1.23 s at
        832x1344 on two CPU cores (docs/performance.md). In half precision this also rounds less.
        """
        kernel, bias = self.conv.kernel, self.conv.bias
        if self.norm is not None:
            scale = self.norm.gamma * ops.rsqrt(self.norm.moving_variance + self.norm.epsilon)
            kernel, bias = kernel * scale, self.norm.beta - self.norm.moving_mean * scale
        return ops.cast(kernel, self.compute_dtype), ops.cast(bias, self.compute_dtype)

    def compute_output_shape(self, input_shape) -> tuple[int | None, ...]:
        sides = (None if n is None else -(-n // self.conv.strides[0]) for n in input_shape[1:3])
        return (input_shape[0], *sides, self.conv.filters)


def conv_stack(count: int, channels: int, **settings) -> list[ConvNorm]:
    """The 3x3 convolutions with ReLU that a head starts with, named conv1, conv2, ..."""
    return [ConvNorm(channels, 3, relu=True, name=f"conv{index + 1}", **settings) for index in range(count)]


def pool(pyramid: Pyramid, boxes: Boxes, size: int, config: RoIAlignConfig) -> Float[Tensor, "B N P P C"]:
    """RoIAlign of boxes from P2..P5 to ``size`` bins a side; P6 serves the RPN only; FPN, Sec. 4.2."""
    return multilevel_roi_align(
        pyramid[:4], boxes, output_size=size, sampling_ratio=config.sampling_ratio, aligned=config.aligned
    )
