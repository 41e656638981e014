import numpy as np
import pytest
from keras import ops

from maskrcnn.ops.fast.sparse_convolution import convolve_at, gather_patches

SHAPES = [(4, 6), (2, 3)]  # of the levels


def patches_by_loop(pyramid, locations, side):
    """One location after another; zero outside of the map."""
    patches = np.zeros((*locations.shape, side, side, pyramid[0].shape[-1]), "float32")
    for image, index in np.ndindex(*locations.shape):
        location, level = locations[image, index], 0
        while location >= SHAPES[level][0] * SHAPES[level][1]:
            location, level = location - SHAPES[level][0] * SHAPES[level][1], level + 1
        margin = side // 2
        padded = np.pad(pyramid[level][image], ((margin, margin), (margin, margin), (0, 0)))
        row, column = divmod(location, SHAPES[level][1])
        patches[image, index] = padded[row : row + side, column : column + side]
    return patches


def gather_zeroed(side):
    def gather(fine, coarse, locations):
        patches, inside = gather_patches([fine, coarse], locations, side=side)
        return ops.where(inside[..., None], patches, 0.0)

    return gather


def make_inputs(rng):
    pyramid = [rng.normal(size=(2, *shape, 3)).astype("float32") for shape in SHAPES]
    return *pyramid, np.stack([rng.permutation(30) for _ in range(2)]).astype("int32")  # every location of both levels


def test_patches_around_every_location(run, rng):
    *pyramid, locations = make_inputs(rng)
    for side in (1, 3, 5):
        actual = run(gather_zeroed(side), *pyramid, locations)
        np.testing.assert_array_equal(actual, patches_by_loop(pyramid, locations, side))


def test_maps_of_unknown_size(run_unknown_sizes, rng):
    fine, coarse, locations = make_inputs(rng)
    actual = run_unknown_sizes(lambda fine, coarse: gather_zeroed(3)(fine, coarse, locations), fine, coarse)
    np.testing.assert_array_equal(actual, patches_by_loop([fine, coarse], locations, 3))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_outputs_are_those_of_dense_convolutions(compute, rng, count):
    """At the borders too, where each convolution pads with zeros."""
    *pyramid, locations = make_inputs(rng)
    layers = [(rng.normal(size=(3, 3, 3, 3)), rng.normal(size=3)) for _ in range(count)]
    layers = [tuple(array.astype("float32") for array in layer) for layer in layers]

    def dense(*pyramid):
        flat = []
        for x in pyramid:
            for kernel, bias in layers:
                x = ops.relu(ops.conv(x, kernel, 1, "same", data_format="channels_last") + bias)
            flat.append(ops.reshape(x, (2, -1, 3)))
        return ops.concatenate(flat, axis=1)

    def sparse(*pyramid):
        tensors = [tuple(map(ops.convert_to_tensor, layer)) for layer in layers]
        return convolve_at(pyramid, ops.convert_to_tensor(locations), tensors)

    expected = np.take_along_axis(compute(dense, *pyramid), locations[..., None], axis=1)
    np.testing.assert_allclose(compute(sparse, *pyramid), expected, rtol=1e-4, atol=1e-4)
