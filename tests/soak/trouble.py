"""What happens to a run when the disk is full, it is told to end, its folder is deleted or another one wants it.

    python -m tests.soak.trouble --backend tensorflow      # 10 minutes

A small Mask R-CNN trains on drawn shapes through the command line. Each trouble must end within seconds with its exit
status, at most one line of error, no traceback and no half-written file; the same command must then complete the run.

disk full  no file may grow beyond a limit (RLIMIT_FSIZE), at every size from nothing to a whole checkpoint
full disk  the model folder is on a file system of this size (Linux, as root; left out elsewhere)
SIGTERM    during imports, conversion, compilation, steps, a save, evaluation, the report and the last save
deleted    the model folder is removed while the run trains
two runs   a second run in the same folder is refused, and the first one is not disturbed
"""

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.result import save_result
from tests.soak.kill import Case, Forked, add_program, choose_program

PHASES = ("imports", "conversion", "compilation", "steps", "checkpoint", "evaluation", "report", "last save")
GRACE = 60.0  # seconds within which a run must end, also on a busy machine


class Run(Case):
    """A run whose output is read."""

    def output(self) -> str:
        return (self.folder / "output.txt").read_text(errors="replace")

    def limited(self, size: int) -> subprocess.Popen | Forked:
        """Starts the run with a limit on the size of the files that it writes."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # inherited: a write then fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            return self.start()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)

    def wait_for(self, process: subprocess.Popen | Forked, phase: str) -> None:
        """Waits until the run is in a phase, as far as its files and its output tell, or has ended."""
        model = self.folder / "model"
        reached = {
            "imports": lambda: True,
            "conversion": lambda: (self.folder / "data" / "tfrecords").exists(),
            "compilation": lambda: (model / "mrcnn-dlll.json").exists(),
            "steps": lambda: any((model / "checkpoints").glob("step-*.npz")),
            "checkpoint": lambda: any((model / "checkpoints").glob(".*step-*.npz")),  # half-written
            "report": lambda: any(model.glob(".*report.html")),
            "evaluation": lambda: (model / "checkpoints" / "step-00000025.npz").exists(),
            "last save": lambda: (model / "checkpoints" / "step-00000075.npz").exists(),
        }[phase]
        while process.poll() is None and not reached():
            time.sleep(0.0005)

    def problems(self, process: subprocess.Popen | Forked, status: tuple[int, ...]) -> list[str]:
        """What is wrong with the end of the run."""
        try:
            ended = process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return ["hangs"]
        lines = self.output().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        found = [] if ended in status else [f"status {ended}"]
        found += [f"{len(errors)} errors"] if len(errors) != (ended == 2) else []
        found += ["traceback"] if any("Traceback" in line for line in lines) else []
        return found + [f"left {name}" for name in self.temporaries()]


def disk_full(case: Run, sizes: list[int]) -> Iterator[dict[str, Any]]:
    for size in sizes:
        shutil.rmtree(case.folder / "model", ignore_errors=True)
        (case.folder / "output.txt").unlink(missing_ok=True)
        process = case.limited(size)
        process.wait(300)
        problems = [
            text for text in case.problems(process, (2,)) if size or text != "0 errors"
        ]  # nor has the output room
        yield {"trouble": "disk full", "at": f"{size} bytes", "problems": problems}


def small_disk(case: Run, sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Runs whose model folder is on a full file system in memory, with a folder that exists."""
    if sys.platform != "linux" or os.geteuid():
        return
    model = case.folder / "model"
    for size in sizes:
        shutil.rmtree(model, ignore_errors=True)
        (case.folder / "output.txt").unlink(missing_ok=True)
        model.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", model], check=False).returncode:
            return  # a container may not
        try:
            process = case.start()
            process.wait(300)
            yield {"trouble": "full disk", "at": f"{size} KiB", "problems": case.problems(process, (2,))}
        finally:
            subprocess.run(["umount", model], check=True)


def terminated(case: Run, phases: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for phase in phases:
        shutil.rmtree(case.folder / "model", ignore_errors=True)
        shutil.rmtree(case.folder / "data" / "tfrecords", ignore_errors=True)
        (case.folder / "output.txt").unlink(missing_ok=True)
        process = case.start()
        case.wait_for(process, phase)
        missed = process.poll() is not None
        process.send_signal(signal.SIGTERM)
        problems = case.problems(process, (130, -signal.SIGTERM, 0))
        yield {"trouble": "SIGTERM", "at": phase, "problems": [*problems, *["was not seen"] * missed]}


def deleted(case: Run) -> dict[str, Any]:
    shutil.rmtree(case.folder / "model", ignore_errors=True)
    (case.folder / "output.txt").unlink(missing_ok=True)
    process = case.start()
    case.wait_for(process, "steps")
    os.rename(case.folder / "model", case.folder / "gone")
    problems = case.problems(process, (2,)) + (["written again"] if (case.folder / "model").exists() else [])
    os.rename(case.folder / "gone", case.folder / "model")
    return {"trouble": "deleted", "at": "steps", "problems": problems}


def two_runs(case: Run) -> dict[str, Any]:
    shutil.rmtree(case.folder / "model", ignore_errors=True)
    first = case.start()
    case.wait_for(first, "compilation")
    (case.folder / "output.txt").unlink()  # the first one keeps writing to the deleted file
    second = case.start()
    problems = case.problems(second, (2,))
    problems += [] if "another run is using this folder" in case.output() else ["not refused"]
    problems += ["the first one failed"] if first.wait() else []
    return {"trouble": "two runs", "at": "compilation", "problems": [text for text in problems if "left" not in text]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax"))
    parser.add_argument("--sizes", type=int, nargs="+", metavar="BYTES", default=[0, 1000, 10_000, 100_000, 300_000])
    parser.add_argument("--disks", type=int, nargs="*", metavar="KIB", default=[8, 64, 300, 600])
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--out", type=Path, metavar="FILE")
    add_program(parser)
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="trouble-") as name:
        root = Path(name)
        choose_program(options, root / "compiled")
        case = Run(root / "run", options.backend, root / "compiled")
        rows = [
            *terminated(case, tuple(options.phases)),
            *disk_full(case, options.sizes),
            *small_disk(case, options.disks),
            deleted(case),
            two_runs(case),
        ]
        case.check(case.start())  # the run that was in trouble is completed
    bad = [f"{row['trouble']} ({row['at']}): {', '.join(row['problems'])}" for row in rows if row["problems"]]
    outcome = f"FAILED: {'; '.join(bad)}" if bad else "all end in one line and are resumed"
    print(f"trouble, {options.backend}: {len(rows)} cases, {outcome} ({time.perf_counter() - began:.0f} s)")
    if options.out:
        table = [{**row, "problems": ", ".join(row["problems"])} for row in rows]
        save_result(options.out, f"Runs in trouble: {options.backend}", table)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
