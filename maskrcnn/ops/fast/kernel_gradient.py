"""Convolutions with gradients by hand; one whose kernel's gradient XLA computes fast in a branch or a loop, too.

XLA's CPU compiler rewrites convolutions for its fast kernels at the top level of a program only, and evaluates others
by plain loops (https://github.com/jax-ml/jax/issues/12868). A convolution of channels-last inputs has the fast form as
it is; the gradient of its kernel, as differentiation writes it, has not. In a branch on a core of an AMD EPYC, that of
64 RoIs of 14x14x256 takes 0.5 s by this module instead of 43 (docs/performance.md).
"""

from collections.abc import Callable

from keras import ops

from maskrcnn.ops.typing import Float, Tensor
from maskrcnn.runtime import compiler

Map = Float[Tensor, "B H W C"]
Kernel = Float[Tensor, "k k C D"]
Outputs = Float[Tensor, "B H W D"]


def convolve(inputs: Map, kernel: Kernel) -> Outputs:
    """A convolution of stride 1 with zero padding and a kernel of odd side; `keras.ops.conv`'s but for rounding."""
    margin = kernel.shape[0] // 2
    return with_gradients(_convolve, lambda x, upstream: _kernel_gradient(x, upstream, margin), inputs, kernel)


def with_gradients(
    convolution: Callable[[Map, Kernel], Outputs],
    kernel_gradient: Callable[[Map, Outputs], Kernel],
    inputs: Map,
    kernel: Kernel,
) -> Outputs:
    """A convolution of stride 1 with zero padding; the inputs' gradient is one too, with the kernel turned.

    Args:
        convolution: computes it.
        kernel_gradient: computes the kernel's gradient from the inputs and the gradient of the outputs.
        inputs: of the convolution.
        kernel: of the convolution.
    """

    @ops.custom_gradient
    def convolved(inputs: Map, kernel: Kernel) -> tuple[Outputs, Callable[..., tuple[Map, Kernel]]]:
        def gradient(*arguments: Tensor, upstream: Tensor = None) -> tuple[Map, Kernel]:
            upstream = arguments[0] if upstream is None else upstream
            turned = ops.transpose(ops.flip(kernel, (0, 1)), (0, 1, 3, 2))
            of_inputs = convolution(upstream, turned)
            return of_inputs, kernel_gradient(inputs, compiler.with_control_dependency(upstream, of_inputs))

        return convolution(inputs, kernel), gradient

    return convolved(inputs, kernel)


def _kernel_gradient(inputs: Map, upstream: Outputs, margin: int) -> Kernel:
    """The convolution of the inputs with the gradient of the outputs, whose channels are the images."""
    inputs = ops.pad(inputs, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    images_last, upstream = ops.transpose(inputs, (3, 1, 2, 0)), ops.transpose(upstream, (1, 2, 0, 3))
    return ops.transpose(_convolve(images_last, upstream, "valid"), (1, 2, 0, 3))


def _convolve(inputs: Map, kernel: Kernel, padding: str = "same") -> Outputs:
    return ops.conv(inputs, kernel, 1, padding, data_format="channels_last")
