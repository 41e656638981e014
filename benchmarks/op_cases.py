"""The operations that `benchmarks.ops` times, with arguments of the 832x1344 model's sizes.

B images, N boxes, A anchors, G ground-truth entries, C channels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from maskrcnn.ops.boxes import pairwise_iou
from maskrcnn.ops.fast.winograd import convolve3x3
from maskrcnn.ops.masks import crop_masks
from maskrcnn.ops.matching import match
from maskrcnn.ops.nms import nms, suppress
from maskrcnn.ops.roi_align import multilevel_roi_align
from maskrcnn.ops.sampling import sample_labels

Case = tuple[Callable[..., Any], tuple[Any, ...]]  # a function and its arguments, on the device
CLASSES = 91


class Sizes(NamedTuple):
    """Sizes of the arguments."""

    batch: int
    precision: str = "float32"  # of features
    height: int = 832
    width: int = 1344
    channels: int = 256
    divisor: int = 1  # of the numbers of boxes

    def boxes(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """[B, count, 4]: sides log-uniform from 16 px to the image's, in overlapping clusters, as proposals are."""
        objects = 40
        sides = np.exp(rng.uniform(np.log(16), np.log([self.width, self.height]), (self.batch, objects, 2)))
        centers = rng.uniform(0, [self.width, self.height], (self.batch, objects, 2))
        chosen = rng.integers(0, objects, (self.batch, count, 1))
        sides = np.take_along_axis(sides, chosen, 1) * np.exp(rng.normal(0, 0.3, (self.batch, count, 2)))
        centers = np.take_along_axis(centers, chosen, 1) + sides * rng.normal(0, 0.2, (self.batch, count, 2))
        corners = np.concatenate([centers - sides / 2, centers + sides / 2], -1)
        return corners.clip(0, [self.width, self.height] * 2).astype(np.float32)

    def pyramid(self, rng: np.random.Generator) -> list[np.ndarray]:
        """P2..P5 of [B, H / 2^l, W / 2^l, C]."""
        shapes = [(-(-self.height // 2**level), -(-self.width // 2**level)) for level in range(2, 6)]
        return [rng.normal(size=(self.batch, *shape, self.channels)).astype(np.float32) for shape in shapes]

    def count(self, number: int) -> int:
        return max(1, number // self.divisor)


def _on_device(*arrays: Any) -> tuple[Any, ...]:
    return tuple(ops.convert_to_tensor(array) for array in arrays)


def _backward(case: Callable[[Sizes], Case]) -> Callable[[Sizes], Case]:
    """The gradient by the first argument; it does not need the results of the forward pass, which is dropped."""

    def backward(sizes: Sizes) -> Case:
        forward, arguments = case(sizes)
        output = forward(*arguments)
        noise = np.random.default_rng(1).normal(size=tuple(output.shape)).astype(np.float32)
        upstream = ops.cast(noise, output.dtype)
        return _gradient(lambda *arguments: ops.sum(ops.cast(forward(*arguments) * upstream, "float32"))), arguments

    return backward


def _gradient(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The derivative of a scalar function by its first argument."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(loss)
    import tensorflow as tf

    def function(first: Any, *others: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(first)
            value = loss(first, *others)
        return [tf.convert_to_tensor(gradient) for gradient in tape.gradient(value, first)]

    return function


def _convolution(function: Callable[..., Any]) -> Callable[[Sizes], Case]:
    """A 3x3 convolution of all channels on P2; its gradients are those of the map and of the kernel."""

    def case(sizes: Sizes) -> Case:
        rng = np.random.default_rng(0)
        kernel = (rng.normal(size=(3, 3, sizes.channels, sizes.channels)) / 50).astype(np.float32)
        return lambda both: function(*both), (_on_device(sizes.pyramid(rng)[0], kernel),)

    return case


def _direct(maps: Any, kernel: Any) -> Any:
    return ops.conv(maps, kernel, 1, "same", data_format="channels_last")


def _suppress(candidates: int) -> Callable[[Sizes], Case]:
    def case(sizes: Sizes) -> Case:
        rng, count = np.random.default_rng(0), sizes.count(candidates)
        boxes = np.stack([sizes.boxes(count, rng) for _ in range(5)], 1)  # [B, 5, N, 4], one group a level
        valid = np.ones(boxes.shape[:-1], bool)
        return lambda boxes, valid: suppress(boxes, valid, iou_threshold=0.7), _on_device(boxes, valid)

    return case


def _class_nms(sizes: Sizes) -> Case:
    rng, count = np.random.default_rng(0), sizes.count(2000)
    boxes, scores = sizes.boxes(count, rng), rng.uniform(size=(sizes.batch, count)).astype(np.float32)
    classes = rng.integers(1, CLASSES, scores.shape).astype(np.int32)

    def function(boxes: Any, scores: Any, classes: Any) -> Any:
        return nms(boxes, scores, scores > 0.05, iou_threshold=0.5, max_outputs=min(100, count), groups=classes)

    return function, _on_device(boxes, scores, classes)


def _roi_align(number: int, size: int) -> Callable[[Sizes], Case]:
    def case(sizes: Sizes) -> Case:
        rng = np.random.default_rng(0)
        boxes = ops.convert_to_tensor(sizes.boxes(sizes.count(number), rng))
        features = [ops.cast(feature, sizes.precision) for feature in sizes.pyramid(rng)]
        return lambda features, boxes: multilevel_roi_align(features, boxes, output_size=size), (features, boxes)

    return case


def _top_k(sizes: Sizes) -> Case:
    """One top-k over all anchors; the model takes one for each level."""
    rng, count = np.random.default_rng(0), sizes.height * sizes.width // 4
    keys = ops.convert_to_tensor(rng.normal(size=(sizes.batch, count)).astype(np.float32))
    return lambda keys: ops.top_k(keys, sizes.count(2000)), (keys,)


def _match(sizes: Sizes) -> Case:
    """Overlaps, matching and sampling of the RPN: 279,552 anchors with 20 objects."""
    rng, count = np.random.default_rng(0), sizes.height * sizes.width // 4
    anchors, boxes = sizes.boxes(count, rng), sizes.boxes(20, rng)

    def function(anchors: Any, boxes: Any) -> Any:
        valid = ops.ones(ops.shape(boxes)[:2], "bool")
        iou = pairwise_iou(anchors, boxes)
        matched, labels = match(iou, valid, positive_iou=0.7, negative_iou=0.3, allow_low_quality=True)
        return matched, sample_labels(labels, num_samples=256, positive_fraction=0.5, seed=0)

    return function, _on_device(anchors, boxes)


def _crop_masks(sizes: Sizes) -> Case:
    rng, count = np.random.default_rng(0), sizes.count(128)
    regions = sizes.boxes(count, rng)
    boxes = regions + rng.normal(0, 4, regions.shape).astype(np.float32)
    masks = rng.integers(0, 2, (sizes.batch, count, 112, 112)).astype(np.uint8)

    def function(masks: Any, regions: Any, boxes: Any) -> Any:
        return crop_masks(masks, regions, boxes, output_size=28, max_samples=8)

    return function, _on_device(masks, regions, boxes)


CASES: dict[str, Callable[[Sizes], Case]] = {
    "convolution 3x3, P2, direct": _convolution(_direct),
    "convolution 3x3, P2, Winograd": _convolution(convolve3x3),
    "convolution 3x3, P2, direct, backward": _backward(_convolution(_direct)),
    "convolution 3x3, P2, Winograd, backward": _backward(_convolution(convolve3x3)),
    "suppress 5 x 2000 boxes (RPN, training)": _suppress(2000),
    "suppress 5 x 1000 boxes (RPN, inference)": _suppress(1000),
    "nms 2000 boxes by class (detections)": _class_nms,
    "roi_align 512 x 7x7": _roi_align(512, 7),
    "roi_align 512 x 7x7 backward": _backward(_roi_align(512, 7)),
    "roi_align 128 x 14x14": _roi_align(128, 14),
    "roi_align 128 x 14x14 backward": _backward(_roi_align(128, 14)),
    "roi_align 1000 x 7x7": _roi_align(1000, 7),
    "roi_align 100 x 14x14": _roi_align(100, 14),
    "top_k 2000 of 279,552": _top_k,
    "match 279,552 anchors, sample 256": _match,
    "crop_masks 128 x 112x112 -> 28x28": _crop_masks,
}
