"""The table of the contest, from made-up runs; and the page that is written of it."""

import json

import numpy as np
import pytest

from benchmarks import performance, side_by_side
from benchmarks.contestant import make_batch, problem


def run(contestant, turn, seconds, **extra):
    base = {"what": "training", "batch_size": 2, "precision": "float32", "contestant": contestant, "turn": turn}
    memory = {"host_bytes": 3_000_000_000 + turn, "device_bytes": None, "first_step_seconds": 10.0 - turn}
    memory["processor_seconds"] = 4.0 * len(seconds)
    return {**base, "seconds": seconds, **memory, **extra}


RUNS = [
    run("jax", 0, [1.0, 3.0]),
    run("torchvision", 0, [8.0, 8.0]),
    run("torchvision-compile", 0, [6.0]),
    run("jax", 1, [2.0, 100.0]),  # a machine that was disturbed: the median does not see it
    run("torchvision", 1, [8.0]),
    {**run("tensorflow", 0, []), "error": "ResourceExhaustedError: too much"},
]
del RUNS[-1]["seconds"]


def test_medians_over_all_turns_and_the_ratio_to_the_fastest_peer():
    rows = {row["contestant"]: row for row in side_by_side.summarize(RUNS)}
    assert rows["jax"]["seconds"] == 2.5
    assert rows["jax"]["images_per_second"] == pytest.approx(0.8)
    assert rows["jax"]["times_peer"] == pytest.approx(6 / 2.5)
    assert rows["torchvision"]["times_peer"] == pytest.approx(6 / 8)
    assert rows["jax"]["first_step_seconds"] == 9.0
    assert rows["jax"]["host_bytes"] == 3_000_000_001
    assert "ResourceExhausted" in rows["tensorflow"]["error"]


def test_peers_of_another_problem_do_not_count():
    other = {**run("torchvision", 0, [1.0]), "batch_size": 4}
    (row,) = [row for row in side_by_side.summarize([*RUNS, other]) if row["contestant"] == "jax"]
    assert row["times_peer"] == pytest.approx(6 / 2.5)
    (alone,) = side_by_side.summarize([run("jax", 0, [1.0])])
    assert alone["times_peer"] is None


def test_table_has_a_row_for_each():
    lines = side_by_side.format_table(RUNS).splitlines()
    assert len(lines) == 2 + 4
    assert len({line.count("|") for line in lines}) == 1
    assert "| jax | 0.8 | 2.5 | 2.40 | 4.00 | 9.0 | 3.00 |" in lines[2]


def test_page(tmp_path, monkeypatch):
    results, fragments = tmp_path / "benchmarks" / "results", tmp_path / "docs" / "performance"
    (results / "gpu").mkdir(parents=True)
    fragments.mkdir(parents=True)
    for name, value in {"ROOT": tmp_path, "RESULTS": results, "FRAGMENTS": fragments}.items():
        monkeypatch.setattr(performance, name, value)
    monkeypatch.setattr(performance, "PAGE", tmp_path / "docs" / "performance.md")
    machine = {"processor": "a processor", "cores": 2, "commit": "abc", "versions": {"jax": "1.0"}}
    record = {"machine": machine, "device": "cpu", "size": [832, 1344], "steps": 3, "warmup_steps": 1, "runs": RUNS}
    (results / "side_by_side_cpu_training.json").write_text(json.dumps(record))
    sizes = [{**run("jax", 0, [1.0 * size]), "batch_size": size} for size in (1, 2, 4)]
    (results / "growth_cpu.json").write_text(json.dumps({**record, "runs": sizes}))
    (results / "help.json").write_text(json.dumps({"machine": machine, "seconds": [0.1, 0.3, 0.2]}))
    profile = {
        "device": "a GPU",
        "batch_size": 8,
        "precision": "bfloat16",
        "milliseconds_a_step": {"NMS": 1, "idle": 3},
    }
    (results / "gpu" / "profile_training.json").write_text(json.dumps(profile))
    (fragments / "loader.md").write_text("Predicted this, measured that.")
    (fragments / "model.md").write_text("# On its own\n\n## Below")
    assert performance.main() == 0
    page = (tmp_path / "docs" / "performance.md").read_text()
    for text in ("a processor, 2 cores, commit abc; jax 1.0", "median 0.200 s of 3 runs", "| NMS | 1.000 | 25.0% |"):
        assert text in page
    assert "## The loader\n\nPredicted this, measured that." in page
    assert "\n## On its own\n\n### Below\n" in page
    assert "(performance/growth_cpu.png)" in page
    assert (fragments / "growth_cpu.png").read_bytes()[1:4] == b"PNG"


def test_problem_is_the_same_for_all():
    """Our batch holds the peers' images and objects, and masks that are ellipses in their boxes."""

    class Options:
        what, size, batch_size = "training", (64, 96), 2

    batch = make_batch(Options)
    boxes, classes = problem.make_objects(2, 64, 96)
    assert (batch["images"] == problem.make_images(2, 64, 96)).all()
    assert batch["valid"].sum(1).tolist() == [problem.OBJECTS] * 2
    np.testing.assert_array_equal(batch["boxes"][:, : problem.OBJECTS], boxes)
    np.testing.assert_array_equal(batch["mask_regions"], batch["boxes"])
    np.testing.assert_array_equal(batch["classes"][:, : problem.OBJECTS], classes)
    assert batch["masks"][0, 0].mean() == pytest.approx(np.pi / 4, abs=0.01)
    assert (boxes[..., 2] <= 96).all()
    assert (boxes[..., 3] <= 64).all()
