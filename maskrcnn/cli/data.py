"""The command data: convert, check, browse, shapes, coco."""

import argparse
from typing import Any

from maskrcnn.cli.flags import DATA, add_flags, add_verbose, data_config, whole
from maskrcnn.errors import UserError, printable

DATASET = "a dataset in any supported format: COCO, YOLO, labelme, VIA, Pascal VOC, PNG masks, TFRecords"


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("data", help="convert, check, look at, draw or download datasets")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    convert_parser = _add_action(actions, "convert", "write a dataset as TFRecords (train does), COCO or YOLO", convert)
    _add_folder(convert_parser, "data_dir", DATASET)
    convert_parser.add_argument(
        "--to", choices=("tfrecord", "coco", "yolo"), default="tfrecord", help="default: %(default)s"
    )
    convert_parser.add_argument("--out_dir", metavar="DIR", help="output folder (default for TFRecords: DIR/tfrecords)")
    add_flags(convert_parser, "data", DATA)

    check_parser = _add_action(actions, "check", "say what a dataset holds and what is wrong with it", check)
    _add_folder(check_parser, "data_dir", DATASET)
    check_parser.add_argument("--json", metavar="FILE", help="write the summary as JSON too")
    check_parser.add_argument(
        "--out",
        metavar="FILE",
        default="problems.txt",
        help="file for the full list of problems if not all are shown (default: %(default)s)",
    )
    add_flags(check_parser, "data", DATA)

    browse_parser = _add_action(actions, "browse", "write a page of images with their boxes and masks", browse)
    _add_folder(browse_parser, "data_dir", DATASET)
    browse_parser.add_argument("--out_dir", default="runs/browse", metavar="DIR", help="default: %(default)s")
    browse_parser.add_argument(
        "--split", choices=("train", "val", "test"), default="train", help="default: %(default)s"
    )
    browse_parser.add_argument("--num_images", type=whole(1), default=48, metavar="N", help="default: %(default)s")
    add_flags(browse_parser, "data", DATA)

    _add_sources(actions)


def _add_sources(actions: Any) -> None:
    shapes_parser = _add_action(actions, "shapes", "draw the shapes dataset", shapes)
    _add_folder(shapes_parser, "out_dir", "output folder")
    add = shapes_parser.add_argument
    add("--train_images", type=whole(1), default=400, metavar="N", help="default: %(default)s")
    add("--val_images", type=whole(1), default=64, metavar="N", help="default: %(default)s")
    add("--image_size", type=whole(32, 4096), default=256, metavar="PX", help="default: %(default)s")
    add("--seed", type=whole(0, 2**32 - 1), default=0, metavar="SEED", help="default: %(default)s")

    coco_parser = _add_action(actions, "coco", "download COCO 2017 (20 GB)", coco)
    _add_folder(coco_parser, "out_dir", "output folder")
    coco_parser.add_argument(
        "--splits", nargs="+", choices=("train", "val"), default=("train", "val"), help="default: both"
    )
    coco_parser.add_argument("--base_url", metavar="URL", help="where to download from (default: COCO's own server)")


def convert(options: argparse.Namespace) -> None:
    """Converts a dataset and prints what was written."""
    from maskrcnn.data.folder import convert_folder

    counts = convert_folder(options.data_dir, options.out_dir, to=options.to, options=data_config(options))
    for name, count in counts.items():
        print(f"{name}: {count} images in {options.out_dir or f'{options.data_dir}/tfrecords'}")


def check(options: argparse.Namespace) -> None:
    """Checks a dataset and prints a summary with the problems found."""
    from maskrcnn.data.check import check_folder, keep_dataset

    keep_dataset(options.data_dir, options.json, options.out)
    report = check_folder(options.data_dir, data_config(options))
    for line in report.lines():
        print(printable(line))
    if not report.is_shown_in_full():
        report.write_problems(options.out)
        print(f"all {len(report.problems)} problems are in {options.out}")
    if options.json:
        report.write_json(options.json)
    if report.errors:
        raise UserError(report.errors[0])
    able = "can be trained on" if "train" in report.splits else "can be evaluated on, but has no train split"
    print(f"{options.data_dir}: {able}")


def browse(options: argparse.Namespace) -> None:
    """Writes a contact sheet of a split."""
    from maskrcnn.reports.contact_sheet import write_contact_sheet

    page = write_contact_sheet(
        options.data_dir,
        options.out_dir,
        split=options.split,
        num_images=options.num_images,
        options=data_config(options),
    )
    print(f"look at {page}")


def shapes(options: argparse.Namespace) -> None:
    """Draws the shapes dataset."""
    from maskrcnn.data.shapes import write_shapes

    path = write_shapes(
        options.out_dir,
        train_images=options.train_images,
        val_images=options.val_images,
        image_size=options.image_size,
        seed=options.seed,
    )
    print(f"{options.train_images} + {options.val_images} images in {path}")


def coco(options: argparse.Namespace) -> None:
    """Downloads COCO 2017."""
    from maskrcnn.data.coco.download import BASE_URL, download_coco

    path = download_coco(options.out_dir, base_url=options.base_url or BASE_URL, splits=tuple(options.splits))
    print(f"COCO 2017 is in {path}")


def _add_folder(parser: argparse.ArgumentParser, name: str, help: str) -> None:
    """Adds a required folder, which may also be given as other commands take it: ``data check --data_dir DIR``."""
    parser.set_defaults(**{name: None})
    either = parser.add_mutually_exclusive_group(required=True)
    # A default would replace what the flag has set.
    either.add_argument(name, metavar="DIR", nargs="?", default=argparse.SUPPRESS, help=help)
    either.add_argument(f"--{name}", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _add_action(actions: Any, name: str, help: str, action: Any) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help)
    add_verbose(parser)
    parser.set_defaults(action=lambda options: _run(action, options))
    return parser


def _run(action: Any, options: argparse.Namespace) -> None:
    from maskrcnn.runtime.backend import import_tensorflow

    import_tensorflow(verbose=options.verbose)
    action(options)
