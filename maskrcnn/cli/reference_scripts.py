"""Translates the flags of ``scripts/*.py``, which are those of the reference's scripts, to flags of a command."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from maskrcnn.cli.entry_point import main as run_command
from maskrcnn.cli.flags import whole

BATCH_SIZES = {
    "train": ("--train_batch_size", 4),
    "eval": ("--eval_batch_size", 8),
    "infer": ("--eval_batch_size", 8),
    "benchmark training": ("--batch_size", 4),
    "benchmark inference": ("--batch_size", 8),
}


def main(command: str, arguments: Sequence[str] | None = None) -> int:
    """Runs ``command`` and returns its exit status."""
    return run_command(translate(command, sys.argv[1:] if arguments is None else arguments))


def translate(command: str, arguments: Sequence[str]) -> list[str]:
    """Prints and returns the arguments of ``maskrcnn``."""
    batch_flag, batch_size = BATCH_SIZES[command]
    parser = argparse.ArgumentParser(
        description=f"Runs `maskrcnn {command}` with XLA; also takes all of its flags.", allow_abbrev=False
    )
    parser.add_argument("--batch_size", type=whole(1), metavar="N", default=batch_size, help="default: %(default)s")
    parser.add_argument("--no_xla", action="store_true", help="do not compile with XLA")
    if command == "train":
        parser.add_argument("--weights_dir", metavar="DIR", help="folder of the backbone's weights")
    options, rest = parser.parse_known_args(arguments)
    translated = [*command.split(), batch_flag, str(options.batch_size)]
    if not options.no_xla:
        translated.append("--xla")
    elif command.startswith("benchmark"):
        translated.append("--no_xla")  # unlike the other commands, it uses XLA by default
    if command == "train" and options.weights_dir:
        translated += ["--backbone_checkpoint", options.weights_dir]
    if command == "train" and not {"--preset", "--config"} & set(rest):
        translated += ["--preset", "reference"]
    translated += rest
    print(shlex.join(["maskrcnn", *translated]), flush=True)
    return translated
