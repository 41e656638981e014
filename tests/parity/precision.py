"""Compares the detections of compiled inference in half precision with those in float32."""

from typing import NamedTuple

import keras
import numpy as np

from maskrcnn.config import BackboneConfig
from maskrcnn.runtime.backend import POLICIES
from tests.parity.goldens import Array, Batch, build_model, golden_config

MATCH_IOU = 0.9


class Mode(NamedTuple):
    """A precision of the model, and of its backbone."""

    title: str
    precision: str
    float32_backbone: bool = False


FLOAT32 = Mode("float32", "float32")
FLOAT16 = Mode("float16", "float16")
BFLOAT16 = Mode("bfloat16", "bfloat16")
BFLOAT16_MIXED = Mode("bfloat16, backbone in float32", "bfloat16", float32_backbone=True)


class Agreement(NamedTuple):
    """Detections of one image in half precision, matched with those in float32."""

    matched: int  # detections in float32 that have one of the same class at IoU >= 0.9
    total: int
    largest_score_difference: float  # among the matched

    @property
    def fraction(self) -> float:
        return self.matched / max(self.total, 1)


def compare_precisions(state: dict[str, Array], batch: Batch, modes: tuple[Mode, ...]) -> dict[Mode, Agreement]:
    """The detections of each mode in the first image, matched with those in float32."""
    expected = _detect(FLOAT32, state, batch)
    return {mode: _agreement(expected, _detect(mode, state, batch)) for mode in modes}


def _detect(mode: Mode, state: dict[str, Array], batch: Batch) -> dict[str, Array]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[mode.precision])
    try:
        backbone = BackboneConfig(freeze_at=0, float32=mode.float32_backbone)
        model = build_model(golden_config("v1", backbone=backbone), state)
        model.compile(jit_compile=True)
        outputs = model.predict_on_batch(batch)
    finally:
        keras.config.set_dtype_policy(before)
    valid = outputs["valid"][0]
    return {name: np.asarray(outputs[name][0][valid]) for name in ("boxes", "classes", "scores")}


def _agreement(expected: dict[str, Array], actual: dict[str, Array]) -> Agreement:
    free = np.ones(len(actual["boxes"]), bool)
    differences = []
    for box, class_, score in zip(expected["boxes"], expected["classes"], expected["scores"], strict=True):
        iou = np.where(free & (actual["classes"] == class_), _iou(box, actual["boxes"]), 0.0)
        best = int(iou.argmax()) if len(iou) else 0
        if len(iou) and iou[best] >= MATCH_IOU:
            free[best] = False
            differences.append(abs(float(actual["scores"][best] - score)))
    return Agreement(len(differences), len(expected["boxes"]), max(differences, default=0.0))


def _iou(box: Array, boxes: Array) -> Array:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    intersection = np.prod(np.maximum(sides, 0), axis=1)
    return intersection / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - intersection)
