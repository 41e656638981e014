"""The program ``maskrcnn``: its commands, its exit status, and errors in one line."""

import argparse
import contextlib
import gc
import io
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from maskrcnn import __version__
from maskrcnn.cli import batch, benchmark, compare, data, demo, doctor, evaluate, export, hub, infer, train, weights
from maskrcnn.cli.flags import argument
from maskrcnn.config.ranges import FilePath
from maskrcnn.errors import UserError, describe_missing, one_line

OUT_OF_MEMORY = (
    "out of memory; use a smaller --train_batch_size or --eval_batch_size (and --accumulate), --precision bfloat16, or "
    "smaller images (--set image.min_side=... --set image.max_side=...)"
)


class Parser(argparse.ArgumentParser):
    """A parser that reports wrong usage in one line, like any other mistake, and checks all text."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, allow_abbrev=False, **options)
        self.register("type", None, argument(FilePath))

    def add_subparsers(self, **options: Any) -> Any:
        """Adds commands; their arguments are checked one by one, by the command's own parser."""
        commands: Any = super().add_subparsers(**options)
        commands.type = str
        return commands

    def error(self, message: str) -> NoReturn:
        """Raises the message as a `UserError`; called by argparse."""
        raise UserError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """Builds the parser of all commands."""
    parser = Parser(
        prog="maskrcnn",
        description="Mask R-CNN for Keras 3: instance segmentation on TensorFlow or JAX.",
        epilog="`maskrcnn COMMAND --help` lists the flags of a command.",
    )
    parser.add_argument("--version", action="version", version=f"maskrcnn {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for module in (demo, train, evaluate, compare, infer, batch, export, data, weights, hub, benchmark, doctor):
        module.add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    Returns:
        0 for success; 1 for an internal error, or if part of the input could not be processed; 2 for an error that the
        user can fix; 130 for Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    verbose = "--verbose" in arguments or "-v" in arguments
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what the terminal's encoding does not
        sys.stdout.reconfigure(errors="backslashreplace")
    # Keras imports matplotlib, which fails for the backend of a notebook that this environment does not have.
    os.environ["MPLBACKEND"] = "agg"
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("maskrcnn").setLevel(logging.DEBUG if verbose else logging.INFO)
    with warnings.catch_warnings():
        if not verbose and not sys.warnoptions:
            warnings.simplefilter("ignore")  # libraries warn about things that the user cannot change
        try:
            options = make_parser().parse_args(arguments)
            return options.action(options) or 0
        except KeyboardInterrupt as interrupt:
            print("interrupted", file=sys.stderr)
            release(interrupt)
            return 130
        except BrokenPipeError:  # the reader of the output is gone, e.g. `| head`
            sys.stderr.close()
            return 1
        except Exception as error:
            return report(error, verbose=verbose)


def report(error: Exception, *, verbose: bool) -> int:
    """Prints an error and returns the exit status."""
    line = describe(error)
    if verbose or line is None:
        traceback.print_exc()
    release(error)
    if line is None:
        return 1
    with contextlib.suppress(OSError):  # a full disk, on which the output lies too
        print(f"error: {line}", file=sys.stderr)
    return 2


def release(error: BaseException | None) -> None:
    """Clears an error's frames: on JAX the interpreter crashes if the loader's threads in them outlive it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
    gc.collect()


def describe(error: BaseException) -> str | None:
    """Describes an error that the user can fix in one line; None for a bug in the program."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return one_line(f"{place}{error.strerror}")
    if isinstance(error, ImportError):
        return describe_missing(error)
    text = str(error)
    if raised_in_loader := re.search(r"UserError: (.+)", text):  # tf.data passes on Python's errors as text
        return one_line(raised_in_loader[1])
    if type(error).__name__ == "ResourceExhaustedError" or "RESOURCE_EXHAUSTED" in text:
        return OUT_OF_MEMORY
    if isinstance(error, MemoryError):
        return one_line(f"out of memory on the host ({text or 'no details'}); close other programs, or use less data")
    return None
