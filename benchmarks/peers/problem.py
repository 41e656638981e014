"""The problem that all contestants of `benchmarks.side_by_side` are given. NumPy alone, as each has its own packages.

Equal for all: the architecture (ResNet-50-FPN, 91 classes, stem and first stage frozen, batch norms frozen), its
weights (those of the parity tests, random ones drawn from each tensor's name), the images, the objects in them, the
numbers of candidates, proposals, sampled anchors and RoIs, and the score threshold, at which 100 detections an image
are left and so 100 masks are made.
"""

import importlib.util
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

GENERATOR = Path(__file__).parents[2] / "tests" / "fixtures" / "goldens" / "weights.py"
CLASSES = 91
OBJECTS = 8  # of each image; COCO's have 7 on average
SCORE_THRESHOLD = 0.01
SETTINGS = {  # torchvision's names; those that are not here are the same by default
    "rpn_pre_nms_top_n_train": 2000,
    "rpn_post_nms_top_n_train": 1000,
    "rpn_pre_nms_top_n_test": 1000,
    "rpn_post_nms_top_n_test": 1000,
    "box_score_thresh": SCORE_THRESHOLD,
}
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-9, 0.9, 1e-4  # weights stay as they are


def load_generator() -> ModuleType:
    """The script that makes tensors from their names."""
    spec = importlib.util.spec_from_file_location("golden_weights", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_images(batch: int, height: int, width: int) -> np.ndarray:
    """Blobs of several sizes and noise: uint8 [B, H, W, 3] RGB."""
    rng = np.random.default_rng(0)
    images = rng.normal(0, 8, (batch, height, width, 3)).astype(np.float32)
    for side in (16, 64, 208):
        shape = (batch, math.ceil(height / side), math.ceil(width / side), 3)
        blocks = rng.normal(0, 40, shape).astype(np.float32)
        images += blocks.repeat(side, 1).repeat(side, 2)[:, :height, :width]
    return (images + 128).clip(0, 255).astype(np.uint8)


def make_objects(batch: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [B, 8, 4] of sides from 5 % to 50 % of the image's, and classes [B, 8]. Their masks are ellipses."""
    rng = np.random.default_rng(1)
    sides = np.exp(rng.uniform(math.log(0.05), math.log(0.5), (batch, OBJECTS, 2)))
    corners = rng.uniform(0, 1 - sides)
    boxes = np.concatenate([corners, corners + sides], -1) * [width, height, width, height]
    return boxes.astype(np.float32), rng.integers(1, CLASSES, (batch, OBJECTS))


def time_steps(step: Callable[[], Any], *, steps: int, warmup_steps: int) -> dict[str, Any]:
    """Seconds of each step, of the first one, and of all cores in the measured ones; ``step`` waits for the device."""
    began = time.perf_counter()
    step()
    first = time.perf_counter() - began
    for _ in range(warmup_steps - 1):
        step()
    reset_peak_memory()
    seconds, processor = [], time.process_time()
    for _ in range(steps):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    processor = time.process_time() - processor
    return {"seconds": seconds, "first_step_seconds": first, "processor_seconds": processor}


def reset_peak_memory() -> None:
    """From now on `peak_memory` counts anew (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        print("peak memory is that of the whole run: the system cannot forget it", file=sys.stderr)


def peak_memory() -> int:
    """Largest resident set, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
