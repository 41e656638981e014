"""The command ``demo``."""

import argparse
from typing import Any

from maskrcnn.cli.flags import AUTO, EVALUATION, TRAINING, add_flags, add_runtime, settings, use_backend
from maskrcnn.errors import UserError


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "demo",
        usage="%(prog)s [--out_dir DIR] [FLAG ...]",
        help="train on drawn shapes, evaluate, and write a report",
        description="Draws a dataset, trains a small model on it in minutes, and writes OUT_DIR/report.html.",
    )
    parser.add_argument("--out_dir", default="runs/demo", metavar="DIR", help="output folder (default: %(default)s)")
    add_flags(parser, "training", TRAINING)
    add_flags(parser, "evaluation", EVALUATION)
    add_runtime(parser)
    parser.set_defaults(action=demo)


def demo(options: argparse.Namespace) -> None:
    """Runs the demonstration and prints the metrics."""
    if options.train_batch_size == AUTO:
        raise UserError("--train_batch_size auto: the demonstration has a recipe of its own; give a number of images")
    changes = settings(options)
    use_backend(options)
    from maskrcnn.demo import demo_config, run_demo
    from maskrcnn.evaluation.coco_metrics import format_metrics

    print(format_metrics(run_demo(options.out_dir, demo_config().override(changes))))
