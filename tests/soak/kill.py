"""Kills a training run with SIGKILL again and again; resumed to its end, it must equal an uninterrupted run.

    python -m tests.soak.kill --backend tensorflow --kills 5      # 3 to 5 minutes
    python -m tests.soak.kill --backend tensorflow --kills 50 --stand_in --warm      # 5 minutes

A small whole Mask R-CNN trains on drawn shapes through the command line, with averaged weights, accumulated gradients,
evaluations between epochs and a checkpoint every other step. Three in four kills come at random moments (imports,
conversion, compilation, steps, evaluations, the last save), the others as soon as a half-written file appears. The same
command resumes the run until it ends. Weights, the last checkpoint, the log and TensorBoard's scalars must then be
equal bit for bit, times and speeds aside, and no temporary file may be left.

With `--stand_in` the model is one dense layer with noise, so that many more kills hit what is around a model: data,
checkpoints, logs, evaluations. With `--warm` each run is forked from a process that has imported the libraries, so that
no kill hits the imports.
"""

import argparse
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.result import save_result
from maskrcnn.cli.entry_point import main as main_of_maskrcnn
from maskrcnn.config import Config
from maskrcnn.data.shapes import write_shapes
from maskrcnn.logs.history import read_history
from tests.conftest import MICRO
from tests.soak.stand_in import put_in_place

SETTINGS = {
    **MICRO,
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
HALF_WRITTEN = ("data/tfrecords", "model/checkpoints", "model", "model/best")  # where temporary files may appear
KEPT = ("step", "epoch", "learning_rate")  # of the entries of the log, beside the metrics


class Forked:
    """A command in a child of this process; as much of Popen as is used here."""

    def __init__(self, command: list[str], output: int):
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            os.dup2(output, 1)
            os.dup2(output, 2)
            status = 1
            try:
                status = main_of_maskrcnn(command)
                sys.stdout.flush()
            finally:
                os._exit(status)

    def poll(self) -> int | None:
        """The exit status or minus the signal, if it has ended."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        """Waits until it has ended."""
        began = time.perf_counter()
        while (status := self.poll()) is None:
            if time.perf_counter() - began > timeout:
                raise subprocess.TimeoutExpired("maskrcnn", timeout)
            time.sleep(0.002)
        return status

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


def warm_up(backend: str, compiled: Path) -> None:
    """Imports what a run does; starts this program again if Keras has another backend by now."""
    if os.environ.get("KERAS_BACKEND") != backend:
        os.environ["KERAS_BACKEND"] = backend
        module = Path(sys.modules["__main__"].__file__ or "").stem
        os.execv(sys.executable, [sys.executable, "-m", f"tests.soak.{module}", *sys.argv[1:]])
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(compiled)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    for module in ("tensorflow", backend, "keras", "maskrcnn.training.run", "maskrcnn.data.loader.pipeline"):
        importlib.import_module(module)


def add_program(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `choose_program`."""
    parser.add_argument("--stand_in", action="store_true", help="a model that costs nothing")
    parser.add_argument("--warm", action="store_true", help="fork the runs from a process that has imported all")


def choose_program(options: argparse.Namespace, compiled: Path) -> None:
    """Sets what all cases start, and how."""
    if options.stand_in:
        Case.program = ("-m", "tests.soak.stand_in")
    if options.warm:
        warm_up(options.backend, compiled)
        put_in_place() if options.stand_in else None
        Case.warm = True


class Case:
    """A folder with data and a run in it."""

    program: Sequence[str] = ("-m", "maskrcnn")  # how Python starts the command
    warm = False  # whether it is forked from this process instead

    def __init__(self, folder: Path, backend: str, compiled: Path):
        self.folder, self.backend, self.compiled = folder, backend, compiled
        write_shapes(folder / "data", train_images=10, val_images=3, image_size=64, seed=1, progress=False)
        (folder / "config.json").write_text(Config.tiny().override(SETTINGS).to_json())

    def start(self) -> "subprocess.Popen | Forked":
        """Starts the run, or resumes it."""
        model, board = self.folder / "model", self.folder / "board"
        command = ["train", "--config", str(self.folder / "config.json")]
        command += ["--data_dir", str(self.folder / "data"), "--model_dir", str(model), "--backend", self.backend]
        command += ["--log_every", "1", "--log_tensorboard", str(board)]
        variables = {**os.environ, "KERAS_BACKEND": self.backend, "JAX_COMPILATION_CACHE_DIR": str(self.compiled)}
        variables |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
        with (self.folder / "output.txt").open("a") as output:
            if self.warm:
                return Forked(command, output.fileno())
            command = [sys.executable, *self.program, *command]
            return subprocess.Popen(command, stdout=output, stderr=output, env=variables)

    def check(self, process: "subprocess.Popen | Forked") -> None:
        """Ends with the run's output if it failed."""
        if process.wait():
            raise SystemExit((self.folder / "output.txt").read_text()[-2000:])

    def temporaries(self) -> list[str]:
        """Files that are being written, or were when the run was killed."""
        found = [path for place in HALF_WRITTEN for path in (self.folder / place).glob(TEMPORARY)]
        return [str(path.relative_to(self.folder)) for path in found]

    def last_step(self) -> int:
        steps = [int(path.stem.split("-")[1]) for path in (self.folder / "model" / "checkpoints").glob("step-*.npz")]
        return max(steps, default=0)


def kill(case: Case, *, after: float | None) -> dict[str, Any] | None:
    """Starts the run and kills it after some seconds, or when a half-written file appears; None if it ended first."""
    process, began = case.start(), time.perf_counter()
    before = set(case.temporaries())
    while process.poll() is None:
        seconds = time.perf_counter() - began
        half_written = [] if after is not None else sorted(set(case.temporaries()) - before)
        if half_written and random.random() < 0.5:  # ignores half of them, to hit other kinds of files too
            half_written = []
            before = set(case.temporaries())
        if half_written or (after is not None and seconds >= after):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return {"seconds": round(seconds, 2), "half-written": half_written, "last checkpoint": case.last_step()}
        time.sleep(0.001)
    case.check(process)
    return None


def weights(path: Path) -> dict[str, bytes]:
    """The bytes of each weight of a file."""
    arrays: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: arrays.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
        )
    return arrays


