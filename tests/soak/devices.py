"""Trains on two devices and in two processes, which must give what one device gives: losses, weights and metrics.

    python -m tests.soak.devices --backend tensorflow      # 40 minutes, most of it float16, which is slow on a CPU
    python -m tests.soak.devices --backend tensorflow --variant plain

A small whole Mask R-CNN trains ten steps on drawn shapes three times: four images on one device, two on each of two
virtual devices, two in each of two processes. The images are the same, and the samplers take everything, so that no
random choice depends on the device. Then one of two processes is killed in the middle: the other must end with one line
and status 2, and the same command must resume the run to the same weights.
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

from benchmarks.result import Row, save_result

SETTINGS = {
    "norm.train": False,  # batch statistics would be those of a device
    "fpn.channels": 128,  # from which on 3x3 convolutions have a fast form on a CPU
    "mask_head.channels": 128,
    "rpn.samples": 4096,  # more than there are anchors
    "box_head.samples": 128,  # a quarter of it is more than there are proposals and objects
    "box_head.score_threshold": 0.0,
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
# Limits of the relative difference of the loss: in the first three steps, and in all. Devices add in another order;
# where that changes a discrete choice, such as of a proposal, the runs differ by about 1e-4 from then on. In float16
# each device also rounds its own part of the gradients.
LIMITS = {"plain": (1e-5, 1e-3), "clipped, accumulated, averaged": (1e-5, 1e-3), "float16": (1e-2, 1e-2)}


def worker(options: argparse.Namespace) -> None:
    """One process of a run."""
    from maskrcnn.runtime.backend import select_backend

    if options.devices > 1 and options.backend == "jax":
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={options.devices}"
        os.environ["XLA_FLAGS"] = flags
    select_backend(options.backend)
    if options.devices > 1 and options.backend == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * options.devices)
    from maskrcnn.runtime.distribution import connect

    devices = connect(*json.loads(options.connect))  # before anything that starts the backend
    from maskrcnn.config import Config
    from maskrcnn.errors import UserError
    from maskrcnn.logs.dllogger import LogOptions
    from maskrcnn.training.options import RunOptions
    from maskrcnn.training.run import train
    from tests.conftest import MICRO

    settings = {**MICRO, **SETTINGS, **VARIANTS[options.variant], "train.batch_size": options.batch}
    config = Config.tiny().override(settings)
    try:
        run = RunOptions(logs=LogOptions(every=1), devices=devices)
        train(config, data_dir=options.data, model_dir=options.model, options=run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


class Job:
    """Runs of one variant, each of one or more processes."""

    def __init__(self, root: Path, backend: str, variant: str):
        self.root, self.backend, self.variant = root, backend, variant

    def start(self, name: str, *, batch: int, devices: int = 1, processes: int = 1) -> list[subprocess.Popen]:
        """Starts the processes of a run, or resumes it."""
        ports = [_free_port() for _ in range(processes)]
        started = []
        for rank in range(processes):
            variables, connect = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(self.root.parent / "compiled")}, []
            variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
            if processes > 1 and self.backend == "tensorflow":
                cluster = {"worker": [f"localhost:{port}" for port in ports]}
                variables["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
            elif processes > 1:
                connect = [f"localhost:{ports[0]}", processes, rank]
            command = [sys.executable, "-m", "tests.soak.devices", "--worker", "--backend", self.backend]
            command += ["--variant", self.variant, "--data", str(self.root / "data"), "--model", str(self.root / name)]
            command += ["--batch", str(batch), "--devices", str(devices), "--connect", json.dumps(connect)]
            with (self.root / f"{name}-{rank}.txt").open("a") as output:
                started.append(subprocess.Popen(command, stdout=output, stderr=output, env=variables))
        return started

    def run(self, name: str, **settings: int) -> dict[str, Any]:
        """Losses of each step, final weights and metrics."""
        for rank, process in enumerate(self.start(name, **settings)):
            if process.wait():
                output = (self.root / f"{name}-{rank}.txt").read_text()
                raise SystemExit(f"{name}, process {rank}: {output[:6000]} ... {output[-1000:]}")
        from maskrcnn.logs.history import read_history

        folder = self.root / name
        with np.load(folder / "checkpoints" / "step-00000010.npz") as arrays:
            state = {key: arrays[key] for key in arrays.files if key != "state" and arrays[key].dtype.kind == "f"}
        history = [entry for entry in read_history(folder / "mrcnn-dlll.json") if "loss" in entry]
        metrics = json.loads((folder / "metrics.json").read_text())
        return {"loss": [entry["loss"] for entry in history], "state": state, "metrics": metrics}

    def compare(self, case: str, one: dict[str, Any], other: dict[str, Any]) -> Row:
        """Largest differences: of the losses, relative; of the state of model and optimizer; of the metrics."""
        losses = np.abs(np.array(one["loss"]) - other["loss"]) / np.abs(one["loss"])
        state = [float(np.abs(value - other["state"][name]).max()) for name, value in one["state"].items()]
        pairs = [(one["metrics"][kind], other["metrics"][kind]) for kind in ("bbox", "segm")]
        metrics = [abs((first[name] or 0) - (second[name] or 0)) for first, second in pairs for name in first]
        same_images = one["metrics"]["images"] == other["metrics"]["images"]
        early, late = LIMITS[self.variant]
        passed = len(losses) == 10 and losses[:3].max() <= early and losses.max() <= late and same_images
        values = {"loss": float(losses.max()), "state": max(state), "metrics": float(max(metrics))}
        return {"variant": self.variant, "case": case, **values, "passed": bool(passed)}


def kill_process(job: Job, whole: dict[str, Any]) -> list[Row]:
    """Kills the second process once a checkpoint exists; then resumes the run."""
    first, second = job.start("killed", batch=2, processes=2)
    checkpoint = job.root / "killed" / "checkpoints" / "step-00000004.npz"
    while not checkpoint.exists() and first.poll() is None:
        time.sleep(0.002)
    os.kill(second.pid, signal.SIGKILL)
    began = time.perf_counter()
    status, seconds = first.wait(), time.perf_counter() - began
    lines = [line for line in (job.root / "killed-0.txt").read_text().splitlines() if line.startswith("error:")]
    row = {"variant": job.variant, "case": "2 processes, one killed: the other ends", "seconds": round(seconds, 1)}
    resumed = job.run("killed", batch=2, processes=2)
    return [
        {**row, "passed": status == 2 and len(lines) == 1},
        job.compare("2 processes, one killed, resumed", whole, resumed),
    ]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def measure(root: Path, backend: str, variant: str) -> list[Row]:
    """The comparisons of one variant."""
    from maskrcnn.data.shapes import write_shapes

    job = Job(root / variant, backend, variant)
    write_shapes(job.root / "data", train_images=10, val_images=5, image_size=64, seed=1, progress=False)
    whole = job.run("1x4", batch=4)
    rows = [
        job.compare("2 devices", whole, job.run("2x2", batch=2, devices=2)),
        job.compare("2 processes", whole, job.run("1+1", batch=2, processes=2)),
    ]
    return rows + (kill_process(job, whole) if variant == "plain" else [])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax"))
    parser.add_argument("--variant", choices=VARIANTS, help="only this one")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    for name, kind in (("data", str), ("model", str), ("batch", int), ("devices", int), ("connect", str)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return 0
    root, began = Path(tempfile.mkdtemp(prefix="devices-")), time.perf_counter()
    variants = [options.variant] if options.variant else list(VARIANTS)
    rows = [row for variant in variants for row in measure(root, options.backend, variant)]
    failed = [f"{row['variant']}, {row['case']}" for row in rows if not row["passed"]]
    outcome = f"DIFFERENT: {'; '.join(failed)}; see {root}" if failed else "equal to one device"
    print(f"devices, {options.backend}: {len(rows)} comparisons, {outcome} ({time.perf_counter() - began:.0f} s)")
    if options.out:
        save_result(options.out, f"Two devices and two processes, compared with one device: {options.backend}", rows)
    if not failed:
        shutil.rmtree(root)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
