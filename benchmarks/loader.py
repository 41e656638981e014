"""Times the loader on COCO images: images a second and a core, memory over many records, and the conversion.

    python -m benchmarks.loader COCO_DIR [--records 10000] [--out benchmarks/results/loader.json]

Give a COCO folder whose images have COCO's own size. Its train split is converted once and then read again and again.
"""

import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.result import Row, make_parser, report
from maskrcnn.config import Config, DataConfig
from maskrcnn.data.loader.pipeline import train_dataset
from maskrcnn.data.splits import Split, find_dataset

BATCH = 4
WARMUP = 50  # batches, after which buffers and threads exist
COCO_TRAIN = 118287  # images


def measure_conversion(coco_dir: Path, out_dir: Path) -> tuple[Split, list[Row]]:
    """The train split as records, and how long it took; the files that are read lie in the page cache."""
    dataset = find_dataset(coco_dir, DataConfig())
    began, cpu = time.perf_counter(), time.process_time()
    dataset.convert("train", out_dir=out_dir, progress=False)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    split = dataset.open("train", out_dir=out_dir)
    count = split.num_examples
    return split, [
        _row("images converted", count, "images"),
        _row("conversion", count / seconds, "images/s"),
        _row("conversion, processor time per image", 1000 * cpu / count, "ms"),
        _row("conversion of COCO's 118,287 images, processor time, extrapolated", cpu / count * COCO_TRAIN / 60, "min"),
    ]


def measure_loader(split: Split, records: int) -> list[Row]:
    """Training batches of 832x1344 with flips and masks."""
    batches = iter(train_dataset(split, Config(), batch_size=BATCH, seed=0))
    for _ in range(WARMUP):
        next(batches)
    memory, began, cpu = [_resident_gib()], time.perf_counter(), time.process_time()
    for step in range(records // BATCH):
        next(batches)
        if step % 100 == 99:
            memory.append(_resident_gib())
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    cores, quarter = len(os.sched_getaffinity(0)), max(len(memory) // 4, 1)
    return [
        _row("records read", records, "images"),
        _row("processor cores", cores, ""),
        _row("loader", records / seconds, "images/s"),
        _row("loader, per core", records / seconds / cores, "images/s"),
        _row("loader, processor time per image", 1000 * cpu / records, "ms"),  # holds on a busy machine too
        _row("memory after the warm-up", memory[0], "GiB"),
        _row("memory, mean of the first quarter", float(np.mean(memory[:quarter])), "GiB"),
        _row("memory, mean of the last quarter", float(np.mean(memory[-quarter:])), "GiB"),
        _row("memory, largest", max(memory), "GiB"),
    ]


def _row(quantity: str, value: float, unit: str) -> Row:
    return {"quantity": quantity, "value": value, "unit": unit}


def _resident_gib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**30


def main() -> None:
    """Runs the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("coco_dir", type=Path, metavar="COCO_DIR")
    parser.add_argument("--records", type=int, default=10000, metavar="N", help="to read (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split, rows = measure_conversion(options.coco_dir, Path(folder))
        rows += measure_loader(split, options.records)
    report(options.out, "Loader and conversion: images of COCO", rows)


if __name__ == "__main__":
    main()
