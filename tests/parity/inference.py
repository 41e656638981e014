"""Compares inference, stage by stage, with torchvision's recorded numbers."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from maskrcnn.imaging.mask_paste import THRESHOLD, paste_probabilities
from maskrcnn.model import MaskRCNN
from maskrcnn.model.layers import pool
from maskrcnn.model.mask_rcnn import normalize
from tests.parity.goldens import LEVELS, Array, Batch, Row

SAMPLED_ROIS, SAMPLED_MASKS = 8, 2  # of which the pooled features are recorded


class Stages(keras.Model):
    """The model's stages as a model of its own that returns the result of each; so they can be compiled as one."""

    def __init__(self, model: MaskRCNN):
        super().__init__(autocast=False)
        self.model = model
        self.built = True

    def call(self, inputs, training=False) -> dict[str, Any]:
        model, settings = self.model, self.model.config.model
        sizes = ops.cast(inputs["image_sizes"], "float32")
        results: dict[str, Any] = {"image.normalized": normalize(inputs["images"], sizes, settings.image)}
        body = model.resnet(results["image.normalized"], training=False)
        pyramid = model.fpn(body)
        results |= {f"body.C{level}": feature for level, feature in enumerate(body, start=2)}
        results |= {f"fpn.{level}": feature for level, feature in zip(LEVELS, pyramid, strict=True)}

        outputs = model.rpn(pyramid)
        results |= {f"rpn.objectness.{level}": value for level, value in zip(LEVELS, outputs.objectness, strict=True)}
        results |= {f"rpn.deltas.{level}": value for level, value in zip(LEVELS, outputs.deltas, strict=True)}
        proposals = model.rpn.propose(outputs, sizes, training=False)
        results |= {"anchors": ops.concatenate(outputs.anchors), "proposals.boxes": proposals.boxes}
        results |= {"proposals.scores": proposals.scores, "proposals.valid": proposals.valid}

        roi_features = pool(pyramid, proposals.boxes, settings.box_head.pool_size, settings.roi_align)
        logits, box_deltas = model.box_head(pyramid, proposals.boxes)
        detections = model.box_head.detect(logits, box_deltas, proposals, sizes)
        results |= {"box.roi_features": roi_features, "box.class_logits": logits, "box.box_regression": box_deltas}
        results |= {f"det.{name}": value for name, value in detections._asdict().items()}

        roi_features = pool(pyramid, detections.boxes, settings.mask_head.pool_size, settings.roi_align)
        results["mask.roi_features"] = roi_features[:, :SAMPLED_MASKS]
        results["det.mask_prob"] = ops.sigmoid(model.mask_head(pyramid, detections.boxes, detections.classes))
        return results


def run_stages(model: MaskRCNN, batch: Batch, *, jit: bool) -> dict[str, Array]:
    """The result of each stage for a batch, compiled as one program or stage by stage."""
    stages = Stages(model)
    if jit:
        stages.compile(jit_compile=True)
        outputs = stages.predict_on_batch(batch)
    else:
        outputs = stages({name: ops.convert_to_tensor(value) for name, value in batch.items()})
    return {name: np.asarray(ops.convert_to_numpy(value)) for name, value in outputs.items()}


def compare(results: dict[str, Array], golden: dict[str, Array], *, image: int = 0) -> list[Row]:
    """A row for each recorded stage of one image of the batch, in the model's order."""
    one = {name: value if name == "anchors" else value[image] for name, value in results.items()}
    rows = [*_features(one, golden), *_rpn(one, golden)]
    if "anchors" in golden:
        rows.append(Row("anchors", _largest(one["anchors"], golden["anchors"]), 0.0))
    order = match_rows(one["proposals.boxes"], golden["proposals.boxes"])
    rows += [
        Row("proposals: boxes, px", _largest(one["proposals.boxes"][order], golden["proposals.boxes"]), 1e-2),
        Row("proposals: scores", _largest(one["proposals.scores"][order], golden["proposals.scores"]), 5e-5),
        Row("proposals: matched twice", len(order) - len(set(order.tolist())), 0),
    ]
    return [*rows, *_box_head(one, golden, order), *_detections(one, golden), *_masks(one, golden)]


def match_rows(boxes: Array, expected: Array) -> Array:
    """The index of the nearest box for each expected one: rounding changes the order of proposals."""
    distance = np.abs(boxes[None] - expected[:, None]).max(axis=2)  # [N, N]
    return distance.argmin(axis=1)


def _largest(value: Array, expected: Array) -> float:
    assert value.shape == expected.shape, f"{value.shape} instead of {expected.shape}"
    return float(np.abs(value.astype(np.float64) - expected).max()) if value.size else 0.0


def _summary_error(value: Array, golden: dict[str, Array], name: str) -> float:
    """Largest difference of samples and channel means; value is [H, W, C]."""
    channels, _, _, *step = golden[f"{name}.shape_step"].tolist()
    assert value.shape[-1] == channels
    sample = np.moveaxis(value, -1, 0)[:: step[0], :: step[1], :: step[2]]
    mean = value.astype(np.float64).mean((0, 1))
    return max(_largest(sample, golden[f"{name}.sample"]), _largest(mean, golden[f"{name}.channel_mean"]))


