import numpy as np
import pytest
from keras import ops

from maskrcnn.ops.fast.padding_buckets import run_on_bucket


def bucket_size(sizes):
    """The number of entries that the function gets."""
    return lambda valid: run_on_bucket(lambda entries: ops.zeros((), "int32") + entries.shape[1], valid, valid, sizes)


@pytest.mark.parametrize(("counts", "size"), [((0, 0), 1), ((1, 0), 1), ((1, 2), 2), ((3, 0), 4), ((4, 1), 4)])
def test_the_smallest_bucket_that_fits_the_fullest_image(run, counts, size):
    assert run(bucket_size([1, 2, 4]), np.arange(4) < np.array(counts)[:, None]) == size


def test_valid_entries_may_come_in_any_order(run):
    valid = np.array([[False, True, False, False], [False, False, True, False]])
    assert run(bucket_size([1, 2, 3, 4]), valid) == 3


@pytest.mark.parametrize("sizes", [[4], [2, 4]])
def test_nested_entries_are_cut_alike(run, sizes):
    values, valid = np.arange(24).reshape(2, 4, 3), np.array([[True, False, False, False]] * 2)

    def total(values, valid):
        return run_on_bucket(lambda entries: ops.sum(entries["values"]) + ops.sum(entries["pair"][0]),
                             {"values": values, "pair": (values, valid)}, valid, sizes)  # fmt: skip

    assert run(total, values, valid) == 2 * values[:, : sizes[0]].sum()
