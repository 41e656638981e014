"""The command export: a trained model as one file that runs without Keras."""

import argparse
from typing import Any

from maskrcnn.cli.flags import add_backend, add_verbose, whole
from maskrcnn.export.options import FORMATS, ExportOptions


def add_commands(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser("export", help="write a model as one file that runs without Keras")
    add = parser.add_argument
    add("--model_dir", required=True, metavar="DIR", help="the model")
    add("--format", choices=FORMATS, default="onnx", help="default: %(default)s")
    add(
        "--out", metavar="FILE", help="the file (default: MODEL_DIR/export/model.onnx, model.int8.onnx, model.xml, ...)"
    )
    add("--batch", type=batch_size, default=1, metavar="N", help="images a run, or dynamic (default: %(default)s)")
    add(
        "--size",
        type=whole(1, 4096),
        nargs=2,
        metavar=("H", "W"),
        help="fix the canvas of the images, px (default: any landscape or portrait one)",
    )
    add(
        "--int8",
        metavar="DATA_DIR",
        help="compute in 8-bit integers, calibrated on images of this dataset or folder (default: float32)",
    )
    add("--half", action="store_true", help="compute the layers in float16, boxes in float32; half the file's size")
    add(
        "--check_images",
        nargs="+",
        default=(),
        metavar="IMAGE",
        help="images that the file is compared with the model on (default: drawn shapes, or those of --int8)",
    )
    add_backend(parser)
    add_verbose(parser)
    parser.set_defaults(action=export)


def batch_size(text: str) -> int | None:
    """An argparse type: a whole number of at least 1, or None for ``dynamic``."""
    if text == "dynamic":
        return None
    return whole(1, 4096)(text)


def export(options: argparse.Namespace) -> None:
    """Runs the command."""
    from maskrcnn.runtime.backend import select_backend

    size = tuple(options.size) if options.size else None
    select_backend(options.backend, verbose=options.verbose)
    from maskrcnn.export.run import export_model

    what = ExportOptions(options.format, options.batch, size, options.check_images, options.int8, options.half)
    exported = export_model(options.model_dir, options.out, what)
    nearly = "nearly " if options.int8 or options.half else ""
    print(f"{exported.path} finds {nearly}what the model finds")
