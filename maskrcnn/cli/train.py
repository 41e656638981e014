"""The commands ``train`` and ``demo``."""

import argparse
from typing import Any

from maskrcnn.cli.flags import (
    EVALUATION,
    SCHEDULES,
    TRAINING,
    add_flags,
    add_logging,
    add_runtime,
    make_config,
    positive,
    settings,
    use_backend,
)
from maskrcnn.config import Config
from maskrcnn.errors import UserError


def add_commands(commands: Any) -> None:
    """Adds both commands to the parser."""
    _add_demo(commands)
    _add_train(commands)


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        usage="%(prog)s [--out_dir DIR] [FLAG ...]",
        help="train on drawn shapes, evaluate, and write a report",
        description="Draws a dataset, trains a small model on it in minutes, and writes OUT_DIR/report.html.",
        allow_abbrev=False,
    )
    parser.add_argument("--out_dir", default="runs/demo", metavar="DIR", help="output folder (default: %(default)s)")
    add_flags(parser, "training", TRAINING)
    add_flags(parser, "evaluation", EVALUATION)
    add_runtime(parser)
    parser.set_defaults(action=demo)


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        usage="%(prog)s --data_dir DIR --model_dir DIR [FLAG ...]",
        help="train a model, or resume with the same command",
        description="Trains a model, evaluates it and writes it to MODEL_DIR. The same command resumes the run.",
        allow_abbrev=False,
    )
    parser.add_argument("--data_dir", metavar="DIR", help="dataset to train on")
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="folder for the model, checkpoints and logs")
    parser.add_argument("--config", metavar="FILE", help="JSON config to start from; other flags override it")
    parser.add_argument(
        "--backbone_checkpoint",
        metavar="SOURCE",
        help="initialize the backbone: a published name (see `maskrcnn weights list`), a URL, a checkpoint or a "
        "folder; or imagenet, for a model of keras.applications (--set backbone.name=ConvNeXtTiny)",
    )
    parser.add_argument(
        "--weights",
        metavar="SOURCE",
        help="initialize the whole model: a published name, a URL, a checkpoint or a folder",
    )
    parser.add_argument("--use_synthetic_data", action="store_true", help="train on random images, to measure speed")
    parser.add_argument("--schedule", choices=SCHEDULES, help="epochs and learning-rate drops: 1x (default) or 3x")
    add_flags(parser, "training", TRAINING, Config())
    add_flags(parser, "evaluation", EVALUATION, Config())
    parser.add_argument("--eval_file", metavar="FILE", help="COCO annotations to evaluate against")
    parser.add_argument("--no_eval", action="store_true", help="do not evaluate")
    add_runtime(parser)
    add_logging(parser)
    group = parser.add_argument_group("several machines", "JAX; TensorFlow reads TF_CONFIG, and SLURM is detected")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of the first process")
    group.add_argument("--num_processes", type=positive, metavar="N", help="number of processes")
    group.add_argument("--process_id", type=int, metavar="I", help="rank of this process, from 0")
    group = parser.add_argument_group("TensorBoard")
    group.add_argument("--log_tensorboard", metavar="DIR", help="write TensorBoard events to this folder")
    group.add_argument("--log_graph", action="store_true", help="write TensorFlow's graph for TensorBoard")
    parser.set_defaults(action=train)


def demo(options: argparse.Namespace) -> None:
    """Runs the demonstration and prints the metrics."""
    changes = settings(options)
    use_backend(options)
    from maskrcnn.demo import demo_config, run_demo
    from maskrcnn.evaluation.coco_metrics import format_metrics

    print(format_metrics(run_demo(options.out_dir, demo_config().override(changes))))


def train(options: argparse.Namespace) -> None:
    """Trains and prints the metrics."""
    config = make_config(options)
    if bool(options.data_dir) == options.use_synthetic_data:
        raise UserError("give either --data_dir or --use_synthetic_data")
    use_backend(options)
    from maskrcnn.logs.dllogger import LogOptions
    from maskrcnn.runtime.distribution import connect

    devices = connect(options.coordinator, options.num_processes, options.process_id)  # before anything computes
    from maskrcnn.evaluation.coco_metrics import format_metrics
    from maskrcnn.training.run import train
    from maskrcnn.weights.transfer import weights_config

    if options.weights and not options.config:
        config = Config(model=weights_config(options.weights)).override(settings(options))
    logs = LogOptions(
        options.log_file, options.log_every, options.log_warmup_steps, options.log_tensorboard, options.log_graph
    )
    metrics = train(
        config,
        data_dir=options.data_dir,
        model_dir=options.model_dir,
        eval_file=options.eval_file,
        backbone_checkpoint=options.backbone_checkpoint,
        weights=options.weights,
        evaluate=not options.no_eval,
        logs=logs,
        devices=devices,
    )
    if "bbox" in metrics and devices.is_chief:
        print(format_metrics(metrics))
