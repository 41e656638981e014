"""The commands ``push`` and ``pull``."""

import argparse
from pathlib import Path
from typing import Any

from maskrcnn.cli.flags import add_verbose


def add_commands(commands: Any) -> None:
    """Adds the commands to the parser."""
    parser = commands.add_parser("push", help="upload a model to the Hugging Face Hub")
    parser.add_argument("model_dir", metavar="MODEL_DIR", help="a model that was trained or imported here")
    parser.add_argument("repository", metavar="OWNER/NAME", help="repository to upload to; created if missing")
    parser.add_argument("--private", action="store_true", help="create it as a private repository")
    parser.add_argument("--license", metavar="ID", help="license of the model, e.g. apache-2.0")
    parser.add_argument("--data", metavar="TEXT", help="for the card: what it was trained on")
    parser.add_argument("--use", metavar="TEXT", help="for the card: what it is meant for")
    parser.add_argument("--picture", metavar="FILE", help="for the card: a PNG; it becomes public with the model")
    add_verbose(parser)
    parser.set_defaults(action=push_model)

    parser = commands.add_parser("pull", help="download a model from the Hugging Face Hub")
    parser.add_argument("repository", metavar="OWNER/NAME", help="repository that `maskrcnn push` created")
    parser.add_argument("model_dir", metavar="DIR", help="folder for the model")
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit (default: main)")
    add_verbose(parser)
    parser.set_defaults(action=pull_model)


def push_model(options: argparse.Namespace) -> None:
    """Uploads a model and prints the page's address."""
    _quiet(options)
    from maskrcnn.weights.hub import push
    from maskrcnn.weights.model_card import CardText

    picture = Path(options.picture) if options.picture else None
    text = CardText(options.license, options.data, options.use, picture)
    print(f"see {push(options.model_dir, options.repository, text, private=options.private)}")


def pull_model(options: argparse.Namespace) -> None:
    """Downloads a model."""
    _quiet(options)
    from maskrcnn.weights.hub import pull

    print(f"the model is in {pull(options.repository, options.model_dir, revision=options.revision)}")


def _quiet(options: argparse.Namespace) -> None:
    from maskrcnn.runtime.backend import select_backend

    select_backend(None, gpus=0, verbose=options.verbose)  # the room of weights imports Keras
