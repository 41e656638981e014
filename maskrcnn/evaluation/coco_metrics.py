"""COCO metrics of detections: average precision and recall of boxes and masks."""

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
from tqdm import tqdm

from maskrcnn.config import Config
from maskrcnn.data.coco.ground_truth import load_ground_truth
from maskrcnn.errors import UserError
from maskrcnn.imaging.mask_paste import RLE, coco_mask
from maskrcnn.inference.detections import Detections
from maskrcnn.inference.predictor import Model, predict_batches
from maskrcnn.runtime.distribution import Devices

Metrics = dict[str, Any]

# the order of COCOeval.stats
METRIC_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
KINDS = {"bbox": "box", "segm": "mask"}  # COCO's terms and the papers'


class CocoScorer:
    """Collects detections image by image, as run-length codes, and scores them at the end."""

    def __init__(self, annotation_file: str | Path) -> None:
        """Reads the ground truth.

        Raises:
            UserError: the file is missing or is not COCO JSON.
        """
        self.annotation_file = Path(annotation_file)
        self._ground_truth = load_ground_truth(self.annotation_file)
        self._known_ids = {image["id"] for image in self._ground_truth["images"]}
        self._image_ids: set[int] = set()
        self._rows: list[np.ndarray] = []  # per image [K, 7]: image id, x, y, w, h, score, category id
        self._rles: list[RLE] = []
        self._evaluations: dict[str, Any] = {}

    @property
    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """COCO's three lists; the ids of annotations count from 1."""
        return self._ground_truth

    @property
    def image_ids(self) -> list[int]:
        """The images added, in ascending order."""
        return sorted(self._image_ids)

    @property
    def rows(self) -> np.ndarray:
        """The detections [K, 7]: image id, x, y, width, height, score, category id."""
        return np.concatenate([np.empty((0, 7)), *self._rows])

    @property
    def rles(self) -> list[RLE]:
        """The masks [K] of `rows`."""
        return self._rles

    def add(self, image_id: int, detections: Detections) -> None:
        """Adds the detections of an image, which counts even if there are none.

        Raises:
            UserError: the annotation file does not list the image, or the image was added before.
        """
        if image_id not in self._known_ids:
            raise UserError(
                f"{self.annotation_file}: no image with id {image_id}, which was predicted; "
                "give the annotations of the same images"
            )
        if image_id in self._image_ids:
            raise UserError(f"{self.annotation_file}: two images have id {image_id}; make the ids unique")
        self._image_ids.add(image_id)
        ids = {category.index: category.id for category in detections.categories}
        kept = [i for i, index in enumerate(detections.classes.tolist()) if index in ids]
        rows = np.empty((len(kept), 7))
        rows[:, 0] = image_id
        rows[:, 1:5] = detections.boxes[kept]
        rows[:, 3:5] -= rows[:, 1:3]
        rows[:, 5] = detections.scores[kept]
        rows[:, 6] = [ids[int(detections.classes[i])] for i in kept]
        self._rows.append(rows)
        self._rles += [detections.rles[i] for i in kept]
        self._evaluations.clear()

    def metrics(self) -> Metrics:
        """Returns the metrics of the images added; a value is None where the ground truth has no object to find."""
        values: Metrics = {}
        per_class: dict[str, dict[str, float | None]] = {}
        names = {category["id"]: category["name"] for category in self._ground_truth["categories"]}
        for kind in KINDS:
            evaluation = self.evaluation(kind)
            values[kind] = {name: _known(value) for name, value in zip(METRIC_NAMES, evaluation.stats, strict=True)}
            # [T, R, K] IoU thresholds, recalls, categories; 0: all sizes, -1: up to 100 detections per image
            precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]
            for k, category_id in enumerate(evaluation.params.catIds):
                defined = precision[:, :, k][precision[:, :, k] > -1]
                average = float(defined.mean()) if defined.size else None
                per_class.setdefault(names[category_id], {})[f"{kind}_AP"] = average
        return {**values, "images": len(self._image_ids), "per_class": per_class}

    def evaluation(self, kind: str) -> Any:
        """COCOeval of boxes ("bbox") or masks ("segm"), run once; its ``eval`` and ``stats`` are as in pycocotools."""
        if kind not in self._evaluations:
            self._evaluations[kind] = self._evaluate(kind)
        return self._evaluations[kind]

    def _evaluate(self, kind: str) -> Any:
        truth = hotcoco.COCO(self._ground_truth)
        detections = hotcoco.COCO({**self._ground_truth, "annotations": []})
        if self._rles:
            masks: Any = self._rles if kind == "segm" else None
            detections = truth.load_res(self.rows, segmentation=masks)
        if self._rles and kind == "segm":  # small, medium and large by the area of the mask, not of its box
            areas = np.array([coco_mask.area(rle) for rle in self._rles], np.float64)
            detections.update_anns(ids=np.arange(1, len(areas) + 1), area=areas)
        evaluation: Any = hotcoco.COCOeval(truth, detections, kind)
        evaluation.params.imgIds = sorted(self._image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.summarize()
        return evaluation


def evaluate(
    model: Model,
    dataset: Iterable[dict[str, Any]],
    annotation_file: str | Path | CocoScorer,
    config: Config,
    *,
    num_images: int | None = None,
    devices: Devices | None = None,
) -> Metrics:
    """Predicts evaluation batches and returns their COCO metrics, with each image counted once.

    Args:
        model: returns detections, see MaskRCNN.
        dataset: evaluation batches; those of this process where several share the images.
        annotation_file: the ground truth of these images, of which others do not count; or a scorer that has read it,
            and has the detections afterwards.
        config: the model's config, which names the categories.
        num_images: number of images in ``dataset``, for the progress bar.
        devices: the processes that share the images; each of them returns the metrics of all.

    Returns:
        {"bbox": {"AP": ..}, "segm": {..}, "images": N, "per_class": {name: {"bbox_AP": .., "segm_AP": ..}}}

    Raises:
        UserError: no image, or images that the annotation file does not list.
    """
    scorer = annotation_file if isinstance(annotation_file, CocoScorer) else CocoScorer(annotation_file)
    devices = devices or Devices()
    predictions = predict_batches(model, dataset, config.categories)
    with_bar = tqdm(predictions, "evaluating", num_images, unit="image", disable=not devices.is_chief)
    images = 0
    local = ((prediction.image_id, prediction.detections) for prediction in with_bar)
    for image_id, detections in devices.all_gather_items(local):
        scorer.add(image_id, detections)
        images += 1
    if not images:
        raise UserError(f"{scorer.annotation_file}: no image was predicted; check --data_dir and --eval_samples")
    return scorer.metrics()


def format_metrics(metrics: Metrics, *, max_classes: int = 20) -> str:
    """Formats the metrics as a table, with the classes unless there are more than ``max_classes``."""
    lines = ["      " + "".join(f"{name:>7}" for name in METRIC_NAMES)]
    for kind, title in KINDS.items():
        lines.append(f"{title:<6}" + "".join(f"{_format(metrics[kind][name]):>7}" for name in METRIC_NAMES))
    per_class = metrics["per_class"]
    if per_class and len(per_class) <= max_classes:
        width = max(len(name) for name in [*per_class, "class"])
        lines += ["", f"{'class':<{width}}  box AP  mask AP"]
        for name, values in per_class.items():
            lines.append(f"{name:<{width}}  {_format(values['bbox_AP']):>6}  {_format(values['segm_AP']):>7}")
    lines.append(f"\n{metrics['images']} image{'' if metrics['images'] == 1 else 's'}")
    return "\n".join(lines)


def _known(value: float) -> float | None:
    return None if value < 0 else float(value)  # COCOeval's -1 means undefined


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
