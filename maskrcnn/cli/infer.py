"""The command ``infer``."""

import argparse
from pathlib import Path
from typing import Any

from maskrcnn import ranges
from maskrcnn.cli.flags import DATA, EVALUATION, SPLIT, add_flags, add_runtime, argument, settings, use_backend
from maskrcnn.errors import UserError


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "infer",
        usage="%(prog)s [IMAGE ...] (--model_dir DIR | --weights SOURCE | --model FILE) [FLAG ...]",
        help="predict images or a split of a dataset",
        description="Writes the detections in images as COCO results (predictions.json) and draws them on the images. "
        "The exit status is 1 if some images could not be read.",
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="*", metavar="IMAGE", help="image files and folders of images")
    parser.add_argument("--data_dir", metavar="DIR", help="dataset of which a split is predicted, if no IMAGE is given")
    parser.add_argument("--model_dir", metavar="DIR", help="a model that was trained or imported here")
    parser.add_argument(
        "--weights",
        metavar="SOURCE",
        help="instead of --model_dir: a published name (see `maskrcnn weights list`), a URL or a checkpoint",
    )
    parser.add_argument("--model", metavar="FILE", help="instead of --model_dir: a file that `maskrcnn export` wrote")
    parser.add_argument(
        "--out_dir", metavar="DIR", help="folder for the results (default: MODEL_DIR/predictions, or predictions)"
    )
    parser.add_argument(
        "--score_threshold",
        type=argument(ranges.Fraction),
        default=0.5,
        metavar="S",
        help="lowest score that is drawn (default: %(default)s)",
    )
    add_flags(parser, "data", (*SPLIT, *DATA))
    add_flags(parser, "prediction", EVALUATION)
    add_runtime(parser)
    parser.set_defaults(action=infer)


def infer(options: argparse.Namespace) -> int:
    """Predicts and returns the exit status: 1 if an image could not be read, unless --skip_bad is given."""
    changes = settings(options)
    sources = [source for source in (options.model_dir, options.weights, options.model) if source]
    if len(sources) != 1:
        raise UserError("give one of --model_dir, --weights and --model")
    if not options.model:
        use_backend(options)
    from maskrcnn.inference.run import infer_folder

    out_dir = options.out_dir or (f"{options.model_dir}/predictions" if options.model_dir else "predictions")
    unreadable = infer_folder(
        Path(options.model_dir) if options.model_dir else sources[0],
        out_dir,
        paths=options.paths,
        data_dir=options.data_dir,
        settings=changes,
        score_threshold=options.score_threshold,
    )
    print(f"predictions.json and the images with their detections are in {out_dir}")
    return int(unreadable > 0 and not options.skip_bad)
