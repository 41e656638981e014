import numpy as np
from keras import ops

from maskrcnn.ops.indexing import gather_patches

SHAPES = [(4, 6), (2, 3)]  # of the levels


def patches_by_loop(features, positions, side):
    """One cell after another; what lies outside its map is zero."""
    found = np.zeros((*positions.shape, side, side, features[0].shape[-1]), "float32")
    for image, position in np.ndindex(*positions.shape):
        cell, level = positions[image, position], 0
        while cell >= SHAPES[level][0] * SHAPES[level][1]:
            cell, level = cell - SHAPES[level][0] * SHAPES[level][1], level + 1
        margin = side // 2
        padded = np.pad(features[level][image], ((margin, margin), (margin, margin), (0, 0)))
        row, column = divmod(cell, SHAPES[level][1])
        found[image, position] = padded[row : row + side, column : column + side]
    return found


def gather_zeroed(side):
    def gather(fine, coarse, positions):
        patches, inside = gather_patches([fine, coarse], positions, side=side)
        return ops.where(inside[..., None], patches, 0.0)

    return gather


def make_inputs(rng):
    features = [rng.normal(size=(2, *shape, 3)).astype("float32") for shape in SHAPES]
    return *features, np.stack([rng.permutation(30) for _ in range(2)]).astype("int32")  # every cell of both levels


def test_patches_of_every_cell(run, rng):
    *features, positions = make_inputs(rng)
    for side in (1, 3, 5):
        got = run(gather_zeroed(side), *features, positions)
        np.testing.assert_array_equal(got, patches_by_loop(features, positions, side))


def test_maps_of_unknown_size(run_unknown_sizes, rng):
    fine, coarse, positions = make_inputs(rng)
    got = run_unknown_sizes(lambda fine, coarse: gather_zeroed(3)(fine, coarse, positions), fine, coarse)
    np.testing.assert_array_equal(got, patches_by_loop([fine, coarse], positions, 3))
