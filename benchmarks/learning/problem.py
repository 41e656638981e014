"""The training that every contestant runs. Needs NumPy alone, since each contestant has its own packages.

Equal for all: the architecture (Mask R-CNN, ResNet-18-FPN of 64 channels), the initial weights (torchvision's own
initialization, drawn once for each seed), the images and objects, their order, the flips, and the recipe: SGD with
momentum, linear warm-up, two drops, weight decay of kernels. What is left to chance are the sampled anchors and RoIs.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SIDE = 96  # px, of the images
CLASSES = 6  # with the background
MAX_OBJECTS = 5
BATCH_SIZE = 4
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.02, 0.9, 1e-4
WARMUP_STEPS = 200
DROPS = (0.7, 0.9)  # fractions of the training after which the learning rate is a tenth
CHANNELS, DENSE, MASK_CONVOLUTIONS = 64, 256, 2
ANCHOR_SIZES = (8, 16, 32, 64, 128)
CANDIDATES, PROPOSALS = 200, 100  # in training and evaluation alike
RPN_SAMPLES, BOX_SAMPLES = 64, 32
SCORE_THRESHOLD = 0.05
EVALUATION_BATCH = 8

Arrays = dict[str, np.ndarray]


def learning_rate(step: int, steps: int) -> float:
    """The learning rate of a step, from 0."""
    drops = sum(step >= fraction * steps for fraction in DROPS)
    return LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * 0.1**drops


def training_batches(data: Path, seed: int, steps: int) -> Iterator[Arrays]:
    """The batches of a seed; the same for all.

    Yields:
        "images" uint8 [B, S, S, 3], "boxes" float32 [B, G, 4] xyxy in px, "classes" int [B, G], 0 for padding,
        "masks" uint8 [B, G, S, S] over the whole image.
    """
    with np.load(data) as arrays:
        images, boxes, classes = (arrays[name] for name in ("train_images", "train_boxes", "train_classes"))
        masks = arrays["train_masks"]
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(images)) for _ in range(steps * BATCH_SIZE // len(images) + 1)])
    flips = rng.random(len(order)) < 0.5
    for step in range(steps):
        chosen = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        index, flip = order[chosen], flips[chosen, None, None, None]
        own_masks = np.unpackbits(masks[index], axis=-1)
        own_boxes = boxes[index]
        flipped = np.where(classes[index, :, None] > 0, own_boxes[..., [2, 1, 0, 3]] * [-1, 1, -1, 1], 0)
        flipped[..., 0::2] += np.where(classes[index, :, None] > 0, SIDE, 0)
        yield {
            "images": np.where(flip, images[index, :, ::-1], images[index]),
            "boxes": np.where(flip[..., 0], flipped, own_boxes).astype(np.float32),
            "classes": classes[index],
            "masks": np.where(flip, own_masks[..., ::-1], own_masks),
        }


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The flags of a training."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("weights", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("seed", "steps", "evaluate_every"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser


def train(
    options: argparse.Namespace,
    step: Callable[[Arrays, float], dict[str, float]],
    detect: Callable[[np.ndarray], Arrays],
) -> None:
    """Trains, writes detections of the val split at each evaluation, and the losses at the end.

    Args:
        step: trains on a batch with a learning rate, and returns the losses.
        detect: boxes, scores, classes and 28 x 28 masks in a batch of images, and the "image" of each; pasting is
            left to the evaluation.
    """
    with np.load(options.data) as arrays:
        images = arrays["val_images"]
    history, began = [], time.process_time()
    for number, batch in enumerate(training_batches(options.data, options.seed, options.steps)):
        history.append(step(batch, learning_rate(number, options.steps)))
        if (number + 1) % options.evaluate_every == 0:
            found = []
            for first in range(0, len(images), EVALUATION_BATCH):
                found.append(detect(images[first : first + EVALUATION_BATCH]))
                found[-1]["image"] += first
            joined = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
            np.savez(options.out / f"detections_{number + 1}.npz", **joined)
    record = {"losses": history, "processor_seconds": time.process_time() - began}
    (options.out / "losses.json").write_text(json.dumps(record), encoding="utf-8")
