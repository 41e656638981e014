"""The command data: convert, check, browse, shapes, coco."""

import argparse
from typing import Any

from maskrcnn.errors import UserError


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("data", help="convert, check, look at, draw or download datasets", allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    convert_parser = _add_action(actions, "convert", "make TFRecords of COCO data (train does it by itself)", convert)
    convert_parser.add_argument("data_dir", metavar="DIR", help="COCO data")
    convert_parser.add_argument("--out_dir", metavar="DIR", help="gets the records (default: DIR/tfrecords)")
    convert_parser.add_argument("--skip_bad", action="store_true", help="leave out what is faulty, counted")

    check_parser = _add_action(actions, "check", "list all faults of a dataset", check)
    check_parser.add_argument("data_dir", metavar="DIR", help="COCO data or TFRecords")

    browse_parser = _add_action(actions, "browse", "write a page of images with their boxes and masks", browse)
    browse_parser.add_argument("data_dir", metavar="DIR", help="COCO data or TFRecords")
    browse_parser.add_argument("--out_dir", default="runs/browse", metavar="DIR", help="default: %(default)s")
    browse_parser.add_argument("--split", choices=("train", "val"), default="train", help="default: %(default)s")
    browse_parser.add_argument("--num_images", type=int, default=48, metavar="N", help="default: %(default)s")
    browse_parser.add_argument("--skip_bad", action="store_true", help="leave out what is faulty, counted")

    shapes_parser = _add_action(actions, "shapes", "draw the shapes dataset", shapes)
    shapes_parser.add_argument("out_dir", metavar="DIR", help="gets the dataset")
    shapes_parser.add_argument("--train_images", type=int, default=400, metavar="N", help="default: %(default)s")
    shapes_parser.add_argument("--val_images", type=int, default=64, metavar="N", help="default: %(default)s")
    shapes_parser.add_argument("--image_size", type=int, default=256, metavar="PX", help="default: %(default)s")
    shapes_parser.add_argument("--seed", type=int, default=0, metavar="SEED", help="default: %(default)s")

    coco_parser = _add_action(actions, "coco", "download COCO 2017 (20 GB)", coco)
    coco_parser.add_argument("out_dir", metavar="DIR", help="gets the dataset")
    coco_parser.add_argument(
        "--splits", nargs="+", choices=("train", "val"), default=("train", "val"), help="default: both"
    )
    coco_parser.add_argument("--base_url", metavar="URL", help="where to download from (default: COCO's own server)")


def convert(options: argparse.Namespace) -> None:
    from maskrcnn.data.folder import convert_folder

    for name, converted in convert_folder(options.data_dir, options.out_dir, skip_bad=options.skip_bad).items():
        print(f"{name}: {len(converted.index)} images in {converted.index.files[0].parent}")


def check(options: argparse.Namespace) -> None:
    from maskrcnn.data.folder import check_folder

    faults = check_folder(options.data_dir)
    for fault in faults:
        print(fault)
    if faults:
        raise UserError(f"{options.data_dir}: {len(faults)} faults; mend them, or train with --skip_bad")
    print(f"{options.data_dir}: no faults")


def browse(options: argparse.Namespace) -> None:
    from maskrcnn.reports.contact_sheet import write_contact_sheet

    page = write_contact_sheet(
        options.data_dir,
        options.out_dir,
        split=options.split,
        num_images=options.num_images,
        skip_bad=options.skip_bad,
    )
    print(f"look at {page}")


def shapes(options: argparse.Namespace) -> None:
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
    from maskrcnn.data.coco.download import BASE_URL, download_coco

    path = download_coco(options.out_dir, base_url=options.base_url or BASE_URL, splits=tuple(options.splits))
    print(f"COCO 2017 is in {path}")


def _add_action(actions: Any, name: str, help: str, action: Any) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help, allow_abbrev=False)
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    parser.set_defaults(action=lambda options: _run(action, options))
    return parser


def _run(action: Any, options: argparse.Namespace) -> None:
    from maskrcnn.runtime.backend import import_tensorflow

    import_tensorflow(verbose=options.verbose)
    action(options)
