"""The summary of turns, from made-up runs, and the problem of all contestants."""

import numpy as np
import pytest

from benchmarks.side_by_side import __main__ as side_by_side
from benchmarks.side_by_side import problem
from benchmarks.side_by_side.maskrcnn_side import make_batch


def run(contestant, turn, seconds, **extra):
    base = {"what": "training", "batch": 2, "precision": "float32", "contestant": contestant, "turn": turn}
    memory = {"host_bytes": 3_000_000_000 + turn, "device_bytes": None, "first_step_seconds": 10.0 - turn}
    return {**base, "seconds": seconds, **memory, "processor_seconds": 4.0 * len(seconds), **extra}


RUNS = [
    run("jax", 0, [1.0, 3.0]),
    run("torchvision", 0, [8.0, 8.0]),
    run("torchvision-compile", 0, [6.0]),
    run("jax", 1, [2.0, 100.0]),  # a disturbed machine, which the median ignores
    run("torchvision", 1, [8.0]),
    {**run("tensorflow", 0, []), "error": "ResourceExhaustedError: out of memory"},
]
del RUNS[-1]["seconds"]


def test_medians_over_all_turns_and_the_ratio_to_the_fastest_peer():
    rows = {row["contestant"]: row for row in side_by_side.summarize(RUNS)}
    assert rows["jax"]["s/step"] == 2.5
    assert rows["jax"]["images/s"] == pytest.approx(0.8)
    assert rows["jax"]["times torchvision"] == pytest.approx(6 / 2.5)
    assert rows["torchvision"]["times torchvision"] == pytest.approx(6 / 8)
    assert rows["jax"]["processor s/step"] == 4.0
    assert rows["jax"]["first step, s"] == 9.0
    assert rows["jax"]["peak host, GB"] == 3.000000001
    assert "ResourceExhausted" in rows["tensorflow"]["error"]


def test_peers_of_another_problem_do_not_count():
    other = {**run("torchvision", 0, [1.0]), "batch": 4}
    (row,) = [row for row in side_by_side.summarize([*RUNS, other]) if row["contestant"] == "jax"]
    assert row["times torchvision"] == pytest.approx(6 / 2.5)
    (alone,) = side_by_side.summarize([run("jax", 0, [1.0])])
    assert alone["times torchvision"] is None


def test_problem_is_the_same_for_all():
    batch = make_batch("training", 2, (64, 96))
    boxes, classes = problem.make_objects(2, 64, 96)
    assert (batch["images"] == problem.make_images(2, 64, 96)).all()
    assert batch["valid"].sum(1).tolist() == [problem.OBJECTS] * 2
    np.testing.assert_array_equal(batch["boxes"][:, : problem.OBJECTS], boxes)
    np.testing.assert_array_equal(batch["mask_regions"], batch["boxes"])
    np.testing.assert_array_equal(batch["classes"][:, : problem.OBJECTS], classes)
    assert batch["masks"][0, 0].mean() == pytest.approx(np.pi / 4, abs=0.01)
    assert not batch["masks"][:, problem.OBJECTS :].any()
    assert (boxes[..., 2] <= 96).all()
    assert (boxes[..., 3] <= 64).all()


def test_batch_has_the_layout_of_the_loader(micro):
    from maskrcnn.data.loader.synthetic import synthetic_batch

    batch = make_batch("training", 2, (64, 64))
    for name, expected in synthetic_batch(micro, 2, np.random.default_rng(0)).items():
        assert batch[name].dtype == expected.dtype
        assert batch[name].shape[2:] == expected.shape[2:]  # all but the number of objects, which the config decides
