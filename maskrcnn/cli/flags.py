"""Flags that several commands share, and the config that they make."""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

from maskrcnn.config import Config, DataConfig, load_config
from maskrcnn.config.typed_fields import SettingError, between, hint_of, item_type, parse_text
from maskrcnn.errors import UserError
from maskrcnn.input_files import dataset_folder

if TYPE_CHECKING:
    from maskrcnn.logs.dllogger import LogOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Flag:
    """A flag that sets a config field, which has its type and range; without a metavar it is a switch."""

    field: str
    help: str
    metavar: str | None = None
    other_key: str = ""  # where the flag does not have the field's own name
    auto: bool = False  # "auto" is a value too, which the command has to take care of

    @property
    def key(self) -> str:
        """The name of the flag's value in the parsed options."""
        return self.other_key or self.field.rpartition(".")[2]

    @property
    def name(self) -> str:
        """The flag as it is given."""
        return f"--{self.key}"


AUTO = "auto"
TRAINING = (
    Flag("train.epochs", "passes over the training split", "N"),
    Flag("train.steps_per_epoch", "batches per epoch (default: one pass)", "N"),
    Flag(
        "train.batch_size",
        "images per batch on each device, or auto: as many as fit",
        "N",
        "train_batch_size",
        auto=True,
    ),
    Flag("train.accumulate", "batches whose gradients are averaged into one update", "N"),
    Flag("train.init_learning_rate", "learning rate at the start of warm-up", "RATE"),
    Flag(
        "train.learning_rate_values",
        "learning rates for 8 images per update; they are scaled to the actual number",
        "RATE",
    ),
    Flag("train.learning_rate_boundaries", "epochs at which warm-up ends and each following rate starts", "EPOCH"),
    Flag("train.decay", "learning rate after warm-up: steps (default) or cosine", "NAME"),
    Flag("train.optimizer", "sgd (default) or adam", "NAME"),
    Flag("train.momentum", "momentum of SGD", "M"),
    Flag("train.clip_norm", "clip the global norm of the gradients (default: no)", "NORM"),
    Flag("train.l2_weight_decay", "weight decay of kernels", "W"),
    Flag("train.ema", "decay of a moving average of the weights; evaluate and save the average", "DECAY"),
    Flag("data.max_instances", "objects of an image at most (default: fits the data)", "N"),
    Flag("data.scale_jitter", "range of random scales before a random crop, such as 0.1 2.0", "SCALE"),
    Flag("data.color_jitter", "strength of random color changes, such as 0.4", "S"),
    Flag("data.copy_paste", "fraction of images that get objects pasted from another", "F"),
    Flag("model.norm.train", "train the batch norms (default: frozen)", other_key="finetune_bn"),
    Flag("train.keep", "number of checkpoints to keep", "N"),
    Flag("train.checkpoint_every", "steps between checkpoints (0: once per epoch)", "STEPS"),
    Flag("train.patience", "stop after N evaluations without a better mask AP (0: never)", "N"),
    Flag("train.max_time", "stop after so much training; the same command resumes", "MINUTES"),
    Flag("train.evaluate_every", "epochs between evaluations (0: only at the end)", "N"),
)
SCHEDULES = {  # the settings of `--schedule`
    "1x": {"train.epochs": 12, "train.learning_rate_boundaries": (0.3, 8.0, 10.0)},  # the default recipe
    # 270,000 steps of 16 images, drops 60,000 and 20,000 steps before the end; arXiv:1811.08883, Sec. 3
    "3x": {"train.epochs": 36, "train.learning_rate_boundaries": (0.3, 28.0, 33.3)},
}
DATA = (
    Flag("data.train_file", "COCO JSON to train on; only named files count then", "FILE"),
    Flag("data.val_file", "COCO JSON of the val split", "FILE"),
    Flag("data.test_file", "COCO JSON of the test split", "FILE"),
    Flag("data.image_dir", "where the images of COCO JSON are (default: searched)", "DIR"),
    Flag("data.val_fraction", "fraction of the training images held out if there is no val split (default: 0.1)", "F"),
    Flag("data.masks_from_boxes", "use rectangles as masks of objects that have only boxes"),
    Flag("data.crowds_as_objects", "train on crowds too: CVAT marks brush masks as crowds"),
    Flag("data.skip_bad", "skip images and annotations with problems, however many there are"),
)
SPLIT = (Flag("data.eval_split", "split of the data: train, val (default) or test", "NAME", other_key="split"),)
EVALUATION = (
    Flag("train.eval_batch_size", "images per batch on each device", "N"),
    Flag("train.eval_samples", "use only the first N images", "N"),
)
RUNTIME = (
    Flag("train.xla", "compile with XLA on TensorFlow too (JAX always does)"),
    Flag("train.eagerly", "run operation by operation, for debugging; slow"),
    Flag("train.seed", "make the run reproducible", "SEED"),
)


