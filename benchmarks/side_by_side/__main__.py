"""Measures this Mask R-CNN and torchvision's (ResNet-50-FPN) in turns on one machine.

The result is results/side_by_side_DEVICE_WHAT.json, if --out names no other file.

    python -m benchmarks.side_by_side --peer_python PEER/bin/python                  # CPU, batch 1, float32
    python -m benchmarks.side_by_side --peer_python PEER/bin/python --max_isa AVX2   # no AVX-512
    python -m benchmarks.side_by_side --device cuda --precision bfloat16 --contestants jax torchvision

Turns go A B C A B C, each in its own process, so that a disturbance of the machine affects all alike. `problem.py` says
what is equal for all. --peer_python names an interpreter that has torch and torchvision.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.result import (
    MAX_ISA,
    RESULTS,
    Row,
    format_table,
    make_parser,
    restrict_instructions,
    run_process,
    save_result,
)

TORCHVISION = Path(__file__).parent / "torchvision_side.py"
# name -> backend, compiled by XLA
OURS = {"tensorflow": ("tensorflow", False), "tensorflow-xla": ("tensorflow", True), "jax": ("jax", True)}
PEERS = {
    "torchvision": [],
    "torchvision-channels_last": ["--channels_last"],
    "torchvision-compile": ["--channels_last", "--compile"],
}
PROBLEM = ("what", "batch", "precision")  # the keys that name a problem
SHOWN = (*PROBLEM, "turn", "contestant", "seconds", "first_step_seconds", "error")  # on the screen, after each turn

Run = dict[str, Any]


def main() -> int:
    """Runs the command line."""
    options = _parse()
    restrict_instructions(options.max_isa)
    runs = run_all(options)
    print(format_table(summarize(runs)))
    return 0 if any("seconds" in run for run in runs) else 1


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--what", nargs="+", choices=("inference", "training"), default=["inference", "training"])
    parser.add_argument("--contestants", nargs="+", choices=(*OURS, *PEERS), default=[*OURS, "torchvision"])
    parser.add_argument("--peer_python", default=sys.executable, metavar="FILE", help="has torch and torchvision")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1], metavar="N")
    parser.add_argument("--precision", nargs="+", default=["float32"], help="float32, bfloat16, float16")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--max_isa", choices=MAX_ISA, help="use no CPU instructions beyond these")
    parser.add_argument("--rounds", type=int, default=2, metavar="N")
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="measured in each turn")
    parser.add_argument("--warmup_steps", type=int, default=1, metavar="N")
    parser.add_argument("--size", type=int, nargs=2, default=[832, 1344], metavar=("H", "W"))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of our config")
    parser.add_argument("--compile_cache", metavar="DIR", help="JAX: cache of compiled programs")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="S", help="start no turn after this time")
    options = parser.parse_args()
    name = "_".join([options.device, *([options.max_isa] if options.max_isa else []), *options.what])
    options.out = options.out or RESULTS / f"side_by_side_{name}.json"
    return options


def run_all(options: argparse.Namespace) -> list[Run]:
    """All turns in the order in which they ran; failed ones have an "error"."""
    began, runs = time.monotonic(), []
    problems = itertools.product(options.what, options.batch_sizes, options.precision)
    for values, turn, contestant in itertools.product(problems, range(options.rounds), options.contestants):
        problem = dict(zip(PROBLEM, values, strict=True))
        if time.monotonic() - began > options.seconds:
            print(f"out of time before {problem} by {contestant}", file=sys.stderr)
            break
        run = {**problem, "turn": turn, "contestant": contestant, **run_one(contestant, problem, options)}
        runs.append(run)
        _save(options, runs)  # after each turn, so that an interruption loses nothing
        print({name: run[name] for name in run if name in SHOWN}, file=sys.stderr, flush=True)
    return runs


def run_one(contestant: str, problem: dict[str, Any], options: argparse.Namespace) -> Run:
    """One turn of one contestant, in its own process."""
    arguments = [problem["what"], "--batch_size", problem["batch"], "--precision", problem["precision"]]
    arguments += ["--steps", options.steps, "--warmup_steps", options.warmup_steps, "--size", *options.size]
    variables = {"CUDA_VISIBLE_DEVICES": "-1"} if options.device == "cpu" else {}
    if contestant in PEERS:
        command = [options.peer_python, TORCHVISION, *arguments, "--device", options.device, *PEERS[contestant]]
    else:
        variables["KERAS_BACKEND"], xla = OURS[contestant]
        command = ["-m", "benchmarks.side_by_side.maskrcnn_side", *arguments, *["--xla"] * xla]
        command += [part for setting in options.set for part in ("--set", setting)]
        command += ["--compile_cache", options.compile_cache] if options.compile_cache else []
    try:
        return run_process([str(part) for part in command], capture_errors=True, **variables)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [str(error)]
        return {"error": next((line for line in reversed(lines) if "Error" in line or "RESOURCE" in line), lines[-1])}


def _save(options: argparse.Namespace, runs: list[Run]) -> None:
    device = next((run["device"] for run in runs if "device" in run), options.device)
    limit = f", at most {options.max_isa}" if options.max_isa else ""
    title = f"Beside torchvision, on {device}{limit}: {' and '.join(options.what)}"
    names = ("size", "steps", "warmup_steps", "rounds", "max_isa", "set")
    settings = {name: getattr(options, name) for name in names}
    save_result(options.out, title, summarize(runs), settings=settings, runs=runs)


def summarize(runs: list[Run]) -> list[Row]:
    """A row for each problem and contestant, over all its turns.

    Step times are medians; "times torchvision" compares with the fastest peer on the same problem. Processor seconds
    (of all cores) are those of the turn with the fewest: they hold even where other programs took part of a CPU.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run[key] for key in (*PROBLEM, "contestant")), []).append(run)
    medians = {
        key: statistics.median(second for turn in turns for second in turn.get("seconds", ()))
        for key, turns in groups.items()
        if any("seconds" in turn for turn in turns)
    }
    rows = []
    for key, turns in groups.items():
        row = dict(zip((*PROBLEM, "contestant"), key, strict=True))
        if key not in medians:
            rows.append({**row, "error": turns[0]["error"][:80]})
            continue
        done, seconds = [turn for turn in turns if "seconds" in turn], medians[key]
        peers = [medians[other] for other in medians if other[:-1] == key[:-1] and other[-1] in PEERS]
        row |= {"images/s": row["batch"] / seconds, "s/step": seconds}
        row |= {"times torchvision": min(peers) / seconds if peers else None}
        row |= {"processor s/step": min(turn["processor_seconds"] / len(turn["seconds"]) for turn in done)}
        row |= {"first step, s": min(turn["first_step_seconds"] for turn in done)}
        for column, name in (("peak host, GB", "host_bytes"), ("peak device, GB", "device_bytes")):
            row[column] = max((turn[name] / 1e9 for turn in done if turn[name]), default=None)
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
