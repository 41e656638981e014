import numpy as np

from maskrcnn.ops.indexing import add_rows, gather_rows, top_positive


def test_each_image_reads_its_own_rows(run):
    table = np.arange(12, dtype="float32").reshape(2, 3, 2)
    indices = np.array([[2, 0, 2, 1], [0, 0, 1, 2]], "int32")
    expected = [[[4, 5], [0, 1], [4, 5], [2, 3]], [[6, 7], [6, 7], [8, 9], [10, 11]]]
    np.testing.assert_array_equal(run(gather_rows, table, indices), expected)


def test_rows_of_tables_of_unknown_size(run_unknown_sizes, rng):
    table, indices = rng.random((2, 9, 3), dtype="float32"), rng.integers(0, 9, (2, 5)).astype("int32")
    expected = np.stack([table[image][indices[image]] for image in range(2)])
    np.testing.assert_array_equal(run_unknown_sizes(gather_rows, table, indices), expected)


def test_gradient_adds_up_where_a_row_is_read_twice(gradient):
    from keras import ops

    indices = np.array([[1, 1, 0]], "int32")
    slope = gradient(lambda table: ops.sum(gather_rows(table, indices)), np.zeros((1, 3, 2), "float32"))
    np.testing.assert_array_equal(slope, [[[1, 1], [2, 2], [0, 0]]])


def test_top_positive_orders_and_marks_padding(run):
    keys = np.array([[0, 3, 1, 3, 0], [0, 0, -2, 0, 5]], "float32")
    indices, found = run(lambda k: top_positive(k, 4), keys)
    np.testing.assert_array_equal(indices, [[1, 3, 2, 0], [4, 0, 0, 0]])
    np.testing.assert_array_equal(found, [[True, True, True, False], [True, False, False, False]])
    assert indices.dtype == np.int32


def test_top_positive_of_fewer_keys_than_entries(compute):
    indices, found = compute(lambda k: top_positive(k, 4), np.array([[2, 7]], "float32"))
    np.testing.assert_array_equal(indices, [[1, 0, 0, 0]])
    np.testing.assert_array_equal(found, [[True, True, False, False]])


def test_top_positive_of_an_unknown_number_of_keys(compute):
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        traced = tf.function(lambda k: top_positive(k, 3), input_signature=[tf.TensorSpec([None, None], tf.float32)])
        assert traced.get_concrete_function().structured_outputs[0].shape == (None, 3)
    else:
        traced = lambda k: top_positive(k, 3)  # noqa: E731
    indices, _ = compute(traced, np.array([[2, 7]], "float32"))
    np.testing.assert_array_equal(indices, [[1, 0, 0]])


def test_rows_are_added_up_by_image(run):
    rng = np.random.default_rng(0)
    indices, rows = rng.integers(0, 5, (2, 7)).astype("int32"), rng.normal(size=(2, 7, 3)).astype("float32")
    table = rng.normal(size=(2, 5, 3)).astype("float32")
    expected = table.copy()
    for image in range(2):
        np.add.at(expected[image], indices[image], rows[image])
    # the order of the additions is the backend's
    np.testing.assert_allclose(run(add_rows, table, indices, rows), expected, rtol=1e-5, atol=1e-5)
