"""Tiles beside single images: what a model finds in mosaics of its val images, of what it finds in each of them.

    python -m tests.soak.mosaic runs/demo                        # 4000x3000 px, tiles of 1024 px that overlap by 0.2

The folder is one of `maskrcnn demo`. An object is found again if the mosaic has a detection of its class whose mask has
an IoU of 0.5 with it. What the model itself loses when its image moves by some pixels is measured beside it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.result import format_table
from maskrcnn import load
from maskrcnn.imaging.mask_paste import coco_mask
from maskrcnn.inference.detections import Detections
from tests.ground_truth import ground_truth_detections

SAME, SCORE = 0.5, 0.5


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo_dir", type=Path)
    parser.add_argument("--side", type=int, default=1000, help="of an image in the mosaic, px")
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--mosaics", type=int, default=4)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--shift", type=int, default=-8, help="of the single images that are moved, px")
    options = parser.parse_args()
    model, count = load(options.demo_dir), options.columns * options.rows
    data = options.demo_dir / "data"
    truth = dict(ground_truth_detections(data / "annotations" / "instances_val.json"))
    files = sorted((data / "val").glob("*.jpg"))[: count * options.mosaics]
    totals = np.zeros(7, int)
    for first in range(0, len(files) - count + 1, count):
        chosen = files[first : first + count]
        pixels = [np.asarray(Image.open(file).resize((options.side,) * 2, Image.Resampling.BICUBIC)) for file in chosen]
        rows = [
            np.concatenate(pixels[start : start + options.columns], 1) for start in range(0, count, options.columns)
        ]
        mosaic = np.concatenate(rows)
        whole = model.predict(mosaic, tile=options.tile, overlap=options.overlap).above(SCORE)
        size = mosaic.shape[:2]
        corners = [(options.side * (k // options.columns), options.side * (k % options.columns)) for k in range(count)]
        moved = [
            tuple(np.clip(np.add(corner, options.shift), 0, np.subtract(size, options.side))) for corner in corners
        ]
        again_at = [mosaic[y : y + options.side, x : x + options.side] for y, x in moved]
        singles = _place([found.above(SCORE) for found in model.predict(pixels)], size, corners, options.side)
        shifted = _place([found.above(SCORE) for found in model.predict(again_at)], size, moved, options.side)
        known = _place([truth[int(file.stem)] for file in chosen], size, corners, options.side)
        right, wrong = _matched(known, singles), len(whole) - int(_matched(whole, known).sum())
        found_again = [n for other in (whole, shifted) for n in _found_again(singles, known, other)]
        totals += [len(singles), right.sum(), *found_again, wrong]
    names = ("detections in the single images", "of them right", "found again", "right ones found again")
    names += ("found again, moved", "right ones found again, moved", "false positives")
    print(format_table([dict(zip(names, totals.tolist(), strict=True))]))


def _found_again(singles: Detections, known: Detections, other: Detections) -> tuple[int, int]:
    """How many detections of the single images others have too, and how many of the known objects that these have."""
    right = _matched(known, singles) & _matched(known, other)
    return int(_matched(singles, other).sum()), int(right.sum())


def _place(
    found: Sequence[Detections], size: tuple[int, int], corners: Sequence[tuple[int, int]], side: int
) -> Detections:
    """The detections of images at their places in the mosaic, top and left, as one."""
    rles = []
    for (top, left), one in zip(corners, found, strict=True):
        for mask in one.masks:
            pixels = np.zeros(size, np.uint8, order="F")
            scaled = Image.fromarray(mask.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
            pixels[top : top + side, left : left + side] = np.asarray(scaled)
            rles.append(coco_mask.encode(pixels))
    boxes, classes, scores = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("boxes", "classes", "scores")
    )
    return Detections(boxes, classes, scores, rles, size, found[0].categories)


def _matched(objects: Detections, others: Detections) -> np.ndarray:
    """Which objects have their like among the others."""
    if not len(objects) or not len(others):
        return np.zeros(len(objects), bool)
    overlaps = np.array(coco_mask.iou(objects.rles, others.rles, [0] * len(others)))
    return (overlaps * (objects.classes[:, None] == others.classes) >= SAME).any(axis=1)


if __name__ == "__main__":
    main()
