"""Exported files beside the live models and torchvision's, turn by turn; writes a JSON file.

    python -m benchmarks.export                             # ResNet-50-FPN with generated weights
    python -m benchmarks.export --calibrate photos          # and in 8-bit integers
    python -m benchmarks.export --peer_python PEER/bin/python    # and torchvision, in its own Python
    python -m benchmarks.export --trained runs/demo         # a model folder with the files that it was exported to

Turns go A B C A B C, each in a process of its own that is started anew and bound to ``--threads`` cores. A turn's
processor time is that of all its threads and hardly changes with what else runs on the machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import Row, format_table, save_result
from benchmarks.side_by_side.problem import make_images
from maskrcnn.runtime.hardware import peak_resident

RESULTS = Path(__file__).parent / "results" / "export.json"
PEER = "torchvision"
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[416, 672], metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="measured in each turn")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--trained", type=Path, metavar="DIR", help="a model folder with exported files")
    parser.add_argument("--calibrate", type=Path, metavar="DIR", help="images for 8-bit integers, without --trained")
    parser.add_argument("--peer_python", metavar="FILE", help="has torch and torchvision")
    parser.add_argument("--contestants", nargs="+", choices=(*CONTESTANTS, PEER), default=[*CONTESTANTS, PEER])
    parser.add_argument("--turn", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--model_dir", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(run_turn(options)))
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # of the turns' processes, too
    with tempfile.TemporaryDirectory() as folder:
        model_dir = options.trained or Path(folder)
        if not options.trained:
            prepare(model_dir, options.size, options.calibrate)
        present = [name for name in options.contestants if name != PEER and (model_dir / CONTESTANTS[name]).exists()]
        present += [PEER] if options.peer_python and PEER in options.contestants else []
        load = os.getloadavg()
        turns = [
            {"contestant": name, **start_turn(name, model_dir, options)}
            for _ in range(options.rounds)
            for name in present
        ]
    rows = summarize(turns)
    print(format_table(rows))
    title = f"Exported files, {options.threads} threads, batch 1"
    save_result(options.out, title, rows, size=options.size, load_average=[load, os.getloadavg()], turns=turns)


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
    flags = ["--turn", name, "--model_dir", str(folder), "--threads", str(options.threads)]
    command = [sys.executable, "-m", "benchmarks.export", *flags, *common]
    environment = {**os.environ, "KERAS_BACKEND": "jax" if name == "jax" else "tensorflow"}
    if name == PEER:
        script = Path(__file__).parent / "side_by_side" / "torchvision_side.py"
        command = [options.peer_python, str(script), "inference", *common]
        environment.pop("PYTHONPATH", None)  # packages of another Python
    began = time.perf_counter()
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    turn = json.loads(process.stdout.splitlines()[-1])
    if name == PEER:
        turn["cpu_seconds"] = [turn["processor_seconds"] / options.steps] * options.steps
        turn["peak_gib"] = turn["host_bytes"] / 2**30
    print(f"{name}: {turn} ({time.perf_counter() - began:.0f} s)", file=sys.stderr)
    return turn


def run_turn(options: argparse.Namespace) -> dict[str, Any]:
    """Loads the contestant's file and runs one image again and again."""
    batch = {"images": make_images(1, *options.size), "image_sizes": np.array([options.size], np.float32)}
    began = time.perf_counter()
    path = options.model_dir / CONTESTANTS[options.turn]
    if options.turn in ("tensorflow", "jax"):
        from maskrcnn.inference.sources import load

        model = load(path).model
    else:
        from maskrcnn.inference.exported import load_exported

        model = load_exported(path, threads=options.threads).model
    loaded = time.perf_counter()
    outputs = model.predict_on_batch(batch)
    first = time.perf_counter()
    seconds, processor = [], []
    for _ in range(options.steps):
        start, start_cpu = time.perf_counter(), time.process_time()
        model.predict_on_batch(batch)
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_cpu)
    return {
        "detections": int(np.asarray(outputs["valid"]).sum()),
        "load_seconds": loaded - began,
        "first_image_seconds": first - loaded,
        "seconds": seconds,
        "cpu_seconds": processor,
        "peak_gib": (peak_resident() or 0) / 2**30,  # getrusage would count the process that started this one
    }


def summarize(turns: list[dict[str, Any]]) -> list[Row]:
    """Medians over all turns of each contestant."""
    rows = []
    for name in dict.fromkeys(turn["contestant"] for turn in turns):
        own = [turn for turn in turns if turn["contestant"] == name]
        rows.append(
            {
                "runtime": name,
                "s per image": statistics.median(value for turn in own for value in turn["seconds"]),
                "processor s per image": statistics.median(value for turn in own for value in turn["cpu_seconds"]),
                "s to load": statistics.median(turn["load_seconds"] for turn in own) if name != PEER else None,
                "peak GiB": statistics.median(turn["peak_gib"] for turn in own),
                "detections": statistics.median(turn["detections"] for turn in own),
            }
        )
    return rows


if __name__ == "__main__":
    main()
