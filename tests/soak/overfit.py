"""Trains a small Mask R-CNN from scratch on eight images until it knows them: mask AP50 must reach 0.9.

    python -m tests.soak.overfit --backend tensorflow                       # drawn shapes
    python -m tests.soak.overfit --data_dir COCO --out_dir runs/overfit     # photographs; 7 minutes

With --data_dir the images are the first of a COCO folder's train split that have one to six objects and no crowd. The
evaluation is on the training images: it shows that every part of the model learns, and nothing more. --out_dir keeps
the model, the curve (overfit.png) and the result (overfit.json).
"""

import argparse
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.result import save_result

if TYPE_CHECKING:
    from maskrcnn.config import Config

MAX_OBJECTS = 6
MIN_AP50 = 0.9
SETTINGS = {  # ResNet-18 at half width and a narrow FPN, with trained batch norms
    "image.min_side": 256,
    "image.max_side": 352,
    "norm.train": True,
    "backbone.depth": 18,
    "backbone.width": 32,
    "backbone.freeze_at": 0,
    "fpn.channels": 64,
    "anchors.sizes": (16, 32, 64, 128, 256),
    "rpn.train_candidates": 300,
    "rpn.train_proposals": 200,
    "rpn.test_candidates": 300,
    "rpn.test_proposals": 200,
    "box_head.channels": 256,
    "box_head.samples": 64,
    "box_head.test_candidates": 400,
    "box_head.detections": 50,
    "mask_head.convolutions": 2,
    "mask_head.channels": 64,
    "data.max_instances": 8,
    "data.horizontal_flip": False,
    "train.steps_per_epoch": 25,
    "train.batch_size": 4,
    "train.optimizer": "adam",
    "train.clip_norm": 10.0,
    "train.learning_rate_values": (2e-3, 6e-4, 2e-4),  # for 8 images; half of it for these 4
    "train.seed": 0,
    "train.evaluate_every": 4,
}


def make_config(epochs: int) -> "Config":
    """The recipe, for images of at most 352 px."""
    from maskrcnn.config import Config

    boundaries = (2.0, 0.6 * epochs, 0.85 * epochs)
    return Config().override({**SETTINGS, "train.epochs": epochs, "train.learning_rate_boundaries": boundaries})


def copy_images(data_dir: Path, out_dir: Path, count: int) -> None:
    """Copies suitable images and their annotations to a COCO folder whose two splits are the same."""
    import json

    from maskrcnn.config import DataConfig
    from maskrcnn.data.splits import find_dataset

    raw = find_dataset(data_dir, DataConfig()).sources["train"].read()
    content, image_dir = raw.content, raw.image_dir
    objects: dict[int, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation)
    images = [
        image
        for image in content["images"]
        if 1 <= len(own := objects.get(image["id"], [])) <= MAX_OBJECTS and not any(one["iscrowd"] for one in own)
    ][:count]
    annotations = [annotation for image in images for annotation in objects[image["id"]]]
    used = {annotation["category_id"] for annotation in annotations}
    categories = [category for category in content["categories"] if category["id"] in used]
    (out_dir / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (out_dir / split).mkdir()
        for image in images:
            shutil.copy(image_dir / image["file_name"], out_dir / split)
        (out_dir / "annotations" / f"instances_{split}.json").write_text(
            json.dumps({"images": images, "annotations": annotations, "categories": categories})
        )


def write_curve(history: list[dict[str, float]], path: Path) -> None:
    """Losses and AP over the steps."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    series = (("loss", "class_loss", "box_loss", "mask_loss"), ("bbox_AP50", "segm_AP50", "segm_AP"))
    for own, names in zip(axes, series, strict=True):
        entries = [entry for entry in history if names[0] in entry]
        for name in names:
            own.plot([entry["step"] for entry in entries], [entry[name] for entry in entries], label=name)
        own.grid(alpha=0.3)
        own.legend()
    axes[0].set(xlabel="step", ylabel="loss", yscale="log")
    axes[1].set(xlabel="step", ylabel="AP on the training images", ylim=(0, 1))
    figure.savefig(path, dpi=110)


def measure(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Trains, and returns the metrics."""
    from maskrcnn.data.shapes import write_shapes
    from maskrcnn.logs.history import read_history
    from maskrcnn.training.run import train

    data, config = root / "data", make_config(options.epochs)
    if options.data_dir:
        copy_images(options.data_dir, data, options.images)
    else:
        write_shapes(root / "shapes", train_images=4 * options.images, val_images=1, image_size=256, progress=False)
        copy_images(root / "shapes", data, options.images)
    metrics = train(config, data_dir=data, model_dir=root)
    history = read_history(root / "mrcnn-dlll.json")
    if options.out_dir:
        write_curve(history, root / "overfit.png")
        evaluations = [entry for entry in history if "segm_AP50" in entry]
        rows = [{name: one[name] for name in ("step", "bbox_AP50", "segm_AP50", "segm_AP")} for one in evaluations]
        settings = {"images": options.images, "config": dataclasses.asdict(config)}
        save_result(root / "overfit.json", f"{options.images} images learned from scratch", rows, settings=settings)
    return metrics


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax"))
    parser.add_argument("--data_dir", type=Path, metavar="DIR", help="a COCO folder (default: drawn shapes)")
    parser.add_argument("--out_dir", type=Path, metavar="DIR", help="keeps what the run writes")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=16, metavar="N", help="of 25 steps (default: %(default)s)")
    options = parser.parse_args()
    os.environ["MPLBACKEND"] = "Agg"
    from maskrcnn.runtime.backend import select_backend

    select_backend(options.backend)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        metrics = measure(options, options.out_dir or Path(name))
    ap50, seconds = metrics["segm"]["AP50"], time.perf_counter() - began
    outcome = "learned" if ap50 >= MIN_AP50 else f"NOT LEARNED, below {MIN_AP50}"
    print(f"overfit, {options.backend}: {options.images} images, mask AP50 {ap50:.3f}, {outcome} ({seconds:.0f} s)")
    return int(ap50 < MIN_AP50)


if __name__ == "__main__":
    sys.exit(main())
