"""Times the loader on photographs: images a second and processor core, memory over many records, and conversion.

Give a COCO folder whose images are of COCO's own size. Its records are read again and again up to ``--records``; the
conversion is of its train split repeated up to ``--convert`` images, and is extrapolated to COCO's 118,287.

    python -m benchmarks.loader COCO_DIR [--records 10000] [--convert 2048] [--result benchmarks/results/loader.json]
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.record import Row, cpu_seconds, rss_gib, write_result
from maskrcnn.config import Config
from maskrcnn.data.loader.pipeline import train_dataset
from maskrcnn.data.records.convert import Converted, convert_coco
from maskrcnn.data.splits import Split, find_coco

BATCH = 4
WARM_UP = 50  # batches, after which buffers and threads are there
COCO_TRAIN = 118287  # images


def measure_loader(converted: Converted, records: int) -> list[Row]:
    """Training batches of 832x1344 with flips and masks, as many as make ``records`` images."""
    split = Split("train", converted.index, converted.categories, converted.annotation_file)
    batches = iter(train_dataset(split, Config(), batch_size=BATCH, seed=0))
    for _ in range(WARM_UP):
        next(batches)
    memory, began, cpu = [rss_gib()], time.perf_counter(), cpu_seconds()
    for step in range(records // BATCH):
        next(batches)
        if step % 100 == 99:
            memory.append(rss_gib())
    seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    cores = len(os.sched_getaffinity(0))
    quarter = max(len(memory) // 4, 1)
    return [
        Row("records read", records, "images"),
        Row("processor cores", cores, ""),
        Row("loader", records / seconds, "images/s"),
        Row("loader, a core", records / seconds / cores, "images/s"),
        Row("processor time an image", 1000 * cpu / records, "ms"),  # holds also where other work took cores away
        Row("loader, a second of processor time", records / cpu, "images"),
        Row("memory after the warm-up", memory[0], "GiB"),
        Row("memory, mean of the first quarter", float(np.mean(memory[:quarter])), "GiB"),
        Row("memory, mean of the last quarter", float(np.mean(memory[-quarter:])), "GiB"),
        Row("memory, largest", max(memory), "GiB"),
    ]


def measure_conversion(annotation_file: Path, image_dir: Path, images: int, folder: Path) -> list[Row]:
    """The dataset repeated under new ids, to so many images; what is read lies in the page cache."""
    content = json.loads(annotation_file.read_bytes())
    repeated = {"images": [], "annotations": [], "categories": content["categories"]}
    ids = {image["id"]: number for number, image in enumerate(content["images"])}
    while len(repeated["images"]) < images:
        first = len(repeated["images"])
        repeated["images"] += [{**image, "id": first + ids[image["id"]]} for image in content["images"]]
        for annotation in content["annotations"]:
            number = len(repeated["annotations"])
            repeated["annotations"].append(
                {**annotation, "id": number, "image_id": first + ids[annotation["image_id"]]}
            )
    path = folder / "instances_train.json"
    path.write_text(json.dumps(repeated))
    began, cpu = time.perf_counter(), cpu_seconds()
    convert_coco(path, image_dir, folder / "converted", "train", progress=False)
    seconds, cpu, count = time.perf_counter() - began, cpu_seconds() - cpu, len(repeated["images"])
    return [
        Row("images converted", count, "images"),
        Row("conversion", count / seconds, "images/s"),
        Row("conversion, processor time an image", 1000 * cpu / count, "ms"),
        Row("conversion of COCO's 118,287 images, extrapolated", seconds / count * COCO_TRAIN / 60, "min"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco_dir", type=Path, metavar="COCO_DIR")
    parser.add_argument("--records", type=int, default=10000)
    parser.add_argument("--convert", type=int, default=2048, help="images to convert (0: none)")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    source = find_coco(options.coco_dir, "train")
    with tempfile.TemporaryDirectory() as name:
        rows = measure_conversion(*source, options.convert, Path(name)) if options.convert else []
        converted = convert_coco(*source, Path(name) / "records", "train", progress=False)
        rows += measure_loader(converted, options.records)
    write_result("Loader and conversion on photographs of COCO", rows, options.result)


if __name__ == "__main__":
    main()
