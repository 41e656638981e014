"""The command ``compare``."""

import argparse
from typing import Any

from maskrcnn.cli.flags import add_verbose, whole
from maskrcnn.errors import UserError


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "compare",
        usage="%(prog)s RUN_A RUN_B [RUN ...] [FLAG ...]",
        help="compare models evaluated on the same images",
        description="Compares evaluated models with the first one: metrics with bootstrap intervals, classes, images, "
        "settings. Prints a table and writes a page.",
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="a model's folder after `train` or `eval`, or a metrics_SPLIT.json"
    )
    parser.add_argument("--split", metavar="NAME", help="split, where there are several (default: val)")
    parser.add_argument("--eval_file", metavar="FILE", help="COCO annotations, if they are no longer where they were")
    parser.add_argument("--data_dir", metavar="DIR", help="the dataset, if its images are no longer where they were")
    parser.add_argument(
        "--bootstrap",
        type=whole(0, 100_000),
        default=200,
        metavar="N",
        help="resamplings for the intervals (default: %(default)s; 0: none)",
    )
    parser.add_argument("--out", default="compare.html", metavar="FILE", help="page to write (default: %(default)s)")
    add_verbose(parser)
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> None:
    """Compares, writes the page and prints the table."""
    if len(options.runs) < 2:
        raise UserError("give at least two runs to compare")
    from maskrcnn.runtime.backend import select_backend

    select_backend(None, gpus=0, verbose=options.verbose)  # images are decoded on the CPU
    from maskrcnn.evaluation.comparison import compare, format_comparison, open_runs
    from maskrcnn.reports.comparison_report import write_comparison

    comparison = compare(
        open_runs(options.runs, split=options.split, eval_file=options.eval_file), bootstrap=options.bootstrap
    )
    page = write_comparison(comparison, options.out, data_dir=options.data_dir)
    print(f"{format_comparison(comparison)}\nsee {page}")
