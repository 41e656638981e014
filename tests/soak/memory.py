"""Watches the resident memory of 600 training steps; from step 100 on it must stay the same within 2 %.

    python -m tests.soak.memory --backend tensorflow      # 4 minutes

With `--tiny --steps 10000` (10 minutes) it is 10,000 steps of a model on images of 64 px.

Trains with the config and drawn images of the demonstration, saves a checkpoint at the end of each epoch, and reads the
memory of the process twice a second.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.result import save_result
from maskrcnn.config import Config
from maskrcnn.data.shapes import write_shapes
from maskrcnn.demo import demo_config
from maskrcnn.errors import UserError
from maskrcnn.logs.history import read_history
from tests.conftest import MICRO

LIMIT = 0.02


def watch(process: subprocess.Popen, log: Path) -> list[tuple[int, float]]:
    """The last step and resident MiB, twice a second."""
    samples = []
    while process.poll() is None:
        time.sleep(0.5)
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            history = read_history(log)
        except (OSError, IndexError, UserError):  # the process has ended, or has no log yet
            continue
        if history and pages:
            samples.append((int(history[-1]["step"]), round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)))
    return samples


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax"))
    parser.add_argument("--steps", type=int, default=600, metavar="N", help="at least 300 (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--stand_in", action="store_true", help="a model that costs nothing")
    parser.add_argument("--tiny", action="store_true", help="a model that computes hardly anything")
    options = parser.parse_args()
    began, steps = time.perf_counter(), options.steps
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        size = 64 if options.tiny else 256
        write_shapes(root / "data", train_images=160, val_images=4, image_size=size, progress=False)
        config = Config.tiny().override(MICRO) if options.tiny else demo_config()
        config = config.override({"train.epochs": 6, "train.steps_per_epoch": steps // 6})
        (root / "config.json").write_text(config.to_json())
        program = "tests.soak.stand_in" if options.stand_in else "maskrcnn"
        command = [sys.executable, "-m", program, "train", "--config", str(root / "config.json"), "--no_eval"]
        command += ["--data_dir", str(root / "data"), "--model_dir", str(root / "model"), "--log_every", "5"]
        with (root / "output.txt").open("w") as output:
            variables = {**os.environ, "KERAS_BACKEND": options.backend}
            process = subprocess.Popen(command, stdout=output, stderr=output, env=variables)
            samples = watch(process, root / "model" / "mrcnn-dlll.json")
        if process.returncode:
            raise SystemExit((root / "output.txt").read_text()[-2000:])
    part = max(100, steps // 20)
    early = statistics.median(mib for step, mib in samples if part <= step < 2 * part)
    late = statistics.median(mib for step, mib in samples if step >= steps - part)
    growth, seconds = late / early - 1, time.perf_counter() - began
    outcome = "flat" if growth < LIMIT else "GROWS"
    print(f"memory, {options.backend}: {early:.0f} MiB, {growth:+.2%} at step {steps}, {outcome} ({seconds:.0f} s)")
    if options.out:
        row = {
            f"MiB, steps {part} to {2 * part}": early,
            f"MiB, steps {steps - part} to {steps}": late,
            "growth": growth,
        }
        thinned = samples[:: max(1, len(samples) // 120)]
        save_result(options.out, f"Resident memory of a training run: {options.backend}", [row], samples=thinned)
    return int(growth >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
