"""Batches that fit the memory, on machines that are pretended."""

import json
from pathlib import Path

import pytest

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.runtime import hardware
from maskrcnn.training import batch_size
from maskrcnn.training.batch_size import FIXED_BYTES, bytes_per_image, with_largest_batch

pytestmark = pytest.mark.no_backend
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def chosen(monkeypatch, gigabytes, *, on_cpu=False, **changes):
    monkeypatch.setattr(batch_size, "device_memory", lambda on_cpu: gigabytes and int(gigabytes * 1e9))
    return with_largest_batch(Config().override(changes), on_cpu=on_cpu).train.batch_size


def test_estimate_is_near_what_was_measured():
    runs = json.loads((RESULTS / "growth_cpu.json").read_text(encoding="utf-8"))["runs"]
    measured = {run["batch"]: run["host_bytes"] for run in runs if run["what"] == "training"}
    assert len(measured) >= 4
    for images, actual in measured.items():
        assert FIXED_BYTES + images * bytes_per_image(Config()) == pytest.approx(actual, rel=0.15), images


def test_memory_and_precision_choose_the_batch(monkeypatch):
    sizes = [chosen(monkeypatch, gigabytes) for gigabytes in (8, 16, 24, 80)]
    assert sizes == [2, 4, 8, 16]
    assert chosen(monkeypatch, 8, **{"train.precision": "bfloat16"}) == 4
    assert chosen(monkeypatch, 64, on_cpu=True) == 4  # more would be no faster


def test_what_does_not_fit_or_is_not_known_is_refused(monkeypatch):
    with pytest.raises(UserError, match=r"an image takes some 1\.6 GB, too much for 3 GB; use smaller images"):
        chosen(monkeypatch, 3)
    with pytest.raises(UserError, match="memory of this device is not known; give a number"):
        chosen(monkeypatch, None)


def test_the_smallest_gpu_counts(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81559\necho 24564\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert hardware.device_memory(on_cpu=False) == 24564 << 20
    tool.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    assert hardware.device_memory(on_cpu=False) is None
    assert hardware.device_memory(on_cpu=True) == hardware.machine_memory()