def add_flags(
    parser: argparse.ArgumentParser, title: str, flags: tuple[Flag, ...], defaults: Config | None = None
) -> None:
    """Adds flags whose value is None unless given; their help has the values of ``defaults``."""
    group = parser.add_argument_group(title)
    for flag in flags:
        if flag.metavar is None:
            group.add_argument(flag.name, action="store_true", default=None, help=flag.help)
        else:
            kind, several = item_type(hint_of(Config, flag.field))
            parse = argument(kind)
            text = flag.help + (_default(flag, defaults) if defaults is not None else "")
            group.add_argument(
                flag.name,
                type=_or_auto(parse) if flag.auto else parse,
                nargs="+" if several else None,
                metavar=flag.metavar,
                help=text,
            )


def argument(hint: Any) -> Callable[[str], Any]:
    """An argparse type: text that must be a value of a type and its rules, see `maskrcnn.config.typed_fields`."""

    def parse(text: str) -> Any:
        try:
            return parse_text(hint, text)
        except SettingError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def _or_auto(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: AUTO if text == AUTO else parse(text)


def whole(low: int, high: int = 10**6) -> Callable[[str], int]:
    """An argparse type: an integer within bounds."""
    return argument(Annotated[int, between(low, high)])


def _default(flag: Flag, config: Config) -> str:
    value = attrgetter(flag.field)(config)
    if value is None or "default" in flag.help:
        return ""
    return f" (default: {' '.join(map(str, value)) if isinstance(value, tuple) else value})"


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of all commands that run a model."""
    add_flags(parser, "execution", RUNTIME)
    group = parser.add_argument_group("device and settings")
    add_backend(group)
    group.add_argument("--gpus", type=whole(0), metavar="N", help="use the first N GPUs (0: the CPU; default: all)")
    group.add_argument(
        "--precision",
        type=argument(hint_of(Config, "train.precision")),
        metavar="NAME",
        help="float32 (default), tf32, float16 or bfloat16",
    )
    group.add_argument("--amp", action="store_true", help="mixed precision: float16; on a CPU bfloat16, if it has it")
    add_assignments(group, "rpn.nms_iou=0.6")
    add_verbose(group)


def add_assignments(parser: Any, example: str) -> None:
    """Adds ``--set``."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="assignments",
        help=f"set any config field, such as {example}; can be repeated",
    )


def add_backend(parser: Any) -> None:
    """Adds ``--backend``."""
    parser.add_argument("--backend", metavar="NAME", help="tensorflow (default) or jax; KERAS_BACKEND sets it too")


def add_verbose(parser: Any) -> None:
    """Adds ``--verbose``."""
    parser.add_argument("-v", "--verbose", action="store_true", help="show library logs and tracebacks")


def add_logging(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the log."""
    group = parser.add_argument_group("logging")
    add = group.add_argument
    add("--log_file", metavar="FILE", help="log in DLLogger's format (default: MODEL_DIR/mrcnn-dlll.json)")
    add("--log_every", type=whole(1), default=100, metavar="N", help="steps between log entries")
    add("--log_warmup_steps", type=whole(0), default=100, metavar="N", help="steps not counted in the speed")


def log_options(options: argparse.Namespace) -> "LogOptions":
    """The log that the flags ask for."""
    from maskrcnn.logs.dllogger import LogOptions

    return LogOptions(options.log_file, options.log_every, options.log_warmup_steps)


def use_backend(options: argparse.Namespace) -> None:
    """Selects backend and devices, before Keras is imported.

    Raises:
        UserError: no such backend or devices, or no folder of data, which is not worth the wait for an import.
    """
    from maskrcnn.runtime.backend import select_backend

    if getattr(options, "data_dir", None) is not None:
        dataset_folder(options.data_dir)
    if options.amp and not options.precision and (precision := _mixed_precision(options.gpus)) != "float16":
        logger.warning("--amp: no GPU here, where it means float16; on this CPU it is %s", precision)
    select_backend(options.backend, gpus=options.gpus, verbose=options.verbose)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The config fields that the flags set, in the order in which they apply.

    Raises:
        UserError: flags that contradict each other, an unknown setting or an invalid value.
    """
    given = vars(options)
    values: dict[str, Any] = dict(SCHEDULES[given["schedule"]]) if given.get("schedule") else {}
    values |= {
        flag.field: given[flag.key]
        for flag in (*TRAINING, *DATA, *SPLIT, *EVALUATION, *RUNTIME)
        if given.get(flag.key) not in (None, AUTO)
    }
    if options.amp and options.precision in ("float32", "tf32"):
        raise UserError(f"--amp means half precision, but --precision is {options.precision}; give one of them")
    if options.amp or options.precision:
        values["train.precision"] = options.precision or _mixed_precision(options.gpus)
    for assignment in options.assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: expected NAME=VALUE")
        values[name.strip()] = value.strip()
    Config().override(values)  # what is wrong fails before a backend is imported
    return values


def _mixed_precision(gpus: int | None) -> str:
    from maskrcnn.runtime.hardware import mixed_precision

    return mixed_precision(gpus)


def data_config(options: argparse.Namespace) -> DataConfig:
    """How a dataset is to be read, as the data flags say."""
    given = vars(options)
    return Config().override({flag.field: given[flag.key] for flag in DATA if given[flag.key] is not None}).data


def make_config(options: argparse.Namespace) -> Config:
    """The config of ``--config``, or the default one, changed by the flags.

    Raises:
        UserError: an unreadable file, an unknown setting or an invalid value.
    """
    config = load_config(options.config) if options.config else Config()
    return config.override(settings(options))