def checkpoint(path: Path) -> dict[str, bytes]:
    """The bytes of each array of a checkpoint, but for what it keeps of the log."""
    with np.load(path) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files if name != "state"}


def history(folder: Path) -> list[Any]:
    """The steps and evaluations in the log; losses are means since the last entry, or since the run was resumed."""
    entries = read_history(folder / "model" / "mrcnn-dlll.json")
    return [{name: value for name, value in entry.items() if name in KEPT or "_A" in name} for entry in entries]


def compare(whole: Case, killed: Case) -> dict[str, bool]:
    """Which results of the two runs are equal."""
    last = f"model/checkpoints/step-{whole.last_step():08d}.npz"
    models = ("model/model.weights.h5", "model/best/model.weights.h5")
    return {
        "weights": all(weights(whole.folder / name) == weights(killed.folder / name) for name in models),
        "checkpoint": checkpoint(whole.folder / last) == checkpoint(killed.folder / last),
        "log": history(whole.folder) == history(killed.folder),
        "no temporary file": not killed.temporaries(),
    }


def kill_until(number: int, whole: Case, lifetime: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Kills runs ``number`` times in all; a row for each kill, and one for each run that was resumed to its end."""
    kills, runs = [], []
    while len(kills) < number:
        case, before = Case(whole.folder.parent / f"killed-{len(runs)}", whole.backend, whole.compiled), len(kills)
        while len(kills) < number:
            after = None if len(kills) % 4 == 3 else lifetime * random.uniform(random.choice((0.0, 0.5, 0.5)), 1.0)
            began = time.perf_counter()
            killed = kill(case, after=after)
            if killed is None:
                lifetime = min(lifetime, time.perf_counter() - began)
                break
            kills.append({"run": len(runs), **killed})
        case.check(case.start())
        runs.append({"run": len(runs), "kills": len(kills) - before, **compare(whole, case)})
    return kills, runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax"))
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="default: %(default)s")
    add_program(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args()
    root, began = Path(tempfile.mkdtemp(prefix="kill-")), time.perf_counter()
    random.seed(options.seed)
    choose_program(options, root / "compiled")
    for name in ["compile", "whole"] if options.backend == "jax" else ["whole"]:  # JAX compiles once for all
        whole, started = Case(root / name, options.backend, root / "compiled"), time.perf_counter()
        whole.check(whole.start())
    kills, runs = kill_until(options.kills, whole, time.perf_counter() - started)
    different = sorted({name for run in runs for name, equal in run.items() if equal is False})
    outcome = f"DIFFERENT: {', '.join(different)}; see {root}" if different else "equal to an uninterrupted run"
    seconds = time.perf_counter() - began
    print(f"kill, {options.backend}: {len(kills)} kills, {len(runs)} runs resumed, {outcome} ({seconds:.0f} s)")
    if options.out:
        title = f"Runs killed and resumed, compared with an uninterrupted one: {options.backend}"
        save_result(options.out, title, runs, kills=kills)
    if not different:
        shutil.rmtree(root)
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
