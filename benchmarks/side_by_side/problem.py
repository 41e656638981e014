"""The problem that every contestant solves. Needs NumPy alone, since each contestant has its own packages.

Equal for all: the architecture (ResNet-50-FPN, 91 classes, stem and first stage frozen, batch norms frozen), its
weights (random ones, each drawn from the tensor's name), the images, the objects in them, the numbers of candidates,
proposals, sampled anchors and RoIs, and the score threshold, which leaves 100 detections an image and so 100 masks.
"""

import argparse
import math
import resource
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

GENERATOR = Path(__file__).parents[2] / "tests" / "fixtures" / "goldens" / "weights.py"
CLASSES = 91
OBJECTS = 8  # in each image; COCO's have 7 on average
SCORE_THRESHOLD = 0.01
SETTINGS = {  # torchvision's names; the other settings are equal by default
    "rpn_pre_nms_top_n_train": 2000,
    "rpn_post_nms_top_n_train": 1000,
    "rpn_pre_nms_top_n_test": 1000,
    "rpn_post_nms_top_n_test": 1000,
    "box_score_thresh": SCORE_THRESHOLD,
}
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-9, 0.9, 1e-4  # so small that the weights hardly change


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that describe a turn."""
    parser.add_argument("what", choices=("training", "inference"))
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warmup_steps", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--size", type=int, nargs=2, default=(832, 1344), metavar=("H", "W"))


def make_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The tensors of a state dict, made from their names."""
    return runpy.run_path(str(GENERATOR))["make_state_dict"](shapes)


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
    """Boxes [B, 8, 4] with sides of 5 % to 50 % of the image's, and classes [B, 8]. Their masks are ellipses."""
    rng = np.random.default_rng(1)
    sides = np.exp(rng.uniform(math.log(0.05), math.log(0.5), (batch, OBJECTS, 2)))
    corners = rng.uniform(0, 1 - sides)
    boxes = np.concatenate([corners, corners + sides], -1) * [width, height, width, height]
    return boxes.astype(np.float32), rng.integers(1, CLASSES, (batch, OBJECTS))


def time_steps(step: Callable[[], Any], *, steps: int, warmup_steps: int) -> dict[str, Any]:
    """Seconds of the first step and of each measured one, and of all cores in the latter.

    ``step`` returns when the device is done.
    """
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
    """Restarts the measurement of `peak_memory` (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        print("peak memory is that of the whole run: the system cannot reset it", file=sys.stderr)


def peak_memory() -> int:
    """Largest resident set, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
