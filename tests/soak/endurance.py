"""Many images, many threads, and a clock that is set back.

    python -m tests.soak.endurance --backend tensorflow      # 10 minutes
    python -m tests.soak.endurance --backend tensorflow --cases threads clock

A small whole Mask R-CNN is trained on drawn shapes for a few steps. Then:

images   10,000 files, one in a hundred cut short, through `maskrcnn infer`: every good one has its detections, equal
         for equal images, every bad one is counted, and from a fifth of the way on memory stays the same within 2 %
threads  8 threads call `predict` of one model at the same time: each answer is the one that a single thread gets
clock    the clock is set back by an hour again and again while a run trains: the weights and the log's steps are those
         of an undisturbed run, and no duration in the log is negative
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.result import Row, save_result
from maskrcnn.logs.history import read_history
from tests.soak.kill import Case, add_program, choose_program, history, weights
from tests.soak.stand_in import put_in_place

CASES = ("images", "threads", "clock")
DISTINCT = 99  # images; every hundredth is a broken one
LIMIT = 0.02  # growth of memory
THREADS, CALLS = 8, 40
BACKWARD = """
import datetime, itertools, sys, time
real, began, count = time.time, time.time(), itertools.count(1)
def set_back():
    return real() - 3600 * (next(count) // 50)
class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(set_back(), tz)
time.time, datetime.datetime = set_back, Clock
from maskrcnn.cli.entry_point import main
sys.exit(main(sys.argv[1:]))
"""


def draw(folder: Path, number: int) -> int:
    """Links to a hundred files, the last of which is cut short; the number of good ones."""
    images = folder / "distinct"
    images.mkdir()
    rng = np.random.default_rng(0)
    for index in range(DISTINCT):
        pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
        pixels[8:32, 8 + index % 16 : 40] = (index * 2, 90, 200)
        Image.fromarray(pixels).save(images / f"{index:02d}.png")
    (images / f"{DISTINCT}.png").write_bytes((images / "00.png").read_bytes()[:200])
    (folder / "many").mkdir()
    for index in range(number):
        os.link(images / f"{index % 100:02d}.png", folder / "many" / f"{index:06d}_{index % 100:02d}.png")
    return number - number // 100


def watch(process: subprocess.Popen) -> list[float]:
    """Resident MiB, four times a second."""
    samples = []
    while process.poll() is None:
        time.sleep(0.25)
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            break
        samples.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1))
    process.wait()
    return samples


def many_images(case: Case, number: int) -> Row:
    good = draw(case.folder, number)
    out = case.folder / "predicted"
    command = [sys.executable, *case.program, "infer", str(case.folder / "many"), "--out_dir", str(out)]
    command += ["--model_dir", str(case.folder / "model"), "--save", "csv", "--backend", case.backend]
    command += ["--set", "box_head.score_threshold=0.0"]
    with (case.folder / "infer.txt").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        samples = watch(process)
    results = json.loads((out / "predictions.json").read_text())
    by_image: dict[str, list[Any]] = defaultdict(list)
    for result in results:
        by_image[Path(result["file_name"]).stem].append((result["bbox"], result["score"], result["segmentation"]))
    answers = defaultdict(set)
    for name, found in by_image.items():
        answers[name.split("_")[1]].add(json.dumps(found))
    text = (case.folder / "infer.txt").read_text(errors="replace")
    early = statistics.median(samples[len(samples) // 5 : 2 * len(samples) // 5])
    late = statistics.median(samples[-len(samples) // 5 :])
    problems = [] if process.returncode == 1 else [f"status {process.returncode}"]
    problems += [] if len(by_image) == good else [f"{len(by_image)} of {good} images have detections"]
    problems += [] if all(len(one) == 1 for one in answers.values()) else ["equal images differ"]
    problems += ["traceback"] if "Traceback" in text else []
    problems += [f"memory grows by {late / early - 1:.1%}"] if late / early - 1 >= LIMIT else []
    told = text.count("the image is damaged")
    return {
        "case": "images",
        "number": number,
        "detections": len(results),
        "MiB, second fifth": early,
        "MiB, last fifth": late,
        "bad ones told of": told,
        "problems": ", ".join(problems),
    }


def many_threads(case: Case) -> Row:
    command = [sys.executable, "-m", "tests.soak.endurance", "--worker", str(case.folder), "--backend", case.backend]
    command += ["--stand_in"] if "tests.soak.stand_in" in case.program else []
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = result.stdout.strip().splitlines()
    different = lines[-1] if result.returncode == 0 and lines else f"status {result.returncode}: {result.stderr[-500:]}"
    return {"case": "threads", "number": THREADS * CALLS, "problems": "" if different == "0" else different}


def predict_in_threads(folder: Path, backend: str) -> int:
    """How many of the answers that threads got differ from a single thread's."""
    os.environ["KERAS_BACKEND"] = backend
    import maskrcnn

    files = sorted((folder / "data").rglob("*.jpg"))[:10] or sorted((folder / "data").rglob("*.png"))[:10]
    model = maskrcnn.load(folder / "model")
    expected = {file: _answer(model, file) for file in files}
    different: list[str] = []

    def work(number: int) -> None:
        for call in range(CALLS):
            file = files[(number * 3 + call) % len(files)]
            try:
                different.extend([] if _answer(model, file) == expected[file] else [file.name])
            except Exception as error:
                different.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(*different[:3], file=sys.stderr)
    return len(different)


def _answer(model: Any, file: Path) -> bytes:
    found = model.predict(file)
    return found.boxes.tobytes() + found.scores.tobytes() + found.masks.tobytes()


def clock_set_back(case: Case, compiled: Path) -> Row:
    other = Case(case.folder.parent / "clock", case.backend, compiled)
    stand_in = "from tests.soak.stand_in import put_in_place; put_in_place()\n"
    other.program = ("-c", (stand_in if "tests.soak.stand_in" in case.program else "") + BACKWARD)
    other.check(other.start())
    entries = [
        json.loads(line.removeprefix("DLLL "))
        for line in (other.folder / "model" / "mrcnn-dlll.json").read_text().splitlines()
    ]
    stamps = [float(entry["timestamp"]) for entry in entries]
    data = read_history(other.folder / "model" / "mrcnn-dlll.json")
    durations = [float(entry["elapsedtime"]) for entry in entries]
    durations += [value for row in data for name, value in row.items() if "second" in name or "images/s" in name]
    file = "model/model.weights.h5"
    problems = [] if weights(case.folder / file) == weights(other.folder / file) else ["other weights"]
    problems += [] if history(case.folder) == history(other.folder) else ["another log"]
    problems += ["a negative duration"] if min(durations) < 0 else []
    problems += [] if min(stamps[i + 1] - stamps[i] for i in range(len(stamps) - 1)) < -3000 else ["clock not set back"]
    return {"case": "clock", "number": len(entries), "problems": ", ".join(problems)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax"))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--images", type=int, default=10_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    add_program(parser)
    options = parser.parse_args()
    if options.worker:
        put_in_place() if options.stand_in else None
        print(predict_in_threads(options.worker, options.backend))
        return 0
    began, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="endurance-") as name:
        compiled = Path(name) / "compiled"
        choose_program(options, compiled)
        case = Case(Path(name) / "run", options.backend, compiled)
        case.check(case.start())
        run = {
            "images": lambda: many_images(case, options.images),
            "threads": lambda: many_threads(case),
            "clock": lambda: clock_set_back(case, compiled),
        }
        for one in options.cases:
            rows.append(run[one]())
    bad = [f"{row['case']}: {row['problems']}" for row in rows if row["problems"]]
    outcome = f"FAILED: {'; '.join(bad)}" if bad else "all hold"
    print(f"endurance, {options.backend}: {', '.join(options.cases)}: {outcome} ({time.perf_counter() - began:.0f} s)")
    if options.out:
        save_result(options.out, f"Many images, many threads, a clock set back: {options.backend}", rows)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
