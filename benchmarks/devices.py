"""Two devices, and two processes, must do what one does: losses and weights after ten steps, and the metrics.

    python benchmarks/devices.py --backend tensorflow

trains a small whole Mask R-CNN on drawn shapes three times, through `maskrcnn.training.run.train`: four images on one
device, two on each of two virtual devices, two in each of two processes. The images are the same, and the samplers take
everything, so that no random choice depends on the device. Once as it is, once with clipped and accumulated gradients
and averaged weights. Then one of two processes is killed in the middle: the other must say so, and the same command
must go on to the same weights. Writes benchmarks/results/devices_BACKEND.json.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 1e-5
SETTINGS = {
    "image.min_side": 64,
    "image.max_side": 64,
    "norm.train": False,  # statistics of a batch would be those of a device
    "backbone.width": 8,
    "fpn.channels": 128,  # of which 3x3 convolutions have a form of their own on a CPU
    "rpn.samples": 4096,  # more than there are anchors
    "rpn.train_candidates": 20,
    "rpn.train_proposals": 16,
    "rpn.test_candidates": 20,
    "rpn.test_proposals": 16,
    "box_head.channels": 16,
    "box_head.samples": 128,  # a quarter of it is more than there are proposals and objects
    "box_head.test_candidates": 20,
    "box_head.detections": 5,
    "box_head.score_threshold": 0.0,
    "mask_head.channels": 128,
    "mask_head.convolutions": 1,
    "data.max_instances": 8,
    "train.eval_batch_size": 2,
    "train.epochs": 1,
    "train.steps_per_epoch": 10,
    "train.seed": 2,
    "train.learning_rate_boundaries": [0.0, 8.0, 10.0],
    "train.checkpoint_every": 4,
}
VARIANTS = {
    "plain": {},
    "clipped, accumulated, averaged": {"train.clip_norm": 0.5, "train.accumulate": 2, "train.ema": 0.9},
    "float16": {"train.precision": "float16"},
}


def worker(options: argparse.Namespace) -> None:
    """One process of a run."""
    from maskrcnn.config import Config
    from maskrcnn.runtime.backend import select_backend

    if options.devices > 1 and options.backend == "jax":
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={options.devices}"
    select_backend(options.backend)
    if options.devices > 1 and options.backend == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * options.devices)
    from maskrcnn.runtime.distribution import connect

    arguments = json.loads(options.connect)
    devices = connect(*arguments)
    from maskrcnn.errors import UserError
    from maskrcnn.logs.dllogger import LogOptions
    from maskrcnn.training.run import train

    config = Config.tiny().override({**SETTINGS, **VARIANTS[options.variant], "train.batch_size": options.batch})
    try:
        train(config, data_dir=options.data, model_dir=options.model, logs=LogOptions(every=1), devices=devices)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


class Job:
    """A run of one or more processes."""

    def __init__(self, root: Path, backend: str, variant: str):
        self.root, self.backend, self.variant = root, backend, variant

    def start(self, name: str, *, batch: int, devices: int = 1, processes: int = 1) -> list[subprocess.Popen]:
        ports = [_free_port() for _ in range(processes)]
        started = []
        for number in range(processes):
            variables, connect = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(self.root.parent / "compiled")}, []
            variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
            if processes > 1 and self.backend == "tensorflow":
                cluster = {"worker": [f"localhost:{port}" for port in ports]}
                variables["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
            elif processes > 1:
                connect = [f"localhost:{ports[0]}", processes, number]
            command = [sys.executable, __file__, "--backend", self.backend, "--worker", "--variant", self.variant]
            command += ["--data", str(self.root / "data"), "--model", str(self.root / name), "--batch", str(batch)]
            command += ["--devices", str(devices), "--connect", json.dumps(connect)]
            with (self.root / f"{name}-{number}.txt").open("a") as output:
                started.append(subprocess.Popen(command, stdout=output, stderr=output, env=variables))
        return started

    def run(self, name: str, **settings: int) -> dict[str, Any]:
        """Losses of each step, final weights and metrics."""
        for number, process in enumerate(self.start(name, **settings)):
            if process.wait():
                said = (self.root / f"{name}-{number}.txt").read_text()
                raise SystemExit(f"{name}, process {number}: {said[:6000]} ... {said[-1000:]}")
        return self.result(name)

    def result(self, name: str) -> dict[str, Any]:
        from maskrcnn.logs.history import read_history

        folder = self.root / name
        with np.load(folder / "checkpoints" / "step-00000010.npz") as arrays:
            state = {key: arrays[key] for key in arrays.files if key != "state" and arrays[key].dtype.kind == "f"}
        history = [entry for entry in read_history(folder / "mrcnn-dlll.json") if "loss" in entry]
        metrics = json.loads((folder / "metrics.json").read_text())
        return {"loss": [entry["loss"] for entry in history], "state": state, "metrics": metrics}


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Largest differences: of the losses, relative; of all state of the model and its optimizer; of the metrics."""
    losses = np.abs(np.array(one["loss"]) - other["loss"]) / np.abs(one["loss"])
    state = [np.abs(value - other["state"][name]).max() for name, value in one["state"].items()]
    metrics = [(one["metrics"][kind], other["metrics"][kind]) for kind in ("bbox", "segm")]
    values = [abs((a[name] or 0) - (b[name] or 0)) for a, b in metrics for name in a]
    same_images = one["metrics"]["images"] == other["metrics"]["images"]
    found = {"loss": float(losses.max()), "state": float(max(state)), "metrics": float(max(values))}
    apart = np.flatnonzero(losses > TOLERANCE)
    first = int(apart[0]) + 1 if len(apart) else None
    return {**found, "steps": len(one["loss"]), "first step apart": first, "images": same_images}


