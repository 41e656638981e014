"""Trains this Mask R-CNN on both backends and torchvision's from the same start, and compares their AP.

    python -m benchmarks.learning --peer_python PEER/bin/python --steps 1600 --seeds 0 1 2
    python -m benchmarks.learning --peer_python PEER/bin/python --contestants tensorflow tensorflow-bfloat16

Each run is a folder below --work_dir; those that are complete are not run again, so that an interruption loses one run
at most. All detections are pasted and scored by the same code. Writes results/learning.json and a plot.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from benchmarks.learning import problem
from benchmarks.result import (
    RESULTS,
    Row,
    format_table,
    make_parser,
    mean_and_deviation,
    plotting,
    run_process,
    save_result,
)

# name -> backend, precision
OURS = {
    "tensorflow": ("tensorflow", "float32"),
    "jax": ("jax", "float32"),
    "tensorflow-bfloat16": ("tensorflow", "bfloat16"),
}
COLORS = {"tensorflow": "#ff7f0e", "jax": "#1f77b4", "tensorflow-bfloat16": "#2ca02c", "torchvision": "#555555"}
DEFAULT = ("tensorflow", "jax", "torchvision")
TRAIN_IMAGES, VAL_IMAGES = 800, 200
SMOOTHING = 50  # steps, of the plotted losses


def main() -> int:
    """Runs the command line."""
    parser = make_parser(__doc__, RESULTS / "learning.json")
    parser.add_argument("--peer_python", required=True, metavar="FILE", help="has torch and torchvision")
    parser.add_argument("--contestants", nargs="+", choices=COLORS, default=DEFAULT)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--evaluate_every", type=int, default=200)
    parser.add_argument("--work_dir", type=Path, default=Path("runs/learning"))
    options = parser.parse_args()
    options.work_dir = options.work_dir.resolve()
    data = write_data(options.work_dir)
    runs = []
    for seed in options.seeds:
        for contestant in options.contestants:
            folder = run_one(contestant, seed, data, options)
            runs.append({"contestant": contestant, "seed": seed, **score(folder, options.work_dir)})
            rows = summarize(runs)
            settings = {name: getattr(options, name) for name in ("steps", "seeds", "evaluate_every")}
            title = f"AP on drawn shapes after a whole training: {', '.join(options.contestants)}"
            save_result(options.out, title, rows, settings=settings, runs=[_condensed(run) for run in runs])
            plot(runs, options.out.with_suffix(".png"))
            print(f"{contestant}, seed {seed}: {runs[-1]['final']}", file=sys.stderr, flush=True)
    print(format_table(rows))
    return 0


def write_data(work_dir: Path) -> Path:
    """Draws the images, and writes them and their objects as arrays that need NumPy alone."""
    from maskrcnn.data.shapes import write_shapes

    path = work_dir / "data.npz"
    if path.exists():
        return path
    folder = work_dir / "shapes"
    write_shapes(folder, train_images=TRAIN_IMAGES, val_images=VAL_IMAGES, image_size=problem.SIDE)
    arrays: problem.Arrays = {}
    for split in ("train", "val"):
        coco = COCO(folder / "annotations" / f"instances_{split}.json")
        shape = (len(coco.imgs), problem.MAX_OBJECTS)
        boxes, classes = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.int32)
        masks = np.zeros((*shape, problem.SIDE, problem.SIDE // 8), np.uint8)
        for image, image_id in enumerate(coco.imgs):
            for place, annotation in enumerate(coco.imgToAnns[image_id]):
                x, y, width, height = annotation["bbox"]
                boxes[image, place] = x, y, x + width, y + height
                classes[image, place] = annotation["category_id"]
                masks[image, place] = np.packbits(coco.annToMask(annotation), axis=-1)
        images = [np.asarray(Image.open(folder / split / image["file_name"])) for image in coco.imgs.values()]
        named = {"images": np.stack(images), "boxes": boxes, "classes": classes, "masks": masks}
        arrays |= {f"{split}_{name}": value for name, value in named.items()}
    np.savez(path, **arrays)
    return path


def run_one(contestant: str, seed: int, data: Path, options: argparse.Namespace) -> Path:
    """Trains in a process of its own, unless that was done; returns the run's folder."""
    folder = options.work_dir / f"{contestant}_{seed}_{options.steps}"
    if (folder / "losses.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    weights = options.work_dir / f"initial_{seed}.npz"
    named = {"weights": weights, "data": data, "out": folder, "seed": seed, "evaluate_every": options.evaluate_every}
    flags = [part for name, value in named.items() for part in (f"--{name}", str(value))]
    peer = [options.peer_python, str(Path(__file__).parent / "torchvision_side.py"), *flags, "--steps"]
    if not weights.exists():
        run_process([*peer, "0"])
    if contestant == "torchvision":
        run_process([*peer, str(options.steps)])
    else:
        backend, precision = OURS[contestant]
        ours = ["-m", "benchmarks.learning.maskrcnn_side", *flags, "--steps", str(options.steps)]
        run_process([*ours, "--precision", precision], KERAS_BACKEND=backend)
    return folder


def score(folder: Path, work_dir: Path) -> dict[str, Any]:
    """The losses of a run and the AP of each evaluation, by step."""
    record = json.loads((folder / "losses.json").read_text(encoding="utf-8"))
    steps = sorted(int(path.stem.split("_")[1]) for path in folder.glob("detections_*.npz"))
    curve = {step: _score_file(folder / f"detections_{step}.npz", work_dir / "shapes") for step in steps}
    final = curve[steps[-1]] if steps else {}
    return {**record, "AP": curve, "final": final}


def _score_file(path: Path, shapes: Path) -> dict[str, float]:
    from maskrcnn.config import Category
    from maskrcnn.evaluation.coco_metrics import CocoScorer
    from maskrcnn.imaging.mask_paste import paste_and_encode
    from maskrcnn.inference.detections import Detections

    truth, size = shapes / "annotations" / "instances_val.json", (problem.SIDE, problem.SIDE)
    content = json.loads(truth.read_text(encoding="utf-8"))
    categories = tuple(Category(c["id"], c["id"], c["name"]) for c in content["categories"])
    scorer = CocoScorer(truth)
    with np.load(path) as found:
        arrays = dict(found)
    for number, image in enumerate(content["images"]):
        own = {name: value[arrays["image"] == number] for name, value in arrays.items()}
        rles = paste_and_encode(own["masks"], own["boxes"], *size)
        scorer.add(image["id"], Detections(own["boxes"], own["classes"], own["scores"], rles, size, categories))
    metrics = scorer.metrics()
    return {"box": metrics["bbox"]["AP"], "mask": metrics["segm"]["AP"], "mask50": metrics["segm"]["AP50"]}


def summarize(runs: list[dict[str, Any]]) -> list[Row]:
    """A row for each contestant: means and standard deviations over the seeds."""
    rows = []
    for contestant in dict.fromkeys(run["contestant"] for run in runs):
        own = [run for run in runs if run["contestant"] == contestant]
        row: Row = {"contestant": contestant, "seeds": len(own)}
        for kind in ("box", "mask"):
            row |= mean_and_deviation(f"{kind} AP", [run["final"][kind] for run in own])
        rows.append(row)
    return rows


def _condensed(run: dict[str, Any]) -> dict[str, Any]:
    """A run with the means of each ``SMOOTHING`` steps' losses."""
    totals = np.array([sum(step.values()) for step in run["losses"]])
    means = totals[: len(totals) // SMOOTHING * SMOOTHING].reshape(-1, SMOOTHING).mean(1)
    return {**run, "losses": [round(float(mean), 4) for mean in means]}


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    """Draws loss and AP over the steps, a line for each run."""
    with plotting(path, f"loss, mean of {SMOOTHING} steps", "box AP", "mask AP") as axes:
        for run in runs:
            losses = np.array([sum(step.values()) for step in run["losses"]])
            window = min(SMOOTHING, len(losses))
            smooth = np.convolve(losses, np.ones(window) / window, "valid")
            style = {"color": COLORS[run["contestant"]], "alpha": 0.8, "linewidth": 1.2}
            label = run["contestant"] if run["seed"] == runs[0]["seed"] else None
            axes[0].plot(np.arange(len(smooth)) + window, smooth, label=label, **style)
            for axis, kind in zip(axes[1:], ("box", "mask"), strict=True):
                steps = [int(step) for step in run["AP"]]
                axis.plot(steps, [run["AP"][step][kind] for step in run["AP"]], marker=".", label=label, **style)
        for axis in axes:
            axis.set_xlabel("step")
        axes[0].legend()


if __name__ == "__main__":
    sys.exit(main())
