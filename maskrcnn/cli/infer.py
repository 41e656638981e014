"""The command ``infer``."""

import argparse
from pathlib import Path
from typing import Annotated, Any

from maskrcnn.cli.flags import DATA, EVALUATION, SPLIT, add_flags, add_runtime, argument, settings, use_backend, whole
from maskrcnn.config import CANVAS_STRIDE, ranges
from maskrcnn.config.typed_fields import between
from maskrcnn.errors import UserError
from maskrcnn.inference.outputs import FORMATS
from maskrcnn.input_files import as_path
from maskrcnn.weights.model_files import load_model_config


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "infer",
        usage="%(prog)s [IMAGE ...] (--model_dir DIR | --weights SOURCE | --model FILE) [FLAG ...]",
        help="predict images or a split of a dataset",
        description="Writes the detections in images as COCO results (predictions.json) and draws them on the images. "
        "The exit status is 1 if some images could not be read.",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="IMAGE",
        help="images and videos: files, folders, patterns, http(s) or rtsp addresses, the number of a camera, "
        "or - for a list of these on standard input",
    )
    parser.add_argument("--data_dir", metavar="DIR", help="dataset of which a split is predicted, if no IMAGE is given")
    add_model(parser)
    _add_output(parser)
    add_views(parser)
    _add_videos(parser)
    add_flags(parser, "data", (*SPLIT, *DATA))
    add_flags(parser, "prediction", EVALUATION)
    add_runtime(parser)
    parser.set_defaults(action=infer)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that name a model."""
    parser.add_argument("--model_dir", metavar="DIR", help="a model that was trained or imported here")
    parser.add_argument(
        "--weights",
        metavar="SOURCE",
        help="instead of --model_dir: a published name (see `maskrcnn weights list`), a URL or a checkpoint",
    )
    parser.add_argument("--model", metavar="FILE", help="instead of --model_dir: a file that `maskrcnn export` wrote")


def chosen_model(options: argparse.Namespace) -> str | Path:
    """The model that the flags name.

    Raises:
        UserError: none, or more than one, or a folder without a model.
    """
    sources = [source for source in (options.model_dir, options.weights, options.model) if source]
    if len(sources) != 1:
        raise UserError("give one of --model_dir, --weights and --model")
    if not options.model_dir:
        return sources[0]
    path = as_path(options.model_dir)
    if not path.is_file():
        load_model_config(path)  # fails before a backend is imported
    return path


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out_dir", metavar="DIR", help="folder for the results (default: MODEL_DIR/predictions, or predictions)")
    add(
        "--score_threshold",
        type=argument(ranges.Fraction),
        default=0.5,
        metavar="S",
        help="lowest score that is drawn and saved; predictions.json has all (default: %(default)s)",
    )
    add(
        "--save",
        nargs="+",
        choices=FORMATS,
        default=["drawn"],
        metavar="FORM",
        help=f"what is written beside predictions.json: {', '.join(FORMATS)} (default: drawn)",
    )
    add("--classes", nargs="+", default=[], metavar="NAME", help="only these classes (default: all)")


def add_views(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of tiles and test-time augmentation."""
    group = parser.add_argument_group("views of an image")
    add = group.add_argument
    add("--tile", type=whole(CANVAS_STRIDE), metavar="PX", help="cut larger images into overlapping tiles of this side")
    add(
        "--overlap",
        type=argument(Annotated[float, between(0, 0.9)]),
        default=0.2,
        metavar="F",
        help="fraction of a tile that the next one repeats (default: %(default)s)",
    )
    add("--augment", action="store_true", help="let flipped and scaled images vote too; 6 times as slow")


def _add_videos(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("videos")
    add = group.add_argument
    add("--every", type=whole(1), default=1, metavar="N", help="predict only every N-th frame (default: all)")
    add("--max_frames", type=whole(1), metavar="N", help="end each video or stream after N predicted frames")
    add("--track", action="store_true", help="give objects ids and write NAME_tracks.csv (MOT Challenge)")


def infer(options: argparse.Namespace) -> int:
    """Predicts and returns the exit status: 1 if an image could not be read, unless --skip_bad is given."""
    changes, model = settings(options), chosen_model(options)
    if not options.model:
        use_backend(options)
    from maskrcnn.inference.frames import VideoOptions
    from maskrcnn.inference.run import InferOptions, infer_folder
    from maskrcnn.inference.views import Views

    out_dir = options.out_dir or (f"{options.model_dir}/predictions" if options.model_dir else "predictions")
    unreadable = infer_folder(
        model,
        out_dir,
        paths=options.paths,
        data_dir=options.data_dir,
        settings=changes,
        options=InferOptions(
            options.score_threshold,
            tuple(options.save),
            tuple(options.classes),
            Views(options.tile, options.overlap, options.augment),
            VideoOptions(options.every, options.track, options.max_frames),
        ),
    )
    print(f"predictions.json and what was saved ({', '.join(options.save)}) are in {out_dir}")
    return int(unreadable > 0 and not options.skip_bad)
