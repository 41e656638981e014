"""The command ``train``."""

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from maskrcnn.cli.flags import (
    AUTO,
    DATA,
    EVALUATION,
    SCHEDULES,
    TRAINING,
    add_flags,
    add_logging,
    add_runtime,
    log_options,
    make_config,
    settings,
    use_backend,
    whole,
)
from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.runtime.environment import check_processes

if TYPE_CHECKING:
    from maskrcnn.training.presets import Recipe


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "train",
        usage="%(prog)s --data_dir DIR --model_dir DIR [FLAG ...]",
        help="train a model, or resume with the same command",
        description="Trains a model, evaluates it and writes it to MODEL_DIR. The same command resumes the run.",
    )
    parser.add_argument("--data_dir", metavar="DIR", help="dataset to train on")
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="folder for the model, checkpoints and logs")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="recipe for the device and the dataset: auto (default: cpu or gpu), cpu (small, from scratch), gpu and v2 "
        "(fine-tune COCO weights), reference (12 epochs at 832 to 1344 px); other flags override it",
    )
    parser.add_argument("--config", metavar="FILE", help="JSON config, instead of a preset; other flags override it")
    _add_start(parser)
    parser.add_argument("--use_synthetic_data", action="store_true", help="train on random images, to measure speed")
    parser.add_argument("--schedule", choices=SCHEDULES, help="epochs and learning-rate drops: 1x (default) or 3x")
    add_flags(parser, "training (defaults of --preset reference)", TRAINING, Config())
    add_flags(parser, "data", DATA, Config())
    add_flags(parser, "evaluation", EVALUATION, Config())
    parser.add_argument("--eval_file", metavar="FILE", help="COCO annotations to evaluate against")
    parser.add_argument("--no_eval", action="store_true", help="do not evaluate")
    add_runtime(parser)
    add_logging(parser)
    group = parser.add_argument_group("several machines", "JAX; TensorFlow reads TF_CONFIG, and SLURM is detected")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of the first process")
    group.add_argument("--num_processes", type=whole(1), metavar="N", help="number of processes")
    group.add_argument("--process_id", type=whole(0), metavar="I", help="rank of this process, from 0")
    _add_trackers(parser)
    parser.set_defaults(action=train)


def _add_trackers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("experiment trackers", "with accounts and offline modes by their own variables")
    group.add_argument(
        "--log",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also log to wandb, mlflow, comet or csv (MODEL_DIR/log.csv)",
    )
    group = parser.add_argument_group("TensorBoard")
    group.add_argument("--log_tensorboard", metavar="DIR", help="write TensorBoard events to this folder")
    group.add_argument("--log_graph", action="store_true", help="write TensorFlow's graph for TensorBoard")


def _add_start(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("first weights")
    group.add_argument(
        "--backbone_checkpoint",
        metavar="SOURCE",
        help="initialize the backbone: a published name (see `maskrcnn weights list`), a URL, a checkpoint or a "
        "folder; or imagenet, for a model of keras.applications (--set backbone.name=ConvNeXtTiny)",
    )
    group.add_argument(
        "--weights",
        metavar="SOURCE",
        help="initialize the whole model: a published name, a URL, a checkpoint or a folder; none: start from scratch",
    )


def train(options: argparse.Namespace) -> None:
    """Trains and prints the metrics."""
    if bool(options.data_dir) == options.use_synthetic_data:
        raise UserError("give either --data_dir or --use_synthetic_data")
    from maskrcnn.logs.trackers import require

    preset = _preset(options)
    require(options.log)
    make_config(options)  # wrong settings fail before anything heavy is imported
    check_processes(options.coordinator, options.num_processes, options.process_id)
    use_backend(options)
    from maskrcnn.runtime.distribution import connect

    devices = connect(options.coordinator, options.num_processes, options.process_id)  # before anything computes
    from maskrcnn.evaluation.coco_metrics import format_metrics
    from maskrcnn.training.run import RunOptions, Start, train

    weights = _weights(options, preset)
    trackers = {"tensorboard": options.log_tensorboard, "graph": options.log_graph, "trackers": tuple(options.log)}
    logs = dataclasses.replace(log_options(options), **trackers)
    metrics = train(
        _config(options, preset, weights),
        data_dir=options.data_dir,
        model_dir=options.model_dir,
        start=Start(weights=weights, backbone_checkpoint=options.backbone_checkpoint),
        options=RunOptions(not options.no_eval, options.eval_file, logs, devices),
    )
    if "bbox" in metrics and devices.is_chief:
        print(format_metrics(metrics))


def _preset(options: argparse.Namespace) -> str:
    """The preset, by default the reference's where a flag belongs to that recipe.

    Raises:
        UserError: an unknown preset, or one beside a config file.
    """
    if options.config and options.preset:
        raise UserError(f"--preset {options.preset} and --config {options.config} exclude each other; give one of them")
    if options.config and options.train_batch_size == AUTO:
        raise UserError("--train_batch_size auto goes with a preset, not with --config; give a number of images")
    from maskrcnn.training.presets import PRESETS

    if options.preset and options.preset not in PRESETS:
        raise UserError(f"--preset {options.preset}: choose one of {', '.join(PRESETS)}")
    return options.preset or ("reference" if options.schedule or options.use_synthetic_data else "auto")


def _weights(options: argparse.Namespace, preset: str) -> str | None:
    """The weights to start from: those of the flag, or those that the preset fine-tunes."""
    from maskrcnn.runtime.hardware import computes_on_cpu
    from maskrcnn.training.presets import WEIGHTS, device_preset

    if options.weights or options.backbone_checkpoint or options.config:
        return None if options.weights == "none" else options.weights
    return WEIGHTS.get(device_preset(preset, on_cpu=computes_on_cpu()))


def _config(options: argparse.Namespace, preset: str, weights: str | None) -> "Config | Recipe":
    """The config of the file under the flags, or the recipe of the preset."""
    from maskrcnn.training.presets import Recipe
    from maskrcnn.weights.transfer import weights_config

    if options.config:
        return make_config(options)
    pretrained = weights_config(weights) if weights else None
    return Recipe(preset, settings(options), pretrained, largest_batch=options.train_batch_size == AUTO)
