"""Exported files beside the live models and torchvision's, turn by turn; writes a JSON file.

    python -m benchmarks.export                             # ResNet-50-FPN with generated weights
    python -m benchmarks.export --calibrate photos          # and in 8-bit integers
    python -m benchmarks.export --peer_python PEER/bin/python    # and torchvision, in its own Python
    python -m benchmarks.export --trained runs/demo         # a model folder with the files that it was exported to
    python -m benchmarks.export --max_isa AVX2              # no AVX-512; ONNX Runtime cannot be restricted

Turns go A B C A B C, each in a process of its own that is started anew and bound to ``--threads`` cores. A turn's
processor time is that of all its threads and hardly changes with what else runs on the machine.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import MAX_ISA, RESULTS, Row, make_parser, report, restrict_instructions, run_process
from benchmarks.side_by_side import problem
from maskrcnn.runtime.hardware import peak_resident

PEER = "torchvision"
SCRIPT = Path(__file__).parent / "side_by_side" / "torchvision_side.py"
CONTESTANTS = {
    "tensorflow": "",
    "jax": "",
    "onnxruntime": "export/model.onnx",
    "onnxruntime int8": "export/model.int8.onnx",
    "openvino": "export/model.xml",
    "openvino int8": "export/model.int8.xml",
    "openvino half": "export/model.half.xml",
    "litert": "export/model.tflite",
    "saved_model": "export/saved_model",
}


def main() -> None:
    """Runs all turns, or the one that ``--turn`` names."""
    parser = make_parser(__doc__, RESULTS / "export.json")
    parser.add_argument("--size", type=int, nargs=2, default=[416, 672], metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="measured in each turn")
    parser.add_argument("--trained", type=Path, metavar="DIR", help="a model folder with exported files")
    parser.add_argument("--calibrate", type=Path, metavar="DIR", help="images for 8-bit integers, without --trained")
    parser.add_argument("--peer_python", metavar="FILE", help="has torch and torchvision")
    parser.add_argument("--contestants", nargs="+", choices=(*CONTESTANTS, PEER), default=[*CONTESTANTS, PEER])
    parser.add_argument("--max_isa", choices=MAX_ISA, help="use no CPU instructions beyond these")
    parser.add_argument("--turn", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(run_turn(options)))
        return
    restrict_instructions(options.max_isa)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # of the turns' processes, too
    with tempfile.TemporaryDirectory() as folder:
        model_dir = options.trained or Path(folder)
        if not options.trained:
            prepare(model_dir, options.size, options.calibrate)
        present = [name for name in options.contestants if name != PEER and (model_dir / CONTESTANTS[name]).exists()]
        present += [PEER] if options.peer_python and PEER in options.contestants else []
        load, turns = os.getloadavg(), []
        for _, name in itertools.product(range(options.rounds), present):
            turns.append({"contestant": name, **start_turn(name, model_dir, options)})
            print(turns[-1], file=sys.stderr)
    limit = f", at most {options.max_isa}" if options.max_isa else ""
    title = f"Exported files, {options.threads} threads, batch 1{limit}"
    details = {"size": options.size, "load_average": [load, os.getloadavg()], "turns": turns}
    report(options.out, title, summarize(turns), **details)


def prepare(folder: Path, size: list[int], images: Path | None) -> None:
    """A model folder with exported files; those in float32 are checked on the way.

    Generated weights have scores near the threshold, of which reduced precision keeps too few to pass that check.
    """
    from maskrcnn.export.options import ExportOptions
    from maskrcnn.export.run import export_model
    from maskrcnn.weights.model_folder import load_model, save_model
    from tests.parity.goldens import build_model, golden_config, make_state

    config = golden_config("v1").override({"image.min_side": min(size), "image.max_side": max(size)})
    save_model(build_model(config, make_state("v1")), config, folder)
    for format in ("onnx", "openvino", "litert"):
        for row in export_model(folder, options=ExportOptions(format, size=tuple(size))).differences:
            print(format, row, file=sys.stderr)
    reduced = [ExportOptions("openvino", half=True, size=tuple(size))]
    # OpenVINO's file is made of an ONNX file that it removes, and so comes first.
    reduced += [ExportOptions(name, int8=images, size=tuple(size)) for name in ("openvino", "onnx") if images]
    for options in reduced:
        options.kind.write(*load_model(folder), folder / "export" / options.file, options)


def start_turn(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A turn in a process of its own."""
    common = ["--steps", str(options.steps), "--size", *map(str, options.size)]
    if name == PEER:
        return run_process([options.peer_python, str(SCRIPT), "inference", *common])
    flags = ["--turn", name, "--trained", str(folder), "--threads", str(options.threads)]
    backend = "jax" if name == "jax" else "tensorflow"
    return run_process(["-m", "benchmarks.export", *flags, *common], KERAS_BACKEND=backend)


def run_turn(options: argparse.Namespace) -> dict[str, Any]:
    """Loads the contestant's file and runs one image again and again."""
    batch = {"images": problem.make_images(1, *options.size), "image_sizes": np.array([options.size], np.float32)}
    began = time.perf_counter()
    path = options.trained / CONTESTANTS[options.turn]
    if options.turn in ("tensorflow", "jax"):
        from maskrcnn.inference.sources import load

        model = load(path).model
    else:
        from maskrcnn.inference.exported import load_exported

        model = load_exported(path, threads=options.threads).model
    loaded, peak = time.perf_counter() - began, peak_resident() or 0
    outputs: dict[str, Any] = {}
    times = problem.time_steps(
        lambda: outputs.update(model.predict_on_batch(batch)), steps=options.steps, warmup_steps=1
    )
    detections = int(np.asarray(outputs["valid"]).sum())
    # `time_steps` restarts the peak after the warm-up, and getrusage would count the process that started this one.
    return {**times, "detections": detections, "load_seconds": loaded, "host_bytes": max(peak, peak_resident() or 0)}


def summarize(turns: list[dict[str, Any]]) -> list[Row]:
    """Medians over all turns of each contestant."""
    rows = []
    for name in dict.fromkeys(turn["contestant"] for turn in turns):
        own = [turn for turn in turns if turn["contestant"] == name]
        rows.append(
            {
                "runtime": name,
                "s per image": statistics.median(value for turn in own for value in turn["seconds"]),
                "processor s per image": statistics.median(
                    turn["processor_seconds"] / len(turn["seconds"]) for turn in own
                ),
                "s to load": statistics.median(turn["load_seconds"] for turn in own) if name != PEER else None,
                "peak GiB": statistics.median(turn["host_bytes"] / 2**30 for turn in own),
                "detections": statistics.median(turn["detections"] for turn in own),
            }
        )
    return rows


if __name__ == "__main__":
    main()
