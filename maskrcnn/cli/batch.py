"""The command ``batch``."""

import argparse
from typing import Any

from maskrcnn.cli.flags import EVALUATION, add_flags, add_runtime, settings, use_backend, whole
from maskrcnn.cli.infer import add_model, add_views, chosen_model
from maskrcnn.errors import UserError


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "batch",
        usage="%(prog)s IMAGE ... (--model_dir DIR | --weights SOURCE | --model FILE) --out_dir DIR [FLAG ...]",
        help="predict any number of images with several processes or machines",
        description="Writes the detections as Parquet files, a row for each image. The same command resumes what was "
        "stopped. The exit status is 1 if some images could not be read.",
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="IMAGE", help="images, folders, patterns, addresses, or - for a list")
    add_model(parser)
    add("--out_dir", required=True, metavar="DIR", help="folder for the results, shared by all processes")
    add("--part_images", type=whole(1), default=1000, metavar="N", help="images per file (default: %(default)s)")
    group = parser.add_argument_group("processes")
    group.add_argument(
        "--shard", default="0/1", metavar="I/N", help="predict every N-th part from the I-th on, I from 0 to N-1"
    )
    add_views(parser)
    add_flags(parser, "prediction", EVALUATION[:1])
    add_runtime(parser)
    parser.set_defaults(action=batch)


def batch(options: argparse.Namespace) -> int:
    """Predicts and returns the exit status: 1 if an image could not be read."""
    changes, model = settings(options), chosen_model(options)
    shard = _shard(options.shard)
    if not options.model:
        use_backend(options)
    from maskrcnn.inference.batch.run import BatchOptions, infer_batch
    from maskrcnn.inference.views import Views

    views = Views(options.tile, options.overlap, options.augment)
    result = infer_batch(
        model,
        options.out_dir,
        options.paths,
        settings=changes,
        options=BatchOptions(options.part_images, shard, views),
    )
    unreadable = f", of which {result.unreadable} could not be read" if result.unreadable else ""
    missing = f"; {result.missing} parts of other shards are missing" if result.missing else ""
    print(f"predicted {result.images} images{unreadable}; {result.parts} parts are in {options.out_dir}{missing}")
    return int(result.unreadable > 0)


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and len(text) < 20):
        raise UserError(f"--shard {text}: expected I/N, such as 0/8")
    return int(index), int(count)
