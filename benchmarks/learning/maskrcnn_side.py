"""Our side of `benchmarks.learning`: one training on one backend.

Needs the same files as torchvision_side.py: KERAS_BACKEND=jax python -m benchmarks.learning.maskrcnn_side --help
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning import problem

EVALUATION_BATCH = 8


def make_config() -> Any:
    """The config of the problem."""
    from maskrcnn.config import Category, Config

    categories = tuple(Category(index, index, str(index)) for index in range(1, problem.CLASSES))
    return Config(categories=categories).override(
        {
            "image.min_side": problem.SIDE,
            "image.max_side": problem.SIDE,
            "norm.train": True,
            "backbone.depth": 18,
            "backbone.freeze_at": 0,
            "fpn.channels": problem.CHANNELS,
            "anchors.sizes": problem.ANCHOR_SIZES,
            "rpn.samples": problem.RPN_SAMPLES,
            "rpn.train_candidates": problem.CANDIDATES,
            "rpn.train_proposals": problem.PROPOSALS,
            "rpn.test_candidates": problem.CANDIDATES,
            "rpn.test_proposals": problem.PROPOSALS,
            "box_head.channels": problem.DENSE,
            "box_head.samples": problem.BOX_SAMPLES,
            "box_head.test_candidates": problem.PROPOSALS * (problem.CLASSES - 1),
            "box_head.score_threshold": problem.SCORE_THRESHOLD,
            "mask_head.convolutions": problem.MASK_CONVOLUTIONS,
            "mask_head.channels": problem.CHANNELS,
            "data.max_instances": problem.MAX_OBJECTS,
            "train.l2_weight_decay": problem.WEIGHT_DECAY,
        }
    )


def build_model(weights: Path, seed: int) -> Any:
    """The model with the initial weights, torchvision's names translated."""
    import keras

    from maskrcnn.model import MaskRCNN
    from maskrcnn.weights.rules import TORCHVISION, convert
    from maskrcnn.weights.variables import assign, model_variables

    keras.utils.set_random_seed(seed)
    model = MaskRCNN(make_config())
    with np.load(weights) as arrays:
        state = {name: value for name, value in arrays.items() if not name.endswith("num_batches_tracked")}
    assign(model_variables(model), convert(state, TORCHVISION, path=str(weights)), path=str(weights))
    return model


def make_inputs(batch: problem.Arrays) -> problem.Arrays:
    """A batch in the form of our data pipeline; its masks cover whole images."""
    valid = batch["classes"] > 0
    whole = np.array([0, 0, problem.SIDE, problem.SIDE], np.float32)
    return {
        "images": batch["images"],
        "image_sizes": np.full((len(valid), 2), problem.SIDE, np.float32),
        "boxes": batch["boxes"],
        "classes": batch["classes"].astype(np.int32),
        "masks": batch["masks"],
        "mask_regions": whole * valid[..., None],
        "valid": valid,
    }


def detect(model: Any, images: np.ndarray) -> problem.Arrays:
    """Detections with masks of 28 x 28; pasting is left to the evaluation."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("boxes", "scores", "classes", "masks", "image")}
    sizes = np.full((EVALUATION_BATCH, 2), problem.SIDE, np.float32)
    for first in range(0, len(images), EVALUATION_BATCH):
        outputs = model.predict_on_batch({"images": images[first : first + EVALUATION_BATCH], "image_sizes": sizes})
        valid = np.asarray(outputs["valid"])
        for name in ("boxes", "scores", "classes", "masks"):
            found[name].append(np.asarray(outputs[name])[valid])
        found["image"].append(np.nonzero(valid)[0] + first)
    return {name: np.concatenate(values) for name, values in found.items()}


def train(options: argparse.Namespace) -> None:
    """Trains, writes detections of the val split at each evaluation, and the losses at the end."""
    import keras

    from maskrcnn.model.mask_rcnn import LOSSES
    from maskrcnn.runtime import compiler

    model = build_model(options.weights, options.seed)
    optimizer = keras.optimizers.SGD(problem.LEARNING_RATE, momentum=problem.MOMENTUM)
    model.compile(optimizer, **compiler.compile_options(xla=False))
    images, history, began = problem.evaluation_images(options.data), [], time.process_time()
    for step, batch in enumerate(problem.training_batches(options.data, options.seed, options.steps)):
        optimizer.learning_rate = problem.learning_rate(step, options.steps)
        model.reset_metrics()
        logs = model.train_on_batch(make_inputs(batch), return_dict=True)
        history.append({name: float(logs[name]) for name in LOSSES})
        if (step + 1) % options.evaluate_every == 0:
            np.savez(options.out / f"detections_{step + 1}.npz", **detect(model, images))
    record = {"losses": history, "processor_seconds": time.process_time() - began}
    (options.out / "losses.json").write_text(json.dumps(record), encoding="utf-8")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("weights", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("seed", "steps", "evaluate_every"):
        parser.add_argument(f"--{name}", type=int, required=True)
    from maskrcnn.runtime import backend

    backend.select_backend()
    train(parser.parse_args())


if __name__ == "__main__":
    main()
