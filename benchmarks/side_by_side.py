"""Ours and torchvision's Mask R-CNN (ResNet-50-FPN), turn by turn in one run; writes a JSON file.

    python -m benchmarks.side_by_side --peer_python PEER/bin/python                  # CPU, batch 1, float32
    python -m benchmarks.side_by_side --device cuda --precision bfloat16 --contestants jax torchvision

Turns go A B C A B C, each in a process of its own, so that a machine that slows down harms all alike. What is equal for
all is said in `peers/problem.py`; what each one's step holds, in `peers/torchvision_speed.py` and `contestant.py`.
torch and torchvision need not be in our environment: --peer_python names the interpreter that has them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from maskrcnn.runtime.hardware import describe_machine

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PEER = "torchvision"
# name -> backend, compiled by XLA
OURS = {"tensorflow": ("tensorflow", False), "tensorflow-xla": ("tensorflow", True), "jax": ("jax", True)}
PEERS = {PEER: [], f"{PEER}-channels_last": ["--channels_last"], f"{PEER}-compile": ["--channels_last", "--compile"]}

Run = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=("inference", "training"), default=["inference", "training"])
    parser.add_argument("--contestants", nargs="+", choices=(*OURS, *PEERS), default=[*OURS, PEER])
    parser.add_argument("--peer_python", default=sys.executable, metavar="FILE", help="has torch and torchvision")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1], metavar="N")
    parser.add_argument("--precision", nargs="+", default=["float32"], help="float32, bfloat16, float16")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=2, metavar="N")
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="measured in each turn")
    parser.add_argument("--warmup_steps", type=int, default=1, metavar="N")
    parser.add_argument("--size", type=int, nargs=2, default=[832, 1344], metavar=("H", "W"))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of ours alone: to try things")
    parser.add_argument("--compile_cache", metavar="DIR", help="JAX: of compiled programs, for the second round")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="S", help="begin no turn after so long")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: results/side_by_side_DEVICE_WHAT.json")
    options = parser.parse_args()
    options.out = options.out or RESULTS / f"side_by_side_{options.device}_{'_'.join(options.what)}.json"
    runs = run_all(options)
    print(format_table(runs))
    return 0 if any("seconds" in run for run in runs) else 1


def run_all(options: argparse.Namespace) -> list[Run]:
    """All turns, in the order in which they were run; those that failed have an "error"."""
    began, runs = time.monotonic(), []
    problems = [
        {"what": what, "batch_size": size, "precision": precision}
        for what in options.what
        for size in options.batch_sizes
        for precision in options.precision
    ]
    for problem in problems:
        for turn in range(options.rounds):
            for contestant in options.contestants:
                if time.monotonic() - began > options.seconds:
                    print(f"out of time before {problem} by {contestant}", file=sys.stderr)
                    return runs
                run = {**problem, "turn": turn, "contestant": contestant, **run_one(contestant, problem, options)}
                runs.append(run)
                save(options.out, options, runs)  # after each turn: what was measured stays if the rest is cut off
                print(_describe(run), file=sys.stderr, flush=True)
    return runs


def run_one(contestant: str, problem: dict[str, Any], options: argparse.Namespace) -> Run:
    """One turn of one contestant, in a process of its own."""
    flags = [problem["what"], "--batch_size", str(problem["batch_size"]), "--precision", problem["precision"]]
    flags += [
        "--steps",
        str(options.steps),
        "--warmup_steps",
        str(options.warmup_steps),
        "--size",
        *map(str, options.size),
    ]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if contestant in PEERS:
        script = Path(__file__).parent / "peers" / "torchvision_speed.py"
        command = [options.peer_python, str(script), *flags, "--device", options.device, *PEERS[contestant]]
        if options.peer_python != sys.executable:
            environment.pop("PYTHONPATH", None)  # packages of another Python
    else:
        backend, xla = OURS[contestant]
        command = [sys.executable, "-m", "benchmarks.contestant", *flags, *["--xla"] * xla]
        command += [part for setting in options.set for part in ("--set", setting)]
        command += ["--compile_cache", options.compile_cache] if options.compile_cache else []
        environment["KERAS_BACKEND"] = backend
        if options.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = "-1"
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"status {result.returncode}"]
        return {"error": next((line for line in reversed(lines) if "Error" in line or "RESOURCE" in line), lines[-1])}
    return json.loads(result.stdout.splitlines()[-1])


def save(path: Path, options: argparse.Namespace, runs: list[Run]) -> None:
    machine = describe_machine()
    for run in runs:
        machine["versions"] |= run.get("versions", {})
    device = next((run["device"] for run in runs if "device" in run), options.device)
    record = {
        "machine": machine,
        "device": device,
        "size": options.size,
        "steps": options.steps,
        "warmup_steps": options.warmup_steps,
        "settings_of_ours": options.set,
        "runs": [{key: value for key, value in run.items() if key not in ("versions", "device")} for run in runs],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def summarize(runs: list[Run]) -> list[dict[str, Any]]:
    """A row for each problem and contestant: medians over all turns, and how many times as fast as the best peer.

    Seconds of the processor, all cores together, are those of the turn with the fewest: on a CPU they tell what a
    disturbed machine hides.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        key = (run["what"], run["batch_size"], run["precision"], run["contestant"])
        groups.setdefault(key, []).append(run)
    rows = []
    for (what, size, precision, contestant), turns in groups.items():
        row = {"what": what, "batch_size": size, "precision": precision, "contestant": contestant}
        done = [turn for turn in turns if "seconds" in turn]
        if done:
            row["seconds"] = statistics.median(second for turn in done for second in turn["seconds"])
            row["images_per_second"] = size / row["seconds"]
            row["processor_seconds"] = min(turn["processor_seconds"] / len(turn["seconds"]) for turn in done)
            row["first_step_seconds"] = min(turn["first_step_seconds"] for turn in done)
            for where in ("host_bytes", "device_bytes"):
                row[where] = max((turn[where] for turn in done if turn[where]), default=None)
        else:
            row["error"] = turns[0]["error"]
        rows.append(row)
    for row in rows:
        peers = [
            other["seconds"]
            for other in rows
            if other["contestant"] in PEERS
            and "seconds" in other
            and all(other[key] == row[key] for key in ("what", "batch_size", "precision"))
        ]
        row["times_peer"] = min(peers) / row["seconds"] if peers and "seconds" in row else None
    return rows


def format_table(runs: list[Run]) -> str:
    """Markdown."""
    lines = [
        "| what | batch | precision | contestant | images/s | s a step | times torchvision | processor s "
        "| first step, s | peak host, GB | peak device, GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in summarize(runs):
        start = f"| {row['what']} | {row['batch_size']} | {row['precision']} | {row['contestant']} |"
        if "seconds" not in row:
            lines.append(f"{start} {row['error'][:80]} | | | | | | |")
            continue
        ratio = "" if row["times_peer"] is None else f"{row['times_peer']:.2f}"
        host, device = (f"{row[key] / 1e9:.2f}" if row[key] else "" for key in ("host_bytes", "device_bytes"))
        lines.append(
            f"{start} {row['images_per_second']:.3g} | {row['seconds']:.3g} | {ratio} "
            f"| {row['processor_seconds']:.2f} | {row['first_step_seconds']:.1f} | {host} | {device} |"
        )
    return "\n".join(lines)


def _describe(run: Run) -> str:
    name = f"{run['what']} {run['batch_size']} {run['precision']} turn {run['turn']} {run['contestant']}"
    if "error" in run:
        return f"{name}: {run['error']}"
    return f"{name}: {statistics.median(run['seconds']):.3f} s a step, first {run['first_step_seconds']:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
