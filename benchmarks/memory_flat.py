"""Does training leak? Host memory over 600 steps of the demonstration; from step 100 on it must stay the same.

    python benchmarks/memory_flat.py --backend tensorflow

trains with the demonstration's config and data (smaller: 160 drawn images), a checkpoint at each epoch's end, and reads
the resident memory of the process beside it, as the kernel counts it. Writes
benchmarks/results/memory_flat_BACKEND.json.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from maskrcnn.data.shapes import write_shapes
from maskrcnn.demo import demo_config
from maskrcnn.runtime.hardware import describe_machine

RESULTS = Path(__file__).parent / "results"
STEPS, EPOCHS, WARMUP = 600, 6, 100
LIMIT = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="tensorflow")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="memory-"))
    write_shapes(root / "data", train_images=160, val_images=4, image_size=256, progress=False)
    config = demo_config().override({"train.epochs": EPOCHS, "train.steps_per_epoch": STEPS // EPOCHS})
    (root / "config.json").write_text(config.to_json())
    command = [sys.executable, "-m", "maskrcnn", "train", "--config", str(root / "config.json"), "--no_eval"]
    command += ["--data_dir", str(root / "data"), "--model_dir", str(root / "model"), "--backend", options.backend]
    process = subprocess.Popen([*command, "--log_every", "5"])
    samples = watch(process, root / "model" / "mrcnn-dlll.json")
    if process.returncode:
        raise SystemExit("the training failed")
    early = statistics.median(rss for step, rss in samples if WARMUP <= step < WARMUP + 100)
    late = statistics.median(rss for step, rss in samples if STEPS - 100 <= step < STEPS)
    result = {
        "command": f"python benchmarks/memory_flat.py --backend {options.backend}",
        "resident MiB, median of steps 100 to 200": round(early / 2**20, 1),
        "resident MiB, median of steps 500 to 600": round(late / 2**20, 1),
        "growth": round(late / early - 1, 5),
        "flat": late / early - 1 < LIMIT,
        "samples [step, MiB]": [(step, round(rss / 2**20, 1)) for step, rss in samples][:: max(1, len(samples) // 120)],
        "machine": describe_machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"memory_flat_{options.backend}.json").write_text(json.dumps(result, indent=1) + "\n")
    print({name: value for name, value in result.items() if name not in ("machine", "samples [step, MiB]")})
    shutil.rmtree(root)


def watch(process: subprocess.Popen, log: Path) -> list[tuple[int, int]]:
    """Step and resident bytes, twice a second."""
    samples = []
    while process.poll() is None:
        time.sleep(0.5)
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            lines = [json.loads(line.removeprefix("DLLL ")) for line in log.read_text().splitlines()]
        except (OSError, ValueError, IndexError):
            continue
        places = [line["step"] for line in lines if len(line["step"]) == 2]
        if places:
            epoch, batch = places[-1]
            samples.append(((epoch - 1) * (STEPS // EPOCHS) + batch, pages * os.sysconf("SC_PAGE_SIZE")))
    return samples


if __name__ == "__main__":
    main()
