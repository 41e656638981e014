"""Can the model learn photographs? Trains a small Mask R-CNN from scratch on a few images until it knows them.

    python benchmarks/overfit_photographs.py --data_dir COCO --out_dir runs/overfit

takes the first ``--images`` images of a COCO folder's train split that have one to six objects and no crowd, trains on
them, evaluates on the same images, and writes ``overfit.json`` (every evaluation) and ``overfit.png`` (the curve; no
picture of the data). AP here says that every part learns, nothing more: the images are those of the training.
"""

import argparse
import dataclasses
import json
import logging
import platform
import shutil
from datetime import date
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from maskrcnn.config import (
    AnchorConfig,
    BackboneConfig,
    BoxHeadConfig,
    Config,
    DataConfig,
    FPNConfig,
    ImageConfig,
    MaskHeadConfig,
    ModelConfig,
    NormConfig,
    RPNConfig,
    TrainConfig,
)
from maskrcnn.data.coco.annotations import read_coco_json
from maskrcnn.data.splits import find_coco
from maskrcnn.evaluation.run import LOG_FILE
from maskrcnn.logs.history import read_history
from maskrcnn.training.run import train

MAX_OBJECTS = 6


def small_config(epochs: int) -> Config:
    """ResNet-18 at half width and a narrow FPN, with trained batch norms, for images of at most 352 px."""
    return Config(
        model=ModelConfig(
            image=ImageConfig(min_side=256, max_side=352),
            norm=NormConfig(train=True),
            backbone=BackboneConfig(depth=18, width=32, freeze_at=0),
            fpn=FPNConfig(channels=64),
            anchors=AnchorConfig(sizes=(16, 32, 64, 128, 256)),
            rpn=RPNConfig(train_candidates=300, train_proposals=200, test_candidates=300, test_proposals=200),
            box_head=BoxHeadConfig(channels=256, samples=64, test_candidates=400, detections=50),
            mask_head=MaskHeadConfig(convolutions=2, channels=64),
        ),
        data=DataConfig(max_instances=8, horizontal_flip=False),
        train=TrainConfig(
            epochs=epochs,
            steps_per_epoch=25,
            batch_size=4,
            optimizer="adam",
            clip_norm=10.0,
            learning_rate_values=(2e-3, 6e-4, 2e-4),  # for 8 images; half of it for these 4
            learning_rate_boundaries=(2.0, 0.6 * epochs, 0.85 * epochs),
            seed=0,
            evaluate_every=4,
        ),
    )


def select_images(data_dir: Path, out_dir: Path, count: int) -> None:
    """Copies images and their annotations to a COCO folder whose two splits are the same."""
    annotation_file, image_dir = find_coco(data_dir, "train")
    content = read_coco_json(annotation_file)
    objects: dict[int, list[dict]] = {}
    for annotation in content["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation)
    suitable = [
        image
        for image in content["images"]
        if 1 <= len(found := objects.get(image["id"], [])) <= MAX_OBJECTS and not any(o["iscrowd"] for o in found)
    ][:count]
    annotations = [annotation for image in suitable for annotation in objects[image["id"]]]
    used = {annotation["category_id"] for annotation in annotations}
    categories = [category for category in content["categories"] if category["id"] in used]
    (out_dir / "annotations").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        (out_dir / split).mkdir(exist_ok=True)
        for image in suitable:
            shutil.copy(image_dir / image["file_name"], out_dir / split)
        (out_dir / "annotations" / f"instances_{split}.json").write_text(
            json.dumps({"images": suitable, "annotations": annotations, "categories": categories})
        )


def write_curve(history: list[dict[str, float]], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    reports = [entry for entry in history if "loss" in entry]
    evaluations = [entry for entry in history if "segm_AP50" in entry]
    for name in ("loss", "class_loss", "box_loss", "mask_loss"):
        left.plot([entry["step"] for entry in reports], [entry[name] for entry in reports], label=name)
    left.set(xlabel="step", ylabel="loss", yscale="log")
    for name, label in (("bbox_AP50", "box AP50"), ("segm_AP50", "mask AP50"), ("segm_AP", "mask AP")):
        right.plot([entry["step"] for entry in evaluations], [entry[name] for entry in evaluations], label=label)
    right.set(xlabel="step", ylabel="AP on the training images", ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="a COCO folder")
    parser.add_argument("--out_dir", type=Path, required=True, help="gets the model, overfit.json and overfit.png")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=16, help="of 25 steps of 4 images")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    select_images(options.data_dir, options.out_dir / "data", options.images)
    config = small_config(options.epochs)
    metrics = train(config, data_dir=options.out_dir / "data", model_dir=options.out_dir)
    history = read_history(options.out_dir / LOG_FILE)
    write_curve(history, options.out_dir / "overfit.png")
    result = {
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "images": options.images,
        "config": dataclasses.asdict(config),
        "evaluations": [entry for entry in history if "segm_AP50" in entry],
        "metrics": metrics,
    }
    (options.out_dir / "overfit.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"mask AP50 {metrics['segm']['AP50']:.3f}, box AP50 {metrics['bbox']['AP50']:.3f}")


if __name__ == "__main__":
    main()
