"""The program ``maskrcnn``: its commands, its exit status, and errors as one line."""

import argparse
import gc
import logging
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from maskrcnn import __version__
from maskrcnn.cli import benchmark, data, run, weights
from maskrcnn.errors import UserError

OUT_OF_MEMORY = (
    "out of memory; use a smaller --train_batch_size or --eval_batch_size (and --accumulate), --precision bfloat16, or "
    "smaller images (--set image.min_side=... --set image.max_side=...)"
)


class Parser(argparse.ArgumentParser):
    """Reports wrong usage as one line, like any other mistake."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="maskrcnn", description="Mask R-CNN for Keras 3, on TensorFlow or JAX.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"maskrcnn {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    run.add_commands(commands)
    data.add_commands(commands)
    weights.add_commands(commands)
    benchmark.add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0; 2 for what the user can mend; 130 for Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    verbose = "--verbose" in arguments or "-v" in arguments
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("maskrcnn").setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        options = make_parser().parse_args(arguments)
        options.action(options)
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        release(interrupt)
        return 130
    except BrokenPipeError:  # the reader of our output went away, `| head` for example
        sys.stderr.close()
        return 1
    except Exception as error:
        line = describe(error)
        if verbose or line is None:
            traceback.print_exc()
        release(error)
        if line is None:
            return 1
        print(f"error: {line}", file=sys.stderr)
        return 2
    return 0


def release(error: BaseException | None) -> None:
    """Lets go of what an error's frames hold: the interpreter crashes if the loader's threads outlive it (on JAX)."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
    gc.collect()


def describe(error: BaseException) -> str | None:
    """What the user can do about an error, in one line; None if it is a fault of the program."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}"
    text = str(error)
    if raised_in_loader := re.search(r"UserError: (.+)", text):  # tf.data passes Python's errors on as text
        return raised_in_loader[1]
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "ResourceExhaustedError"
        or "RESOURCE_EXHAUSTED" in text
    ):
        return OUT_OF_MEMORY
    return None
