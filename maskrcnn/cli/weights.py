"""The command weights: list, import, download."""

import argparse
from typing import Any

from maskrcnn.cli.flags import settings
from maskrcnn.errors import UserError


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("weights", help="published weights: list, import, download", allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    list_parser = actions.add_parser("list", help="the published checkpoints that are known", allow_abbrev=False)
    list_parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    list_parser.set_defaults(action=list_published)

    import_parser = actions.add_parser("import", help="make a model folder of a checkpoint", allow_abbrev=False)
    import_parser.add_argument("file", metavar="FILE", help="torchvision .pth, .safetensors or Detectron2 .pkl")
    import_parser.add_argument("--model_dir", required=True, metavar="DIR", help="gets the model")
    _add_import_flags(import_parser)
    import_parser.set_defaults(action=import_file)

    download_parser = actions.add_parser("download", help="fetch a published checkpoint", allow_abbrev=False)
    download_parser.add_argument("name", metavar="NAME", help="see `maskrcnn weights list`")
    download_parser.add_argument(
        "--out_dir", default="weights", metavar="DIR", help="gets the file (default: %(default)s)"
    )
    download_parser.add_argument("--model_dir", metavar="DIR", help="also import it there")
    download_parser.add_argument("--url", metavar="URL", help="of the same file elsewhere")
    _add_import_flags(download_parser)
    download_parser.set_defaults(action=download_file)


def list_published(options: argparse.Namespace) -> None:
    from maskrcnn.weights.published import format_published

    print(format_published())


def import_file(options: argparse.Namespace) -> None:
    _import(options.file, options)


def download_file(options: argparse.Namespace) -> None:
    if options.labels and not options.model_dir:
        raise UserError("--labels is for importing; add --model_dir")
    from maskrcnn.weights.published import PUBLISHED, download

    path = download(options.name, options.out_dir, url=options.url)
    print(f"{options.name} ({PUBLISHED[options.name].license}) is {path}")
    if options.model_dir:
        _import(path, options)


def _add_import_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--labels", metavar="FILE", help="class names, one a line, or COCO annotations")
    parser.add_argument("--backend", metavar="NAME", help="tensorflow (default) or jax; also by KERAS_BACKEND")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="assignments",
        help="set any field of the config, such as norm.epsilon=0; may be repeated",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show the libraries' logs, and tracebacks")
    parser.set_defaults(amp=False, precision=None)


def _import(path: Any, options: argparse.Namespace) -> None:
    changes = settings(options)
    from maskrcnn.runtime.backend import select_backend

    select_backend(options.backend, verbose=options.verbose)
    from maskrcnn.weights.importing import import_checkpoint

    done = import_checkpoint(path, options.model_dir, labels=options.labels, settings=changes)
    model, classes = done.config.model, len(done.config.categories)
    kind = f"{classes} classes" if classes else "a backbone, for train --backbone_checkpoint"
    print(
        f"{done.title}: {done.num_tensors} tensors imported into {options.model_dir} "
        f"(ResNet-{model.backbone.depth}, batch norm epsilon {model.norm.epsilon:g}, {kind})"
    )
    if done.hint:
        print(f"note: {done.hint}")
