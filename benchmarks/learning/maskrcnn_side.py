"""Our side of `benchmarks.learning`: one training on one backend.

Needs the same files as torchvision_side.py: KERAS_BACKEND=jax python -m benchmarks.learning.maskrcnn_side --help
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning import problem


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


def main() -> None:
    """Runs the command line."""
    parser = problem.make_parser(__doc__)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    from maskrcnn.runtime import backend, compiler

    backend.select_backend()
    backend.set_precision(options.precision)
    import keras

    from maskrcnn.model.mask_rcnn import LOSSES

    model = build_model(options.weights, options.seed)
    optimizer = keras.optimizers.SGD(problem.LEARNING_RATE, momentum=problem.MOMENTUM)
    model.compile(optimizer, **compiler.compile_options(xla=False))

    def step(batch: problem.Arrays, learning_rate: float) -> dict[str, float]:
        optimizer.learning_rate = learning_rate
        model.reset_metrics()
        logs = model.train_on_batch(make_inputs(batch), return_dict=True)
        return {name: float(logs[name]) for name in LOSSES}

    def detect(images: np.ndarray) -> problem.Arrays:
        sizes = np.full((len(images), 2), problem.SIDE, np.float32)
        outputs = model.predict_on_batch({"images": images, "image_sizes": sizes})
        valid = np.asarray(outputs["valid"])
        found = {name: np.asarray(outputs[name])[valid] for name in ("boxes", "scores", "classes", "masks")}
        return {**found, "image": np.nonzero(valid)[0]}

    problem.train(options, step, detect)


if __name__ == "__main__":
    main()
