"""The command ``eval``."""

import argparse
from typing import Any

from maskrcnn.cli.flags import (
    DATA,
    EVALUATION,
    SPLIT,
    add_flags,
    add_logging,
    add_runtime,
    log_options,
    settings,
    use_backend,
)
from maskrcnn.weights.model_files import load_model_config


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "eval",
        usage="%(prog)s --data_dir DIR (--model_dir DIR | --model FILE) [--split NAME] [FLAG ...]",
        help="compute COCO metrics of a model on a split",
        description="Prints the COCO metrics of a model on a split of a dataset and writes them to a file, with the "
        "detections (predictions_SPLIT.json) and a page that explains the errors (report_SPLIT.html) beside it.",
    )
    add = parser.add_argument
    add("--data_dir", required=True, metavar="DIR", help="dataset to evaluate on")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model_dir", metavar="DIR", help="the model")
    model.add_argument("--model", metavar="FILE", help="instead of --model_dir: a file that `maskrcnn export` wrote")
    add("--eval_file", metavar="FILE", help="COCO annotations to compare with, instead of those of the split")
    add("--out", metavar="FILE", help="file for the metrics (default: MODEL_DIR/metrics_SPLIT.json)")
    add("--no_analysis", action="store_true", help="write only the metrics, neither page nor detections")
    add_flags(parser, "data", (*SPLIT, *DATA))
    add_flags(parser, "evaluation", EVALUATION)
    add_runtime(parser)
    add_logging(parser)
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> None:
    """Evaluates a model, explains the metrics and prints them."""
    changes = settings(options)
    if options.model_dir:
        load_model_config(options.model_dir)  # fails before a backend is imported
    use_backend(options)
    from maskrcnn.evaluation.analysis import describe
    from maskrcnn.evaluation.coco_metrics import format_metrics
    from maskrcnn.evaluation.run import evaluate_folder
    from maskrcnn.reports.evaluation_report import explain_folder

    evaluate = evaluate_folder if options.no_analysis else explain_folder
    metrics = evaluate(
        options.model_dir or options.model,
        options.data_dir,
        settings=changes,
        eval_file=options.eval_file,
        out_file=options.out,
        logs=log_options(options),
    )
    print(format_metrics(metrics))
    if "analysis" in metrics:
        print(describe(metrics["analysis"]))