def killed_worker(job: Job, whole: dict[str, Any]) -> dict[str, Any]:
    """Kills the second process once a checkpoint is there; then gives the same command again."""
    first, second = job.start("killed", batch=2, processes=2)
    checkpoint = job.root / "killed" / "checkpoints" / "step-00000004.npz"
    while not checkpoint.exists() and first.poll() is None:
        time.sleep(0.002)
    os.kill(second.pid, signal.SIGKILL)
    began = time.perf_counter()
    status = first.wait()
    seconds = time.perf_counter() - began
    said = (job.root / "killed-0.txt").read_text()
    lines = [line for line in said.splitlines() if line.startswith("error:")]
    resumed = difference(whole, job.run("killed", batch=2, processes=2))
    return {
        "status": status,
        "seconds to end": round(seconds, 1),
        "said": lines[-1:] or said[-500:],
        "resumed": resumed,
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="tensorflow")
    for name, kind in (("data", str), ("model", str), ("batch", int), ("devices", int), ("connect", str)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--variant", help="only this one", choices=VARIANTS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    from maskrcnn.data.shapes import write_shapes
    from maskrcnn.runtime.hardware import describe_machine

    root = Path(tempfile.mkdtemp(prefix="devices-"))
    results: dict[str, Any] = {}
    for variant in [options.variant] if options.variant else list(VARIANTS):
        job = Job(root / variant, options.backend, variant)
        write_shapes(job.root / "data", train_images=10, val_images=5, image_size=64, seed=1, progress=False)
        whole = job.run("1x4", batch=4)
        results[variant] = {"2 devices": difference(whole, job.run("2x2", batch=2, devices=2))}
        print(variant, results[variant], flush=True)
        results[variant]["2 processes"] = difference(whole, job.run("1+1", batch=2, processes=2))
        print(variant, results[variant], flush=True)
        if variant == "plain":
            results["a killed process"] = killed_worker(job, whole)
            print(results["a killed process"], flush=True)
    record = {
        "command": f"python benchmarks/devices.py --backend {options.backend}",
        "compared with": "one device, four images a step, ten steps",
        "results": results,
        "machine": describe_machine(),
    }
    if not options.variant:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"devices_{options.backend}.json").write_text(json.dumps(record, indent=1) + "\n")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
