"""Operations and bytes of a traced program, by hand."""

import keras
import numpy as np
import pytest

from benchmarks import program, scaling, tensorflow_ops


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="traces a JAX program")
def test_operations_of_a_small_program():
    import jax
    import jax.numpy as jnp

    def convolve(images, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def step(images, kernel, flag):
        maps = jax.jit(convolve)(images, kernel)  # a program within the program
        return jax.lax.cond(
            flag, lambda x: x @ jnp.ones((8, 100), x.dtype), lambda x: x @ jnp.ones((8, 100), x.dtype), maps
        )

    arguments = (np.ones((2, 4, 5, 3), "float32"), np.ones((3, 3, 3, 8), "float32"), True)
    works = list(program.operations(jax.make_jaxpr(step)(*arguments).jaxpr))
    flops = {work.primitive: work.flops for work in works if work.flops}
    assert flops == {
        "conv_general_dilated": 2 * (2 * 4 * 5 * 8) * (3 * 3 * 3),
        "dot_general": 2 * (2 * 4 * 5 * 100) * 8,  # of one branch
    }
    (convolution,) = [work for work in works if work.primitive == "conv_general_dilated"]
    assert convolution.channels_last
    assert convolution.bytes == 4 * (2 * 4 * 5 * 3 + 3 * 3 * 3 * 8 + 2 * 4 * 5 * 8)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="traces a JAX program")
def test_the_gradient_of_a_convolution_costs_twice_as_much():
    import jax

    def loss(images, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(images, kernel, (2, 2), "VALID", dimension_numbers=numbers).sum()

    arguments = (np.ones((1, 9, 9, 4), "float32"), np.ones((1, 1, 4, 6), "float32"))
    forward = sum(work.flops for work in program.operations(jax.make_jaxpr(loss)(*arguments).jaxpr))
    both = sum(work.flops for work in program.operations(jax.make_jaxpr(jax.grad(loss, (0, 1)))(*arguments).jaxpr))
    assert forward == 2 * 5 * 5 * 6 * 4
    assert both == pytest.approx(3 * forward, rel=0.2)  # the zeros between the outputs do not divide evenly


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="traces a JAX program")
def test_a_loop_counts_as_often_as_it_turns():
    import jax

    def loop(matrix):
        return jax.lax.fori_loop(0, 3, lambda _, values: values @ values, matrix)

    works = list(program.operations(jax.make_jaxpr(loop)(np.ones((4, 4), "float32")).jaxpr))
    assert sum(work.flops for work in works) == 3 * 2 * 4**3


def test_exchange_of_gradients():
    assert scaling.exchange_seconds(800, 1, within=100, between=1) == pytest.approx(2 * 7 / 8 * 8)
    assert scaling.exchange_seconds(800, 2, within=100, between=10) == pytest.approx(14 + 2 * 1 / 2 * 100 / 10)


def test_kinds_of_tensorflow_operations():
    seconds = {"_MklNativeFusedConv2D": 2.0, "GatherV2": 1.0, "_MklNativeConv2DBackpropInput": 3.0, "Sub": 0.5}
    assert tensorflow_ops.by_kind(seconds) == {
        "convolutions": 5.0,
        "gathers, scatters and sums of rows": 1.0,
        "everything else": 0.5,
    }
