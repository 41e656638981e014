"""The command ``weights``: list, import, download."""

import argparse
from typing import Any

from maskrcnn.cli.flags import add_assignments, add_backend, add_verbose, settings
from maskrcnn.errors import UserError


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("weights", help="list, import and download published weights")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    list_parser = actions.add_parser("list", help="list the published weights")
    add_verbose(list_parser)
    list_parser.set_defaults(action=list_published)

    import_parser = actions.add_parser("import", help="convert a checkpoint to a model folder")
    import_parser.add_argument("file", metavar="FILE", help="torchvision .pth, .safetensors or Detectron2 .pkl")
    import_parser.add_argument("--model_dir", required=True, metavar="DIR", help="folder for the model")
    _add_import_flags(import_parser)
    import_parser.set_defaults(action=import_file)

    download_parser = actions.add_parser("download", help="download published weights ahead of use")
    download_parser.add_argument("name", metavar="NAME", help="see `maskrcnn weights list`")
    download_parser.add_argument("--out_dir", metavar="DIR", help="folder for the file (default: the user's cache)")
    download_parser.add_argument("--model_dir", metavar="DIR", help="also convert it to a model folder")
    download_parser.add_argument("--url", metavar="URL", help="another address of the same file")
    _add_import_flags(download_parser)
    download_parser.set_defaults(action=download_file)


def list_published(options: argparse.Namespace) -> None:
    """Prints the table of published weights."""
    from maskrcnn.weights.published import format_published

    print(format_published())


def import_file(options: argparse.Namespace) -> None:
    """Converts a checkpoint to a model folder."""
    _import(options.file, options)


def download_file(options: argparse.Namespace) -> None:
    """Downloads published weights, and converts them if a model folder is given."""
    if options.labels and not options.model_dir:
        raise UserError("--labels is for importing; add --model_dir")
    from maskrcnn.weights.published import PUBLISHED, download

    path = download(options.name, options.out_dir, url=options.url)
    print(f"{options.name} ({PUBLISHED[options.name].license}): {path}")
    if options.model_dir:
        _import(path, options)


def _add_import_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--labels", metavar="FILE", help="class names, one per line, or COCO annotations")
    add_backend(parser)
    add_assignments(parser, "norm.epsilon=0")
    add_verbose(parser)
    parser.set_defaults(amp=False, precision=None)


def _import(path: Any, options: argparse.Namespace) -> None:
    changes = settings(options)
    from maskrcnn.runtime.backend import select_backend

    select_backend(options.backend, verbose=options.verbose)
    from maskrcnn.weights.importing import import_checkpoint

    imported = import_checkpoint(path, options.model_dir, labels=options.labels, settings=changes)
    model, classes = imported.config.model, len(imported.config.categories)
    kind = f"{classes} classes" if classes else "a backbone, for train --backbone_checkpoint"
    print(
        f"{imported.title}: {imported.num_tensors} tensors imported into {options.model_dir} "
        f"(ResNet-{model.backbone.depth}, batch norm epsilon {model.norm.epsilon:g}, {kind})"
    )
    if imported.hint:
        print(f"note: {imported.hint}")
