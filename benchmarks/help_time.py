"""How long `maskrcnn --help` takes: the program started again and again; writes benchmarks/results/help.json."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from maskrcnn.runtime.hardware import describe_machine

RESULT = Path(__file__).parent / "results" / "help.json"
RUNS, WARMUP = 30, 3
PROGRAM = Path(sys.executable).parent / "maskrcnn"


def main() -> None:
    seconds = []
    for _ in range(WARMUP + RUNS):
        began = time.perf_counter()
        subprocess.run([PROGRAM, "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - began)
    seconds = seconds[WARMUP:]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(
        json.dumps({"machine": describe_machine(), "seconds": seconds}, indent=1) + "\n", encoding="utf-8"
    )
    print(f"median {statistics.median(seconds):.3f} s, slowest {max(seconds):.3f} s of {RUNS}")


if __name__ == "__main__":
    main()
