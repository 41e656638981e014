"""Flags that set fields of the config, and how a config is made of them."""

import argparse
from dataclasses import dataclass
from typing import Any

from maskrcnn.config import Config, DataConfig, load_config
from maskrcnn.errors import UserError


@dataclass(frozen=True)
class Flag:
    """A flag and the config field that it sets; without a kind it is a switch that makes the field true."""

    name: str
    field: str
    help: str
    kind: type | None = None
    metavar: str | None = None
    several: bool = False

    @property
    def key(self) -> str:
        return self.name.removeprefix("--")


TRAINING = (
    Flag("--epochs", "train.epochs", "passes over the training split", int, "N"),
    Flag("--steps_per_epoch", "train.steps_per_epoch", "batches of an epoch (default: one pass)", int, "N"),
    Flag("--train_batch_size", "train.batch_size", "images of a batch on each device", int, "N"),
    Flag("--accumulate", "train.accumulate", "batches whose gradients make one update", int, "N"),
    Flag("--init_learning_rate", "train.init_learning_rate", "where the warm-up starts", float, "RATE"),
    Flag(
        "--learning_rate_values",
        "train.learning_rate_values",
        "learning rates for 8 images an update; they scale with the images of an update",
        float,
        "RATE",
        several=True,
    ),
    Flag(
        "--learning_rate_boundaries",
        "train.learning_rate_boundaries",
        "epochs at which the warm-up ends and each next rate begins",
        float,
        "EPOCH",
        several=True,
    ),
    Flag("--decay", "train.decay", "after the warm-up: steps (default) or cosine", str, "NAME"),
    Flag("--optimizer", "train.optimizer", "sgd (default) or adam", str, "NAME"),
    Flag("--momentum", "train.momentum", "of SGD", float, "M"),
    Flag("--clip_norm", "train.clip_norm", "bound of the gradients' norm (default: none)", float, "NORM"),
    Flag("--l2_weight_decay", "train.l2_weight_decay", "of kernels; not of biases and norms", float, "W"),
    Flag(
        "--ema", "train.ema", "decay of a moving average of the weights, which is evaluated and saved", float, "DECAY"
    ),
    Flag("--max_instances", "data.max_instances", "objects of an image at most (default: fits the data)", int, "N"),
    Flag(
        "--scale_jitter", "data.scale_jitter", "large-scale jitter, then a crop: 0.1 2.0", float, "SCALE", several=True
    ),
    Flag("--color_jitter", "data.color_jitter", "strength of changes in color, such as 0.4", float, "S"),
    Flag("--copy_paste", "data.copy_paste", "share of images that get objects of another", float, "SHARE"),
    Flag("--finetune_bn", "model.norm.train", "train the batch norms"),
    Flag("--keep", "train.keep", "checkpoints kept, the newest ones", int, "N"),
    Flag("--checkpoint_every", "train.checkpoint_every", "steps between checkpoints (0: once an epoch)", int, "STEPS"),
    Flag("--evaluate_every", "train.evaluate_every", "epochs between evaluations (0: only at the end)", int, "N"),
)
SCHEDULES = {  # what `--schedule` stands for
    "1x": {"train.epochs": 12, "train.learning_rate_boundaries": (0.3, 8.0, 10.0)},  # the recipe's own
    # 270,000 steps of 16 images, drops 60,000 and 20,000 before the end; arXiv:1811.08883, Sec. 3
    "3x": {"train.epochs": 36, "train.learning_rate_boundaries": (0.3, 28.0, 33.3)},
}
DATA = (
    Flag("--train_file", "data.train_file", "COCO JSON to train on; only named files count then", str, "FILE"),
    Flag("--val_file", "data.val_file", "COCO JSON of the val split", str, "FILE"),
    Flag("--test_file", "data.test_file", "COCO JSON of the test split", str, "FILE"),
    Flag("--image_dir", "data.image_dir", "where the images of COCO JSON are (default: searched)", str, "DIR"),
    Flag(
        "--val_fraction",
        "data.val_fraction",
        "fraction of the training images held out if there is no val split (default: 0.1)",
        float,
        "F",
    ),
    Flag("--masks_from_boxes", "data.masks_from_boxes", "use rectangles as masks of objects that have only boxes"),
    Flag("--crowds_as_objects", "data.crowds_as_objects", "train on crowds too: CVAT marks brush masks as crowds"),
    Flag("--skip_bad", "data.skip_bad", "skip images and annotations with problems, however many there are"),
)
SPLIT = (Flag("--split", "data.eval_split", "split of the data: train, val (default) or test", str, "NAME"),)
EVALUATION = (
    Flag("--eval_batch_size", "train.eval_batch_size", "images of a batch in evaluation on each device", int, "N"),
    Flag("--eval_samples", "train.eval_samples", "evaluate only the first N images", int, "N"),
)
RUNTIME = (
    Flag("--xla", "train.xla", "compile by XLA on TensorFlow too (JAX always does)"),
    Flag("--eagerly", "train.eagerly", "run step by step, for debugging; slow"),
    Flag("--seed", "train.seed", "make the run repeatable", int, "SEED"),
)


def add_flags(parser: argparse.ArgumentParser, title: str, flags: tuple[Flag, ...]) -> None:
    """Adds flags whose value is None unless given."""
    group = parser.add_argument_group(title)
    for flag in flags:
        if flag.kind is None:
            group.add_argument(flag.name, action="store_true", default=None, help=flag.help)
        else:
            nargs = "+" if flag.several else None
            group.add_argument(flag.name, type=flag.kind, nargs=nargs, metavar=flag.metavar, help=flag.help)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Adds what all commands that run a model have."""
    add_flags(parser, "running", RUNTIME)
    group = parser.add_argument_group("device and settings")
    group.add_argument("--backend", metavar="NAME", help="tensorflow (default) or jax; also by KERAS_BACKEND")
    group.add_argument("--gpus", type=int, metavar="N", help="use the first N GPUs (0: the CPU; default: all)")
    group.add_argument("--precision", metavar="NAME", help="float32 (default), tf32, float16 or bfloat16")
    group.add_argument("--amp", action="store_true", help="mixed precision, the same as --precision float16")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="assignments",
        help="set any field of the config, such as rpn.nms_iou=0.6; may be repeated",
    )
    group.add_argument("-v", "--verbose", action="store_true", help="show the libraries' logs, and tracebacks")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The config fields that the flags set, in the order in which they apply.

    Raises:
        UserError: flags that contradict each other.
    """
    given = vars(options)
    values: dict[str, Any] = dict(SCHEDULES[given["schedule"]]) if given.get("schedule") else {}
    values |= {
        flag.field: given[flag.key]
        for flag in (*TRAINING, *DATA, *SPLIT, *EVALUATION, *RUNTIME)
        if given.get(flag.key) is not None
    }
    if options.amp and options.precision not in (None, "float16"):
        raise UserError(f"--amp means float16, --precision says {options.precision}; give one of them")
    if options.amp or options.precision:
        values["train.precision"] = options.precision or "float16"
    for assignment in options.assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: expected NAME=VALUE")
        values[name.strip()] = value.strip()
    return values


def data_config(options: argparse.Namespace) -> DataConfig:
    """How a dataset is to be read, as the data flags say."""
    given = vars(options)
    return Config().override({flag.field: given[flag.key] for flag in DATA if given[flag.key] is not None}).data


def make_config(options: argparse.Namespace) -> Config:
    """The config of ``--config`` (or the defaults) with the flags on top.

    Raises:
        UserError: an unreadable file, an unknown setting or a value that cannot be.
    """
    config = load_config(options.config) if options.config else Config()
    return config.override(settings(options))
