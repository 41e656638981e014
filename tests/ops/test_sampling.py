import keras
import numpy as np
import pytest

from maskrcnn.ops.sampling import sample_labels, take_sampled


def sampler(num_samples, positive_fraction, seed=3):
    return lambda labels: sample_labels(labels, num_samples=num_samples, positive_fraction=positive_fraction, seed=seed)


def labels_of(positives, negatives, ignored, rng):
    labels = np.repeat(np.array([1, 0, -1], "int32"), [positives, negatives, ignored])
    return rng.permutation(labels)


def test_counts_of_each_case(run, rng):
    # 8 samples, at most 2 positive
    cases = {  # positives, negatives, ignored: sampled positives, sampled negatives
        (9, 20, 11): (2, 6),
        (1, 28, 11): (1, 7),  # negatives fill up
        (0, 29, 11): (0, 8),
        (30, 4, 6): (2, 4),  # positives do not
        (2, 3, 35): (2, 3),  # all there are
        (0, 0, 40): (0, 0),
        (40, 0, 0): (2, 0),
    }
    labels = np.stack([labels_of(*counts, rng) for counts in cases])
    sampled = run(sampler(8, 0.25), labels)
    counts = [(int((sampled[i] & (labels[i] == 1)).sum()), int(sampled[i].sum())) for i in range(len(cases))]
    assert counts == [(positives, positives + negatives) for positives, negatives in cases.values()]
    assert not sampled[labels == -1].any()


@pytest.mark.parametrize("num_samples", [40, 64, 1_000_000])
def test_takes_everything_if_it_fits(compute, rng, num_samples):
    labels = np.stack([labels_of(20, 12, 8, rng), labels_of(3, 20, 17, rng)])
    np.testing.assert_array_equal(compute(sampler(num_samples, 0.5), labels), labels >= 0)


def test_rounds_the_number_of_positives_down(compute, rng):
    sampled = compute(sampler(7, 0.5), labels_of(20, 0, 0, rng)[None])
    assert sampled.sum() == 3


def test_no_positive_is_allowed(compute, rng):
    labels = labels_of(20, 10, 0, rng)[None]
    sampled = compute(sampler(4, 0.1), labels)
    assert sampled.sum() == 4
    assert not sampled[labels == 1].any()


def test_every_candidate_has_the_same_chance(compute):
    images = 3000
    labels = np.tile(np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], "int32"), (images, 1))
    share = compute(sampler(4, 0.5), labels).mean(0)
    expected = np.repeat([2 / 4, 2 / 6], [4, 6])
    deviation = np.sqrt(expected * (1 - expected) / images)
    assert (np.abs(share - expected) < 5 * deviation).all()


def test_ties_between_random_keys_do_not_exceed_the_number(compiled, monkeypatch):
    monkeypatch.setattr(keras.random, "uniform", lambda shape, **_: keras.ops.ones(shape) * 0.5)
    labels = np.array([[0, 1, 1, 0, 1, 0, 0, -1, 0, 1]], "int32")
    sampled = compiled(sampler(5, 0.4), labels)
    assert sampled[labels == 1].sum() == 2
    assert sampled[labels == 0].sum() == 3


def test_the_seed_decides(compute, rng):
    labels = labels_of(30, 60, 10, rng)[None]
    first = compute(sampler(20, 0.5, seed=1), labels)
    np.testing.assert_array_equal(first, compute(sampler(20, 0.5, seed=1), labels))
    assert (first != compute(sampler(20, 0.5, seed=2), labels)).any()


def test_a_seed_generator_moves_on(eager, rng):
    labels = labels_of(30, 60, 10, rng)[None]
    draw = sampler(20, 0.5, seed=keras.random.SeedGenerator(1))
    assert (eager(draw, labels) != eager(draw, labels)).any()


def test_unknown_number_of_anchors(run_unknown_sizes, rng):
    if keras.backend.backend() == "jax":
        pytest.skip("JAX always knows the sizes")
    import tensorflow as tf

    traced = tf.function(sampler(8, 0.25), input_signature=[tf.TensorSpec([None, None], tf.int32)])
    for counts, expected in (((9, 20, 11), (2, 8)), ((2, 3, 0), (2, 5))):
        labels = labels_of(*counts, rng)[None]
        sampled = traced(labels).numpy()
        assert (sampled[labels == 1].sum(), sampled.sum()) == expected


def test_take_sampled_by_hand(run):
    labels = np.array([[0, 1, 0, -1, 1, 1, 0]], "int32")
    sampled = np.array([[1, 1, 0, 0, 0, 1, 1]], bool)
    indices, valid = run(lambda s, y: take_sampled(s, y, num_samples=6), sampled, labels)
    np.testing.assert_array_equal(indices, [[1, 5, 0, 6, 0, 0]])  # positives, negatives, padding
    np.testing.assert_array_equal(valid, [[True, True, True, True, False, False]])


def test_take_sampled_of_fewer_anchors_than_samples(compute):
    labels, sampled = np.array([[0, 1]], "int32"), np.array([[True, True]])
    indices, valid = compute(lambda s, y: take_sampled(s, y, num_samples=4), sampled, labels)
    np.testing.assert_array_equal(indices, [[1, 0]])
    np.testing.assert_array_equal(valid, [[True, True]])


def test_take_sampled_returns_exactly_the_sampled(compute, rng):
    labels = np.stack([labels_of(30, 60, 10, rng), labels_of(3, 7, 90, rng)])
    sampled = compute(sampler(20, 0.5), labels)
    indices, valid = compute(lambda s, y: take_sampled(s, y, num_samples=20), sampled, labels)
    for image in range(2):
        chosen = indices[image][valid[image]]
        assert sorted(chosen) == list(np.flatnonzero(sampled[image]))
        assert (np.diff(labels[image][chosen]) <= 0).all()  # positives first