def _features(one: dict[str, Array], golden: dict[str, Array]) -> Iterator[Row]:
    if "image.normalized.sample" in golden:
        yield Row("normalized image", _summary_error(one["image.normalized"], golden, "image.normalized"), 1e-5)
    else:
        padded = np.moveaxis(one["image.normalized"], -1, 0)[:, ::4, ::4]
        yield Row("normalized image, resized and padded", _largest(padded, golden["batch.image1"]), 1e-4)
    for name in ["body.C2", "body.C3", "body.C4", "body.C5", *(f"fpn.{level}" for level in LEVELS)]:
        if f"{name}.sample" in golden:
            error = _summary_error(one[name], golden, name) / float(golden[f"{name}.mean_std"][1])
            yield Row(f"{name.partition('.')[2]}, relative", error, 5e-4)


def _rpn(one: dict[str, Array], golden: dict[str, Array]) -> Iterator[Row]:
    for name, title, per_anchor, tolerance in (
        ("rpn.objectness", "RPN objectness", 1, 5e-4),
        ("rpn.deltas", "RPN deltas", 4, 5e-5),
    ):
        errors = []
        for level in LEVELS:
            key = f"{name}.{level}"
            if key in golden:
                channels, height, width = golden[key].shape
            elif f"{key}.shape_step" in golden:
                channels, height, width = golden[f"{key}.shape_step"][:3].tolist()
            else:
                continue
            value = one[key].reshape(height, width, channels)
            assert channels == 3 * per_anchor
            if key in golden:
                errors.append(_largest(np.moveaxis(value, -1, 0), golden[key]))
            else:
                errors.append(_summary_error(value, golden, key))
        if errors:
            yield Row(title, max(errors), tolerance)


def _box_head(one: dict[str, Array], golden: dict[str, Array], order: Array) -> Iterator[Row]:
    if "box.roi_features" in golden:
        expected = np.moveaxis(golden["box.roi_features"], 1, -1)
        yield Row("RoIAlign 7 x 7", _largest(one["box.roi_features"][order[:SAMPLED_ROIS]], expected), 2e-3)
    if "box.class_logits" in golden:
        first = order[: len(golden["box.class_logits"])]
        yield Row("class logits", _largest(one["box.class_logits"][first], golden["box.class_logits"]), 3e-3)
        deltas = one["box.box_regression"][first].reshape(len(first), -1)
        yield Row("box deltas", _largest(deltas, golden["box.box_regression"]), 1e-3)


def _detections(one: dict[str, Array], golden: dict[str, Array]) -> Iterator[Row]:
    expected = golden.get("det.boxes_resized", golden["det.boxes"])
    count = int(one["det.valid"].sum())
    yield Row("detections: count", abs(count - len(expected)), 0)
    count = min(count, len(expected))
    different = np.count_nonzero(one["det.classes"][:count] != golden["det.labels"][:count])
    yield Row("detections: other classes", different, 0)
    yield Row("detections: boxes, px", _largest(one["det.boxes"][:count], expected[:count]), 1e-2)
    yield Row("detections: scores", _largest(one["det.scores"][:count], golden["det.scores"][:count]), 1e-4)


def _masks(one: dict[str, Array], golden: dict[str, Array]) -> Iterator[Row]:
    if "mask.roi_features" in golden:
        expected = np.moveaxis(golden["mask.roi_features"], 1, -1)
        yield Row("RoIAlign 14 x 14", _largest(one["mask.roi_features"][..., ::4], expected), 2e-3)
    count = len(golden["det.boxes"])
    masks = one["det.mask_prob"][:count]
    yield Row("mask probabilities", _largest(masks, golden["det.mask_prob"]), 5e-4)
    if "det.boxes_resized" not in golden:
        height, width = 256, 320
        boxes = one["det.boxes"]
    else:
        height, width = 200, 310
        boxes = one["det.boxes"] * np.array([310 / 320, 200 / 206] * 2, np.float32)
    if "det.pasted_soft" in golden:
        pasted = np.zeros_like(golden["det.pasted_soft"])
        for image, mask, box in zip(pasted, masks, boxes, strict=False):
            crop, (x1, y1, x2, y2) = paste_probabilities(mask, box, height, width)
            image[y1:y2, x1:x2] = crop
        yield Row("pasted masks, soft", _largest(pasted, golden["det.pasted_soft"]), 1e-3)
    pasted = np.zeros((count, height, width), bool)
    for image, mask, box in zip(pasted, masks, boxes, strict=False):
        crop, (x1, y1, x2, y2) = paste_probabilities(mask, box, height, width)
        image[y1:y2, x1:x2] = crop >= THRESHOLD
    expected = np.unpackbits(golden["det.pasted_binary"], axis=2, count=width).astype(bool)
    yield Row("pasted masks: fraction of pixels", float((pasted != expected).mean()), 1e-4)
