"""Kills a training run with SIGKILL again and again; what it leaves in the end must equal an uninterrupted run.

    python benchmarks/kill.py --backend tensorflow --kills 20

A small whole Mask R-CNN trains on drawn shapes, through the command line: averaged weights, accumulated gradients,
evaluations between epochs, checkpoints every other step. Most kills come at random moments of its life (imports,
conversion, compilation, steps, evaluations, the last save); some as soon as a half-written file is seen. The same
command is given again until it ends; then weights and the last checkpoint are compared bit for bit, the steps and
evaluations of the log too, and the folder is searched for temporary files. Writes benchmarks/results/kill_BACKEND.json.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from maskrcnn.config import Config
from maskrcnn.data.shapes import write_shapes
from maskrcnn.logs.history import read_history
from maskrcnn.runtime.hardware import describe_machine

RESULTS = Path(__file__).parent / "results"
SETTINGS = {
    "image.min_side": 64,
    "image.max_side": 64,
    "backbone.width": 8,
    "fpn.channels": 8,
    "rpn.train_candidates": 20,
    "rpn.train_proposals": 16,
    "rpn.test_candidates": 20,
    "rpn.test_proposals": 16,
    "box_head.channels": 16,
    "box_head.samples": 8,
    "box_head.test_candidates": 20,
    "box_head.detections": 5,
    "mask_head.channels": 8,
    "mask_head.convolutions": 1,
    "data.max_instances": 8,
    "train.eval_batch_size": 2,
    "train.batch_size": 2,
    "train.epochs": 3,
    "train.steps_per_epoch": 25,
    "train.seed": 1,
    "train.ema": 0.9,
    "train.accumulate": 2,
    "train.evaluate_every": 1,
    "train.checkpoint_every": 2,
}
TEMPORARY = "[.][0-9]*[.]*"
HALF_WRITTEN = ("data/tfrecords", "model/checkpoints", "model", "model/best")  # where temporary files may be seen
KEPT = ("step", "epoch", "learning_rate")  # of the log's entries, beside the metrics


class Case:
    """A folder with data and a run in it."""

    def __init__(self, folder: Path, backend: str, compiled: Path):
        self.folder, self.backend, self.compiled = folder, backend, compiled
        write_shapes(folder / "data", train_images=10, val_images=3, image_size=64, seed=1, progress=False)
        (folder / "config.json").write_text(Config.tiny().override(SETTINGS).to_json())

    def start(self) -> subprocess.Popen:
        model, board = self.folder / "model", self.folder / "board"
        command = [sys.executable, "-m", "maskrcnn", "train", "--config", str(self.folder / "config.json")]
        command += ["--data_dir", str(self.folder / "data"), "--model_dir", str(model), "--backend", self.backend]
        command += ["--log_every", "3", "--log_tensorboard", str(board)]
        variables = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(self.compiled)}
        variables |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
        with (self.folder / "output.txt").open("a") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env=variables)

    def finish(self) -> None:
        process = self.start()
        if process.wait():
            raise SystemExit((self.folder / "output.txt").read_text()[-2000:])

    def temporaries(self) -> list[str]:
        """Files that are being written, or were when they were killed."""
        found = [path for place in HALF_WRITTEN for path in (self.folder / place).glob(TEMPORARY)]
        return [str(path.relative_to(self.folder)) for path in found]

    def last_step(self) -> int:
        steps = [int(path.stem.split("-")[1]) for path in (self.folder / "model" / "checkpoints").glob("step-*.npz")]
        return max(steps, default=0)


def kill(case: Case, *, after: float | None) -> dict[str, Any] | None:
    """Starts the run and kills it after some seconds, or when a half-written file is seen; None if it ended first."""
    process, began = case.start(), time.perf_counter()
    before = set(case.temporaries())
    while process.poll() is None:
        seconds = time.perf_counter() - began
        seen = [] if after is not None else sorted(set(case.temporaries()) - before)
        if seen and random.random() < 0.5:
            seen = []  # let this one pass, so that it is not always the first kind of file
            before = set(case.temporaries())
        if seen or (after is not None and seconds >= after):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            left = case.temporaries()
            return {"seconds": round(seconds, 2), "seen": seen, "left": left, "last_checkpoint": case.last_step()}
        time.sleep(0.001)
    if process.returncode:
        raise SystemExit((case.folder / "output.txt").read_text()[-2000:])
    return None


def weights(path: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def history(folder: Path) -> list[Any]:
    """The steps and evaluations in the log; losses are means since the last entry, or since the run was resumed."""
    entries = read_history(folder / "model" / "mrcnn-dlll.json")
    return [{name: value for name, value in entry.items() if name in KEPT or "_A" in name} for entry in entries]


def same_arrays(one: Any, other: Any) -> bool:
    names = list(one)
    return names == list(other) and all(one[name].tobytes() == other[name].tobytes() for name in names)


def compare(whole: Case, killed: Case) -> dict[str, bool]:
    """What of the two runs is equal; all of it must be."""
    last = f"model/checkpoints/step-{whole.last_step():08d}.npz"
    models = ("model/model.weights.h5", "model/best/model.weights.h5")
    with np.load(whole.folder / last) as one, np.load(killed.folder / last) as other:
        arrays = [name for name in one.files if name != "state"]
        checkpoint = arrays == [n for n in other.files if n != "state"] and all(
            one[name].tobytes() == other[name].tobytes() for name in arrays
        )
    return {
        "weights": all(same_arrays(weights(whole.folder / m), weights(killed.folder / m)) for m in models),
        "checkpoint": checkpoint,
        "log": history(whole.folder) == history(killed.folder),
        "no temporary file": not killed.temporaries(),
    }


def kill_until(number: int, whole: Case, lifetime: float) -> tuple[list[dict[str, Any]], list[dict[str, bool]]]:
    """Kills runs ``number`` times in all; what was killed, and how each run compares with the whole one at its end."""
    kills, comparisons = [], []
    while len(kills) < number:
        folder = whole.folder.parent / f"killed-{len(comparisons)}"
        case = Case(folder, whole.backend, whole.compiled)
        while len(kills) < number:
            after = None if len(kills) % 4 == 3 else lifetime * random.uniform(random.choice((0.0, 0.5, 0.5)), 1.0)
            began = time.perf_counter()
            killed = kill(case, after=after)
            if killed is None:
                lifetime = min(lifetime, time.perf_counter() - began)  # the machine has less to do than before
                break
            kills.append({"run": len(comparisons), **killed})
            print(len(kills), kills[-1], flush=True)
        case.finish()
        comparisons.append(compare(whole, case))
        print(comparisons[-1], flush=True)
    return kills, comparisons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    random.seed(options.seed)
    root = Path(tempfile.mkdtemp(prefix="kill-"))
    whole = Case(root / "whole", options.backend, root / "compiled")
    began = time.perf_counter()
    whole.finish()
    if options.backend == "jax":  # now with what was compiled: that is how long the others live
        shutil.rmtree(root / "whole")
        whole, began = Case(root / "whole", options.backend, root / "compiled"), time.perf_counter()
        whole.finish()
    lifetime = time.perf_counter() - began
    print(f"an uninterrupted run takes {lifetime:.1f} s", flush=True)

    kills, comparisons = kill_until(options.kills, whole, lifetime)
    equal = all(all(comparison.values()) for comparison in comparisons)
    result = {
        "command": f"python benchmarks/kill.py --backend {options.backend} --kills {options.kills}",
        "backend": options.backend,
        "all equal": equal,
        "runs": comparisons,
        "kills": kills,
        "seconds of an uninterrupted run": round(lifetime, 1),
        "machine": describe_machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"kill_{options.backend}.json").write_text(json.dumps(result, indent=1) + "\n")
    shutil.rmtree(root)
    print("all equal" if equal else "DIFFERENT")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
